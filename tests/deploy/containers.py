"""Images and containers, made by the real tools from a Debian that lies here: no registry is asked.

What is made is kept in a store of our own. The base is made once; it is called what the Dockerfile may build from.
"""

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import tools
from tests.support.container import make_image

_CACHE = Path("/var/cache/prefork-tests")
_STORE = ["--root", str(_CACHE / "containers"), "--runroot", "/run/prefork-tests", "--storage-driver", "overlay"]
_BASE = "localhost/prefork-tests-python"
_ADD_PYTHON = (
    "apt-get -o Acquire::Retries=5 update -qq && "
    "apt-get -o Acquire::Retries=5 install -y -qq --no-install-recommends python3-venv"
)
_LONG = 600  # seconds: it downloads, and writes a whole system
# Whom pip trusts and whom it asks, as on this machine.
_FOR_PIP = [Path("/etc/ssl/certs"), Path("/etc/pip.conf")]
# Where version 1 and 2 of cgroups are mixed, crun wants to be shown only the second, and it need not limit anything.
_SHOW_CGROUPS = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
_CALM = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SHOW_CGROUPS, "sh"]


def podman(*words: str) -> list[str]:
    """Return the command that has podman do something with our images."""
    return [*_CALM, "podman", *_STORE, "--cgroup-manager", "cgroupfs", *words]


def build(context: Path, name: str) -> None:
    """Build the image of a directory with a Dockerfile."""
    _make_base()
    shared = [f"--volume={path}:{path}:ro" for path in _FOR_PIP if path.exists()]
    command = ["buildah", *_STORE, "bud", "--isolation=chroot", "--network=host", "--format=docker", *shared]
    tools.run([*command, f"--build-arg=BASE={_BASE}", f"--tag={name}", str(context)], seconds=_LONG)


def remove(name: str) -> None:
    """Remove an image."""
    tools.run(["buildah", *_STORE, "rmi", "--force", name])


def _make_base() -> None:
    with _locked():
        found = subprocess.run(["buildah", *_STORE, "images", _BASE], capture_output=True, check=False)
        if found.returncode == 0:
            return
        (container,) = tools.run(["buildah", *_STORE, "from", "scratch"]).stdout.decode().split()
        tools.run(["buildah", *_STORE, "add", container, str(make_image()), "/"], seconds=_LONG)
        tools.run(
            [
                "buildah",
                *_STORE,
                "run",
                "--isolation=chroot",
                "--network=host",
                container,
                "--",
                "sh",
                "-c",
                _ADD_PYTHON,
            ],
            seconds=_LONG,
        )
        tools.run(["buildah", *_STORE, "commit", "--rm", container, _BASE], seconds=_LONG)


@contextmanager
def _locked() -> Iterator[None]:
    with open(_CACHE / "containers.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
