"""Loading: which source wins, what follows from what, and that every problem is reported at once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from prefork.address import BindAddress
from prefork.config.load import Loaded, load_settings
from prefork.config.settings import Settings
from prefork.errors import ConfigurationError, UsageError


class Place:
    """A directory to start in, with or without a prefork.toml."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, text: str, name: str = "prefork.toml") -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def load(
        self,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        target: str | None = "app:Handler",
    ) -> Loaded:
        return load_settings(target, flags or {}, environ or {}, self.directory)

    def problems(
        self,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        target: str | None = "app:Handler",
    ) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(flags, environ, target)
        return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_without_anything_the_defaults_apply(place: Place) -> None:
    loaded = place.load()

    assert loaded.settings == Settings(target="app:Handler", name="app", chdir=str(place.directory))
    assert loaded.origins["workers"] == "default"
    assert loaded.origins["target"] == "TARGET"
    assert list(loaded.warnings) == []


@pytest.mark.parametrize(
    ("flags", "workers"),
    [({"min_workers": "900"}, 900), ({"max_workers": "1"}, 1), ({"min_workers": "900", "max_workers": "1000"}, 900)],
)
def test_a_number_of_workers_that_nobody_gave_keeps_to_the_bounds(
    place: Place, flags: dict[str, str], workers: int
) -> None:
    assert place.load(flags).settings.workers == workers


def test_a_number_of_workers_outside_the_bounds_is_an_error(place: Place) -> None:
    assert place.problems({"workers": "9", "min_workers": "2", "max_workers": "4"}) == [
        "--workers: must be from 2 to 4 (min_workers to max_workers), not 9"
    ]


def test_a_flag_wins_over_the_environment_and_that_over_the_file(place: Place) -> None:
    place.write("workers = 1\nthreads = 1\nsurge = 1\n")
    loaded = place.load({"workers": "3"}, {"PREFORK_WORKERS": "2", "PREFORK_THREADS": "2"})

    assert (loaded.settings.workers, loaded.settings.threads, loaded.settings.surge) == (3, 2, 1)
    assert loaded.origins["workers"] == "--workers"
    assert loaded.origins["threads"] == "PREFORK_THREADS"
    assert loaded.origins["surge"] == "prefork.toml:3"


@pytest.mark.fault("configuration")
def test_all_problems_are_reported_together_with_their_origins(place: Place) -> None:
    place.write('wrokers = 3\nthreads = 0\nbind = ["nowhere", "unix:s?mdoe=1"]\nchdir = "missing"\n')

    assert place.problems({"surge": "none"}, {"PREFORK_PRELOAD": "maybe"}, "app") == [
        "prefork.toml:1: unknown key 'wrokers'; did you mean workers?",
        "TARGET: must be MODULE:NAME, not 'app'; write for example app:Handler",
        "prefork.toml:3: bind: 'nowhere' has no port; write tcp://nowhere:PORT",
        "prefork.toml:3: bind: unknown option 'mdoe' of unix:s; did you mean mode?",
        "prefork.toml:2: threads must be at least 1, not 0",
        "PREFORK_PRELOAD: must be auto, always or never, not 'maybe'",
        "--surge: must be a whole number, not 'none'",
        f"prefork.toml:4: chdir: {place.directory}/missing is not a directory; create it, or name another",
    ]


def test_a_target_may_stand_in_the_file(place: Place) -> None:
    place.write('target = "pkg.echo:Handler"\n')
    loaded = place.load(target=None)

    assert (loaded.settings.target, loaded.settings.name) == ("pkg.echo:Handler", "echo")


def test_a_missing_target_is_a_problem_with_a_way_out(place: Place) -> None:
    assert place.problems(target=None) == [
        'TARGET: is missing; write for example `prefork run app:Handler`, or target = "app:Handler" in prefork.toml'
    ]


def test_a_broken_file_hides_neither_wrong_flags_nor_invents_a_missing_target(place: Place) -> None:
    place.write("target = \n")

    assert place.problems({"workers": "0"}, target=None) == [
        "prefork.toml:1:10: invalid value",
        "--workers: must be at least 1, not 0",
    ]


def test_the_same_place_twice_is_a_problem(place: Place) -> None:
    assert place.problems({"bind": [":1", "*:1?backlog=3", "udp://:1"]}) == [
        "--bind: tcp://0.0.0.0:1 is given 2 times; keep one"
    ]


