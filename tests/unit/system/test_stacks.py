"""The stacks of a process: what is written, where to, and how it reads."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from prefork.system.stacks import Words, label_stacks, own_stack, own_stacks, progress_of

CRASH = """Fatal Python error: Segmentation fault

Thread 0x00007f0000000003 (most recent call first):
  File "pool.py", line 3 in wait

Current thread 0x00007f0000000002 (most recent call first):
  File "app.py", line 7 in handle
  File "pool.py", line 9 in work

Thread 0x00007f0000000001 (most recent call first):
  File "obey.py", line 5 in obey
  File "/a/prefork/system/processes.py", line 56 in _be_child
  File "/a/prefork/master/main.py", line 1 in run

Extension modules: msgspec._core (total: 1)
"""


@pytest.fixture
def words() -> Iterator[Words]:
    words = Words()
    yield words
    words.close()


def test_what_is_written_through_a_copy_is_read(words: Words) -> None:
    copy = os.dup(words.fileno())
    os.write(copy, b"the first")
    first = words.read()
    words.forget()
    os.write(copy, b"next")
    os.close(copy)

    assert (first, words.read()) == ("the first", "next")


def test_no_more_is_written_than_there_is_room_for(words: Words) -> None:
    with pytest.raises(PermissionError):
        while True:
            os.write(words.fileno(), b"x" * 65536)

    assert len(words.read()) == 1 << 19
    with pytest.raises(PermissionError):
        os.ftruncate(words.fileno(), 1 << 30)


def test_who_lies_about_how_much_was_written_is_not_believed(words: Words) -> None:
    os.write(words.fileno(), b"all")
    os.lseek(words.fileno(), 1 << 40, os.SEEK_SET)

    assert words.read() == "all"


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), STACKS_SIGNAL)", "ctypes.string_at(0)"])
def test_a_process_writes_its_stacks_when_asked_and_when_it_crashes(words: Words, ending: str) -> None:
    program = f"""
import ctypes, os
from prefork.system.stacks import STACKS_SIGNAL, write_stacks_when_asked
write_stacks_when_asked({words.fileno()})
write_stacks_when_asked({words.fileno()})
def the_end():
    {ending}
the_end()
"""
    subprocess.run([sys.executable, "-c", program], pass_fds=[words.fileno()], check=False, timeout=60)

    assert words.read().count("in the_end") == 1


def test_a_crash_is_told_with_the_thread_that_crashed_first() -> None:
    text = label_stacks(CRASH, {0x7F0000000002: "row 0, serves 10.0.0.1:5"})

    assert text.splitlines() == [
        "Fatal Python error: Segmentation fault",
        "thread 0x7f0000000002, which crashed, row 0, serves 10.0.0.1:5",
        '  File "app.py", line 7 in handle',
        '  File "pool.py", line 9 in work',
        "thread 0x7f0000000003",
        '  File "pool.py", line 3 in wait',
        "thread 0x7f0000000001",
        '  File "obey.py", line 5 in obey',
        "Extension modules: msgspec._core (total: 1)",
    ]


def test_who_serves_somebody_stands_before_the_others() -> None:
    asked = CRASH.partition("\n\n")[2]

    text = label_stacks(asked, {0x7F0000000001: "row 0, serves 10.0.0.1:5"})

    assert text.startswith("thread 0x7f0000000001, row 0, serves 10.0.0.1:5\n")
    assert "which crashed" not in text


def test_nothing_written_is_nothing() -> None:
    assert label_stacks("", {}) == ""


@pytest.fixture
def waiting() -> Iterator[list[threading.Thread]]:
    release = threading.Event()
    threads = [threading.Thread(target=release.wait, name=f"waiting-{number}") for number in range(3)]
    for thread in threads:
        thread.start()
    yield threads
    release.set()
    for thread in threads:
        thread.join()


def test_equal_stacks_are_written_once(waiting: list[threading.Thread]) -> None:
    first, guilty = waiting[0].ident, waiting[1].ident
    assert first is not None
    assert guilty is not None
    # A thread that has just started may not wait yet.
    while len({own_stack(thread.ident or 0) for thread in waiting}) > 1:
        pass

    lines = own_stacks({guilty: "row 1, serves 10.0.0.1:5"}, first).splitlines()

    assert lines[:3] == ["thread waiting-0", "thread waiting-1, row 1, serves 10.0.0.1:5", "thread waiting-2"]
    assert " in wait" in lines[3]


def test_who_works_makes_progress_and_who_waits_does_not(waiting: list[threading.Thread]) -> None:
    idle, working = waiting[0].ident, threading.get_ident()
    assert idle is not None
    while own_stack(idle) != own_stack(waiting[1].ident or 0):
        pass
    before = progress_of(idle), progress_of(working)
    while progress_of(working).cpu_ticks == before[1].cpu_ticks:
        pass

    assert progress_of(idle) == before[0]
    assert progress_of(working) != before[1]
