import pytest

STORMS = 1000
CHUNK = 50


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--storms", type=int, default=STORMS, help=f"how many storms to simulate (default {STORMS})")
    parser.addoption("--storm-seed", type=int, default=None, help="replay this one storm only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" not in metafunc.fixturenames:
        return
    seed, storms = metafunc.config.getoption("--storm-seed"), metafunc.config.getoption("--storms")
    chunks = [range(start, min(start + CHUNK, storms)) for start in range(0, storms, CHUNK)]
    if seed is not None:
        chunks = [range(seed, seed + 1)]
    metafunc.parametrize("seeds", chunks, ids=[f"{chunk.start}-{chunk.stop - 1}" for chunk in chunks])
