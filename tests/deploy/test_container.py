"""The image of deploy/container, built and run by the real tools, with the life that Kubernetes gives to a pod."""

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import containers
from tests.deploy.files import DEPLOY
from tests.deploy.test_kubernetes import container, the
from tests.support import tools
from tests.support.admin import fetch
from tests.support.application import write_application
from tests.support.clients import TIME_LIMIT, LineClient, eventually, steady_load
from tests.support.container import ROOT

DOCKERFILE = DEPLOY / "container/Dockerfile"
pytestmark = pytest.mark.timeout(1800)  # the first one makes the images

SERVICE, ADMIN = ("10.0.0.1", 9999), ("10.0.0.1", 9998)


def test_the_linter_has_nothing_to_say() -> None:
    linter = str(Path(sys.executable).with_name("hadolint"))

    assert tools.run([linter, str(DOCKERFILE)]).stdout == b""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The test application with the prefork of this directory."""
    tools.require_root()
    tools.require("buildah", "podman", "crun", "debootstrap")
    context = tmp_path_factory.mktemp("context")
    tools.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(context), str(ROOT)], seconds=300)
    (wheel,) = context.glob("*.whl")
    (context / "requirements.txt").write_text(f"./{wheel.name}\n")
    (context / "Dockerfile").write_text(DOCKERFILE.read_text())
    write_application(context)
    name = f"localhost/prefork-tests-shop-{secrets.token_hex(4)}"
    containers.build(context, name)
    yield name
    containers.remove(name)


class Pod:
    """The container of a pod, started as the kubelet does."""

    def __init__(self, image: str, settings: Path, log: Path) -> None:
        self.name = f"prefork-tests-{secrets.token_hex(4)}"
        self._log = log
        wanted = container()["securityContext"]
        security = [
            f"--read-only={str(wanted['readOnlyRootFilesystem']).lower()}",
            "--read-only-tmpfs=false",
            *(f"--cap-drop={name}" for name in wanted["capabilities"]["drop"]),
            f"--security-opt=no-new-privileges={str(not wanted['allowPrivilegeEscalation']).lower()}",
        ]
        # Without powers over resources, the tests cannot raise the limits that podman would set.
        here = ["--network=host", "--cgroups=disabled", "--ulimit=nofile=4096:4096", "--ulimit=nproc=2048:2048"]
        mounted = f"--volume={settings.parent}:{container()['volumeMounts'][0]['mountPath']}:ro"
        command = ["run", "--rm", f"--name={self.name}", "--no-healthcheck", *here, *security, mounted, image]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                containers.podman(*command, *container()["args"]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def run(self, *command: str) -> str:
        """Run a command in the container, as probes and hooks do."""
        return tools.run(containers.podman("exec", self.name, *command)).stdout.decode()

    def answers(self, probe: str) -> bool:
        """Return whether a probe of the manifest succeeds."""
        assert self.process.poll() is None, self._log.read_text()
        try:
            return fetch(ADMIN, container()[probe]["httpGet"]["path"])[0] == 200
        except ConnectionRefusedError:
            return False

    def close(self) -> None:
        """End it, whatever has become of it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            tools.run(containers.podman("kill", self.name))
            self.process.wait(TIME_LIMIT)


@pytest.fixture
def pod(image: str, site: None, tmp_path: Path) -> Iterator[Pod]:
    """A pod that is ready."""
    settings = tmp_path / "settings/prefork.toml"
    settings.parent.mkdir()
    settings.write_text(the("ConfigMap")["data"]["prefork.toml"])
    for path in (tmp_path, settings.parent):
        path.chmod(0o755)
    pod = Pod(image, settings, tmp_path / "pod.log")
    try:
        eventually(lambda: pod.answers("startupProbe") and pod.answers("readinessProbe"), seconds=120)
        yield pod
    finally:
        pod.close()


@pytest.mark.needs("kubectl")
def test_it_is_process_1_with_no_power_and_can_be_asked(pod: Pod) -> None:
    assert pod.run("prefork", "health") == "ready: serving\n"
    status = json.loads(pod.run("prefork", "status", "--json"))
    facts = dict(line.split(":\t", 1) for line in pod.run("cat", "/proc/1/status").splitlines() if ":\t" in line)

    assert (status["pid"], status["name"]) == (1, "shop")
    assert set(facts["Uid"].split() + facts["Gid"].split()) == {"65532"}
    assert int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"] == "1"
    assert subprocess.run(containers.podman("exec", pod.name, "touch", "/srv/x"), capture_output=True).returncode != 0


@pytest.mark.fault("leaving-pod")
@pytest.mark.needs("kubectl")
def test_no_client_is_failed_when_it_leaves_as_kubernetes_tells_it_to(pod: Pod) -> None:
    with LineClient(SERVICE) as kept, steady_load(SERVICE) as crowd:
        kept.ask("version")
        crowd.wait_for_more()
        pod.run(*container()["lifecycle"]["preStop"]["exec"]["command"])
        eventually(lambda: not pod.answers("readinessProbe"))
        alive = pod.answers("livenessProbe")
        pod.process.send_signal(signal.SIGTERM)
        crowd.wait_for_more(50)
        crowd.wait_until_refused()
        answer = kept.ask("version")
        kept.close()
        code = pod.process.wait(TIME_LIMIT)

    assert alive
    assert answer == "1"
    assert code == 0
    assert {failure.partition("(")[0] for failure in crowd.failures} == {"ConnectionRefusedError"}
