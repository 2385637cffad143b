"""The manifests in docker/kubernetes: whole, valid by the published schemas, locked down, and in step with the code.

Overlays are rendered by a real kustomize, that of kubectl or its own program; where there is neither, what does not
need one is still held.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from benchmarks.fleet import answer
from server import cli
from service.jobs.metrics import METRICS
from service.settings import SECRETS, ServiceSettings
from tests.needs import kustomize
from worker.task.lease import UNWIND_SECONDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "kubernetes"
OLDEST, NEWEST = "1.30", "1.37"
"""`lifecycle.preStop.sleep` is there, without a feature gate, from the first one on."""
OVERLAYS = ("overlays/gpu", "overlays/cpu", "fetch")
FOREIGN = {"OMP_NUM_THREADS", "HF_HUB_CACHE"}
"""Variables that our processes do not read themselves."""

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def kustomizations() -> list[Path]:
    return sorted(FOLDER.rglob("kustomization.yaml"))


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """What would be applied."""
    command = kustomize()
    assert command is not None
    done = subprocess.run([*command, str(FOLDER / overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


def named(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    (found,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def templates(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Names and pod templates of all that makes pods."""
    for one in manifests:
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]


def settings(manifests: tuple[Manifest, ...], template: Manifest) -> dict[str, str]:
    """The environment of a pod's one container, from its ConfigMaps and its own lines."""
    (container,) = template["spec"]["containers"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= named(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


@cache
def valid(manifest: str, version: str) -> None:
    one = json.loads(manifest)
    if one["apiVersion"].startswith("keda.sh/"):
        schema = json.loads((Path(__file__).parent / "schemas" / "keda-scaledobject.json").read_text())
        jsonschema.validate(one, schema)
    else:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("path", kustomizations(), ids=lambda path: str(path.parent.relative_to(FOLDER)))
def test_every_file_has_its_place_and_every_patch_its_target(path: Path) -> None:
    """What kustomize would refuse, and what it would leave out without a word."""
    (whole,) = documents(path)
    listed = {*whole["resources"], *whole.get("components", [])}
    patches = {one["path"] for one in whole.get("patches", [])}
    files = patches | {name for one in whole.get("configMapGenerator", []) for name in one["envs"]}
    assert {name for name in listed if name.endswith(".yaml")} | files == {
        one.name for one in path.parent.iterdir() if one.is_file() and one != path and one.suffix != ".md"
    }
    below: set[tuple[str, str]] = set()
    for name in listed:
        target = path.parent / name
        own = target if target.is_file() else target / "kustomization.yaml"
        assert own.is_file(), name
        for one in [target] if target.is_file() else sorted(target.resolve().glob("*.yaml")):
            below |= {(found["kind"], found.get("metadata", {}).get("name", "")) for found in documents(one)}
    for patch in patches:
        for found in documents(path.parent / patch):
            assert (found["kind"], found["metadata"]["name"]) in below


def test_what_stands_in_the_files_is_valid_as_it_is() -> None:
    """All but patches, which are no whole manifests."""
    for path in kustomizations():
        for name in documents(path)[0]["resources"]:
            for one in documents(path.parent / name) if name.endswith(".yaml") else []:
                valid(json.dumps(one), NEWEST)


@pytest.mark.needs("kubectl 1.21")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_rendered_is_valid(overlay: str) -> None:
    for one in rendered(overlay):
        for version in (OLDEST, NEWEST):
            valid(json.dumps(one), version)


@pytest.mark.parametrize("wrong", [{"minReplicaCout": 2}, {"triggers": [{"type": "prometheus"}]}])
def test_the_schema_of_keda_refuses_what_keda_does_not_know(wrong: Manifest) -> None:
    (scaled,) = documents(FOLDER / "overlays/gpu/scaling.yaml")
    with pytest.raises(jsonschema.ValidationError):
        valid(json.dumps({**scaled, "spec": {**scaled["spec"], **wrong}}), NEWEST)


@pytest.mark.needs("kubectl 1.21")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_locked_down(overlay: str) -> None:
    dockerfiles = [ROOT / "docker" / f"{name}.Dockerfile" for name in ("api", "worker")]
    for name, template in templates(rendered(overlay)):
        spec = template["spec"]
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert not container["image"].endswith(":latest")
        assert ":" in container["image"]
        if name != "redis":
            for file in dockerfiles:
                assert f"--uid {pod['runAsUser']} " in file.read_text()
        for mount in container["volumeMounts"]:
            if mount["name"] == "secrets" or (mount["name"] == "models" and name != "fetch"):
                assert mount["readOnly"] is True


@pytest.mark.needs("kubectl 1.21")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_manifest_names_is_there(overlay: str) -> None:
    """Accounts, claims, settings, and the pods that services, budgets and policies are about."""
    manifests = rendered(overlay)
    if overlay == "fetch":
        manifests = (*rendered("overlays/gpu"), *manifests)
    here = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    pods = [template["metadata"]["labels"] for _, template in templates(manifests)]

    def meets(selector: Manifest) -> bool:
        wanted = selector.get("matchLabels", {})
        choices = {one["key"]: one["values"] for one in selector.get("matchExpressions", [])}
        assert all(
            any(labels.get(key) == value for labels in pods) for key, values in choices.items() for value in values
        )
        return any(
            wanted.items() <= labels.items() and all(labels.get(key) in values for key, values in choices.items())
            for labels in pods
        )

    for _, template in templates(manifests):
        spec = template["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in here
        (container,) = spec["containers"]
        volumes = {one["name"] for one in spec.get("volumes", [])} | {"data"}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for one in spec.get("volumes", []):
            if "persistentVolumeClaim" in one:
                assert ("PersistentVolumeClaim", one["persistentVolumeClaim"]["claimName"]) in here
            if "secret" in one:
                assert one["secret"]["secretName"] == "inbetween-secrets"
        for source in container.get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in here
    for one in manifests:
        if one["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            assert meets(one["spec"].get("podSelector", one["spec"].get("selector")))
        if one["kind"] == "Service":
            assert meets({"matchLabels": one["spec"]["selector"]})
    budgets = {name for kind, name in here if kind == "PodDisruptionBudget"}
    assert budgets == {one["metadata"]["name"] for one in manifests if one["kind"] == "Deployment"}


@pytest.mark.needs("kubectl 1.21")
@pytest.mark.parametrize("overlay", ["overlays/gpu", "overlays/cpu"])
def test_settings_and_commands_are_those_of_the_code(overlay: str) -> None:
    manifests = rendered(overlay)
    secrets = {f"{name.upper()}_FILE" for name in SECRETS}
    for name, template in templates(manifests):
        (container,) = template["spec"]["containers"]
        commands = [container["args"]] if name != "redis" else []
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            command = container.get(probe, {}).get("exec", {}).get("command", [])
            if command[:1] == ["inbetween-server"]:
                commands.append(command[1:])
            assert probe != "readinessProbe" or container[probe]
        for command in commands:
            cli._parser().parse_args(command)
        variables = settings(manifests, template)
        if name == "redis":
            continue
        fields = {key: value for key, value in variables.items() if key not in secrets | FOREIGN}
        assert {key.lower() for key in fields} <= set(ServiceSettings.model_fields)
        named: dict[str, Any] = {key.lower(): value for key, value in fields.items()}
        ServiceSettings(_env_file=None, **named)
        # From the image: api and webhooks know no model.
        assert ("MODEL" in variables) == (name == "worker")


@pytest.mark.needs("kubectl 1.21")
def test_a_pod_is_killed_only_after_what_it_needs_to_end() -> None:
    for overlay in ("overlays/gpu", "overlays/cpu"):
        manifests = rendered(overlay)
        spec = named(manifests, "Deployment", "worker")["spec"]["template"]
        grace = float(settings(manifests, spec)["DRAIN_GRACE"])
        # The launcher: work-horses get UNWIND_SECONDS and 5 more, then they are killed, and the engine is stopped.
        assert spec["spec"]["terminationGracePeriodSeconds"] >= grace + UNWIND_SECONDS + 5 + 15
        api = named(manifests, "Deployment", "api")["spec"]["template"]["spec"]
        pause = api["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert api["terminationGracePeriodSeconds"] >= pause + 30


@pytest.mark.needs("kubectl 1.21")
def test_redis_is_that_of_the_compose_file_and_forgets_nothing() -> None:
    redis = named(rendered("overlays/gpu"), "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]
    given = " ".join(redis["args"])
    for words in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert words in given
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert redis["image"].removeprefix("docker.io/") == compose["services"]["redis"]["image"]


def test_gpus_are_scaled_as_the_simulation_says() -> None:
    (scaled,) = documents(FOLDER / "overlays/gpu/scaling.yaml")
    spec, plan = scaled["spec"], answer.PLAN
    (trigger,) = spec["triggers"]
    assert (trigger["metricType"], float(trigger["metadata"]["threshold"])) == ("AverageValue", answer.RULE.target)
    assert spec["minReplicaCount"] == plan.minimum <= spec["fallback"]["replicas"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == plan.window
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleUp"]["selectPolicy"] == "Max"
    grows = {one["type"]: (one["value"], one["periodSeconds"]) for one in behavior["scaleUp"]["policies"]}
    assert grows == {"Percent": (100 * (plan.grow_factor - 1), plan.sync), "Pods": (plan.grow_pods, plan.sync)}
    model = (FOLDER / "overlays/gpu/model.env").read_text().splitlines()
    assert f"WORKERS_PER_ENGINE={plan.horses}" in model
    assert f"DRAIN_GRACE={plan.grace:g}" in model
    assert "replicas" not in documents(FOLDER / "base/worker.yaml")[0]["spec"], "each `apply` would undo the scaling"


def test_the_rule_counts_what_waits_and_what_runs_of_this_lane_once() -> None:
    query = documents(FOLDER / "overlays/gpu/scaling.yaml")[0]["spec"]["triggers"][0]["metadata"]["query"]
    terms = re.findall(r"sum\(max by \((\w+)\) \(inbetween_(\w+)\{(\w+)=\"(\w+)\"\}\)\)", query)
    assert {name for _, name, _, _ in terms} == {"queue_depth", "jobs_running"}
    for by, name, label, value in terms:
        labels = METRICS[name].labels
        assert {by, label} == set(labels) if len(labels) == 2 else by == label in labels
        assert value in labels[label]
    # Nothing is left over: the sum of these two and no more.
    assert re.sub(r"sum\(max by \(\w+\) \([^()]*\)\)", "", query).split() == ["+"]
