import pytest

from prefork.config.reference import FILES, updated
from tests.docs.pages import ROOT


@pytest.mark.parametrize("name", FILES)
def test_the_table_of_options_is_current(name: str) -> None:
    text = (ROOT / name).read_text()

    assert updated(text) == text, "run: python -m prefork.config.reference --write"
