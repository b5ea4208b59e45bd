"""Every storm is survived: `watch` knows what holds at every moment, `storm` what must come in the end."""

from tests.simulation.storm import run_storm


def test_no_storm_breaks_a_law(seeds: range) -> None:
    for seed in seeds:
        run_storm(seed)
