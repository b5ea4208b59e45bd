"""Completion in real shells, of real servers."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.process.test_control import prefork
from tests.support.clients import TIME_LIMIT, eventually

Complete = Callable[[list[str], dict[str, str]], list[str]]

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def complete_in_bash(words: list[str], environment: dict[str, str]) -> list[str]:
    script = (
        'eval "$(prefork completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
        'fn=$(complete -p prefork | sed "s/.* -F \\([^ ]*\\).*/\\1/"); $fn prefork; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return run(["bash", "--norc", "-c", script, "bash", "prefork", *words], environment)


def complete_in_fish(words: list[str], environment: dict[str, str]) -> list[str]:
    script = f"prefork completion fish | source; complete -C {' '.join(['prefork', *words])!r}"
    return [line.partition("\t")[0] for line in run(["fish", "--no-config", "-c", script], environment)]


def run(command: list[str], environment: dict[str, str]) -> list[str]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


SHELLS = [
    pytest.param(complete_in_bash, id="bash", marks=pytest.mark.needs("bash")),
    pytest.param(complete_in_fish, id="fish", marks=pytest.mark.needs("fish")),
]


# Of this process alone: others may run the same tests beside it.
NAMES = [f"completed-{os.getpid()}-{name}" for name in ("one", "two")]


@pytest.fixture
def servers(serve: Serve) -> Iterator[list[Server]]:
    with serve(name=NAMES[0], workers=1) as one, serve(name=NAMES[1], workers=3) as two:
        yield [one, two]


@pytest.mark.parametrize("complete", SHELLS)
def test_a_shell_completes_commands_options_and_running_servers(
    complete: Complete, servers: list[Server], environment: dict[str, str]
) -> None:
    one, two = servers

    assert complete(["recy"], environment) == ["recycle"]
    assert complete(["stop", "--qu"], environment) == ["--quick"]
    # Which servers there are is asked for a second at most, whoever has not answered by then.
    eventually(lambda: complete(["status", "--name", NAMES[0].removesuffix("one")], environment) == NAMES)
    assert set(complete(["status", "--pid", ""], environment)) >= {str(one.pid), str(two.pid)}
    eventually(lambda: complete(["recycle", "--pid", str(two.pid), ""], environment) == ["0", "1", "2"])
    eventually(lambda: complete(["dump", "--pid", str(two.pid), ""], environment) == ["0", "1", "2"])
    assert set(complete(["completion", ""], environment)) == {"bash", "zsh", "fish"}


@pytest.mark.parametrize("complete", SHELLS)
def test_a_name_that_a_shell_would_carry_out_is_not_offered(
    complete: Complete, serve: Serve, environment: dict[str, str]
) -> None:
    with serve(name=f"{NAMES[0]};$(reboot)", workers=1), serve(name=NAMES[1], workers=1):
        eventually(lambda: complete(["status", "--name", f"completed-{os.getpid()}"], environment) == [NAMES[1]])


@pytest.mark.needs("zsh")
def test_zsh_completes_at_its_prompt(servers: list[Server], environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text(
        "PROMPT='$ '; autoload -Uz compinit; compinit -u -D; unsetopt LIST_BEEP ZLE_BRACKETED_PASTE 2>/dev/null\n"
        'eval "$(prefork completion zsh)"\n'
        "zstyle ':completion:*' verbose no\n"
        "print READY\n"
    )
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "ZDOTDIR": str(tmp_path), "TERM": "vt100"},
        start_new_session=True,
    )
    os.close(slave)
    try:
        read_until(master, "READY")
        for typed, expected in (("prefork undr\t", "undrain"), (f" --name {NAMES[0][:-2]}\t", NAMES[0])):
            os.write(master, typed.encode())
            read_until(master, expected, again="\t")
    finally:
        os.close(master)
        shell.kill()
        shell.wait()


def read_until(descriptor: int, text: str, again: str = "") -> None:
    """Read what a terminal shows until it shows a text; while it shows nothing, type `again` now and then."""
    shown, deadline = "", time.monotonic() + TIME_LIMIT
    while text not in shown:
        assert time.monotonic() < deadline, f"{text!r} is not in {shown!r}"
        if select.select([descriptor], [], [], 5)[0]:
            shown += os.read(descriptor, 4096).decode(errors="replace")
        else:
            os.write(descriptor, again.encode())


def test_a_shell_that_is_not_known_is_a_usage_error() -> None:
    done = prefork("completion", "tcsh")

    assert done.returncode == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_without_any_server_nothing_is_offered_and_nothing_is_said(shell: str) -> None:
    words = {"COMP_WORDS": "prefork recycle --pid 1 ", "COMP_CWORD": "4"}
    done = subprocess.run(
        [sys.executable, "-m", "prefork"],
        env={**os.environ, "_PREFORK_COMPLETE": f"{shell}_complete", **words},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout.strip(), done.stderr) == ("", "")
