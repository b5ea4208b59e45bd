"""The manifests of deploy/kubernetes, as kubectl puts them together, against the schemas and against our own times."""

import json
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.files import DEPLOY
from tests.support import tools

DIRECTORY = DEPLOY / "kubernetes"
PRE_STOP_TIME = 2  # seconds that `prefork drain` and the start of its container process may take


def built(variant: str) -> list[dict[str, Any]]:
    """Return the objects of the base or an overlay."""
    text = tools.run(["kubectl", "kustomize", str(DIRECTORY / variant)]).stdout
    return list(yaml.safe_load_all(text))


def the(kind: str, variant: str = "base") -> Any:
    """Return the only object of a kind."""
    (found,) = [one for one in built(variant) if one["kind"] == kind]
    return found


def container() -> Any:
    """Return the only container of the pods."""
    (found,) = the("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """What prefork makes of the settings that the pods mount."""
    file = tmp_path / "prefork.toml"
    file.write_text(the("ConfigMap")["data"]["prefork.toml"])
    shown = tools.run([sys.executable, "-m", "prefork", "config", "--json", "--config", str(file)]).stdout
    return {name: one["value"] for name, one in json.loads(shown).items()}


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("variant", ["base", "production"])
@pytest.mark.parametrize("version", ["1.27", "1.32"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_objects_are_what_kubernetes_expects(variant: str, version: str) -> None:
    objects = built(variant)

    for one in objects:
        kubernetes_validate.validate(one, version, strict=True)
    assert sorted(one["kind"] for one in objects) == [
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    ]


@pytest.mark.needs("kubectl")
def test_a_file_is_part_of_what_is_built() -> None:
    for directory in DIRECTORY.iterdir():
        listed = yaml.safe_load((directory / "kustomization.yaml").read_text())
        generated = [file for one in listed.get("configMapGenerator", []) for file in one["files"]]
        patches = [one["path"] for one in listed.get("patches", [])]

        files = {path.name for path in directory.iterdir()} - {"kustomization.yaml"}
        assert files == {name for name in [*listed["resources"], *generated, *patches] if "/" not in name}


@pytest.mark.needs("kubectl")
def test_a_pod_has_time_for_all_that_a_stop_may_take(settings: dict[str, Any]) -> None:
    needed = PRE_STOP_TIME + sum(settings[name] for name in ("drain_delay", "drain_timeout", "kill_timeout"))

    assert the("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed


@pytest.mark.needs("kubectl")
def test_a_pod_that_leaves_serves_until_its_probe_and_the_nodes_have_noticed(settings: dict[str, Any]) -> None:
    assert settings["drain_delay"] >= 2 * container()["readinessProbe"]["periodSeconds"]


@pytest.mark.needs("kubectl")
def test_a_start_may_take_as_long_as_prefork_allows(settings: dict[str, Any]) -> None:
    probe = container()["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] > settings["boot_timeout"]


@pytest.mark.needs("kubectl")
def test_a_hung_worker_is_replaced_before_its_pod_would_be(settings: dict[str, Any]) -> None:
    probe = container()["livenessProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] > settings["heartbeat_timeout"] + settings["kill_timeout"]


@pytest.mark.needs("kubectl")
def test_the_ports_are_those_of_the_settings(settings: dict[str, Any]) -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}

    assert settings["bind"] == [f"tcp://0.0.0.0:{ports['shop']}"]
    assert settings["admin"] == f"tcp://0.0.0.0:{ports['admin']}"


@pytest.mark.needs("kubectl")
def test_the_selectors_choose_the_pods() -> None:
    labels = the("Deployment")["spec"]["template"]["metadata"]["labels"]

    assert the("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert the("Service")["spec"]["selector"] == labels
    assert the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert the("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == the("Deployment")["metadata"]["name"]


@pytest.mark.needs("kubectl")
def test_the_pods_are_restricted() -> None:
    """As the Pod Security Standard of that name demands, and with a root that cannot be written."""
    pod = the("Deployment")["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.needs("kubectl")
def test_the_overlay_changes_the_size_and_the_image() -> None:
    scaler, deployment = the("HorizontalPodAutoscaler", "production"), the("Deployment", "production")

    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (6, 40)
    assert scaler["spec"]["metrics"] == the("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":1.2.3")
    assert deployment["metadata"]["namespace"] == "shop"
