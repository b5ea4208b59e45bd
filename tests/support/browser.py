"""A headless Chromium, spoken to by its DevTools protocol through a pipe: messages of JSON, each ended by a NUL."""

import base64
import fcntl
import itertools
import json
import os
import select
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.tools import require

TIME_LIMIT = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of a browser. Methods raise AssertionError if the browser does not answer in time."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self._writer = _pipe()
        self._reader, theirs_out = _pipe()
        self._home = b"HOME=" + os.fsencode(profile)
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}  # under _news
        self._news = threading.Condition()
        self._ended = False  # under _news
        self.problems: list[str] = []
        """What the page complained about: exceptions of its script, and what its policy forbade; under _news."""
        # The browser reads from descriptor 3 and writes to 4.
        words = ["bash", "-c", f'exec chromium "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *_FLAGS]
        self._process = subprocess.Popen(
            [*words, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        pages = [one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self._ask("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> Any:
        """Send a command to the page and return its result."""
        return self._ask(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go to a page."""
        self.tell("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Return when a JavaScript expression is true: looked at whenever the page changes."""
        promise = """new Promise(resolve => {
            const look = () => { if (%s) { observer.disconnect(); resolve(true); } };
            const observer = new MutationObserver(look);
            observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
            look();
        })"""
        assert self.evaluate(promise % condition) is True

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Be a window, or a phone, of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.tell("Emulation.setDeviceMetricsOverride", **metrics)

    def prefer(self, scheme: str) -> None:
        """Like light or dark."""
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, whole_page: bool = False) -> bytes:
        """Return a PNG of what is seen."""
        shot = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole_page)
        return base64.b64decode(shot["data"])

    def close(self) -> None:
        """End the browser."""
        # Some of its processes end a little later than itself, and a test that adopts orphans must bury them.
        everybody = [(pid, os.pidfd_open(pid)) for pid in self._processes()]
        os.close(self._writer)  # it ends with its pipe
        try:
            self._process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(TIME_LIMIT)
        for pid, watched in everybody:
            assert select.select([watched], [], [], TIME_LIMIT)[0], f"a process of the browser goes on: {pid}"
            os.close(watched)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # somebody else has buried it

    def _processes(self) -> list[int]:
        """Return the pids of the browser: those of its session, and those in another that have its home."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                in_session = os.getsid(int(entry)) == self._process.pid
                if in_session or self._home in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
            except OSError:
                pass  # it has gone
        return found

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._writer, data) :]
        with self._news:
            assert self._news.wait_for(lambda: self._ended or number in self._answers, TIME_LIMIT), (
                f"{method}: no answer"
            )
            assert number in self._answers, f"{method}: the browser ended"
            answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _listen(self) -> None:
        with open(self._reader, "rb") as reader:
            received = b""
            while chunk := reader.read1(65536):
                *whole, received = (received + chunk).split(b"\0")
                with self._news:
                    for message in whole:
                        self._note(json.loads(message))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _note(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
        elif message["method"] == "Runtime.exceptionThrown":
            self.problems.append(str(message["params"]["exceptionDetails"]))
        elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.problems.append(message["params"]["entry"]["text"])


def _pipe() -> tuple[int, int]:
    """Return a pipe whose descriptors are none of those that the browser wants."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """Run a browser with a new profile in this directory during the block."""
    require("chromium")
    started = Browser(directory / "profile")
    try:
        yield started
    finally:
        started.close()