def test_an_empty_list_of_addresses_is_a_problem(place: Place) -> None:
    place.write("bind = []\n")

    assert place.problems() == ["prefork.toml:1: bind must name at least one address"]


def test_attributes_add_up_and_the_nearer_source_wins(place: Place) -> None:
    place.write('[server]\na = 1\nmotd = "hi"\n')
    loaded = place.load({"server": ["a=2", "b=3"]})

    assert loaded.settings.server == {"a": "2", "b": "3", "motd": "'hi'"}
    assert loaded.origins["server"] == "--set, prefork.toml:1"


def test_variables_for_the_workers_add_up_by_name(place: Place) -> None:
    place.write('env = ["A=1", "B=1"]\n')
    loaded = place.load({"env": ["C=3"]}, {"PREFORK_ENV": "B=2"})

    assert loaded.settings.env == ("A=1", "B=2", "C=3")


def test_addresses_of_a_nearer_source_replace_all_others(place: Place) -> None:
    place.write('bind = [":1", ":2"]\n')

    assert place.load({"bind": [":3"]}).settings.bind == (BindAddress("tcp", host="0.0.0.0", port=3),)


def test_paths_start_in_chdir(place: Place) -> None:
    (place.directory / "srv").mkdir()
    flags = {"chdir": "srv", "pythonpath": ["lib", "/opt"], "log_file": "log", "control": "ctl", "bind": ["unix:s"]}
    settings = place.load(flags).settings

    srv = f"{place.directory}/srv"
    assert settings.chdir == srv
    assert settings.pythonpath == (f"{srv}/lib", "/opt")
    assert (settings.log_file, settings.control) == (f"{srv}/log", f"{srv}/ctl")
    assert settings.bind == (BindAddress("unix", path=f"{srv}/s"),)


def test_abstract_names_are_no_paths(place: Place) -> None:
    assert place.load({"bind": ["unix:@app"]}).settings.bind == (BindAddress("unix", path="@app"),)


def test_a_path_that_becomes_too_long_for_a_socket_is_a_problem(place: Place) -> None:
    name = "s" * 107

    assert place.problems({"bind": [f"unix:{name}"]}) == [
        f"--bind: {place.directory}/{name} is longer than the 107 bytes of a socket; shorten it"
    ]


def test_the_file_is_looked_for_in_chdir(place: Place) -> None:
    place.write("workers = 7\n", "srv/prefork.toml")
    loaded = place.load({"chdir": "srv"})

    assert loaded.settings.workers == 7
    assert loaded.settings.config == f"{place.directory}/srv/prefork.toml"


def test_chdir_in_a_file_starts_where_the_file_is(place: Place) -> None:
    place.write('chdir = "."\n', "srv/special.toml")
    loaded = place.load({"config": "srv/special.toml"})

    assert loaded.settings.chdir == f"{place.directory}/srv"
    assert loaded.origins["chdir"] == "srv/special.toml:1"


def test_a_named_file_must_exist(place: Place) -> None:
    assert place.problems({"config": "x.toml"}) == ["x.toml: cannot be read: no such file or directory"]


def test_a_directory_to_import_from_that_does_not_exist_is_worth_a_warning(place: Place) -> None:
    assert list(place.load({"pythonpath": ["/nowhere"]}).warnings) == [
        "pythonpath: /nowhere does not exist; nothing will be imported from there"
    ]


def test_reload_reads_the_file_again_and_keeps_the_flags(place: Place) -> None:
    place.write("workers = 1\nthreads = 1\n")
    loaded = place.load({"threads": "5"})
    place.write("workers = 2\nthreads = 2\n")
    again = loaded.reload()

    assert (again.settings.workers, again.settings.threads) == (2, 5)
    assert again.reload().settings == again.settings


def test_reload_reports_what_is_wrong_now(place: Place) -> None:
    loaded = place.load()
    place.write("workers = 0\n")

    with pytest.raises(ConfigurationError, match=r"prefork\.toml:1: workers must be at least 1, not 0"):
        loaded.reload()


def test_a_directory_that_is_gone_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()

    with pytest.raises(UsageError, match="the current directory is gone"):
        load_settings("app:Handler", {}, {})


def test_settings_can_be_looked_at_without_a_target(place: Place) -> None:
    assert load_settings(None, {}, {}, place.directory, target_needed=False).settings.target == ""
