"""docker-compose.yml and .env.example: what the format asks for, and what our own code does.

The schema is compose-spec's own (Apache-2.0, its licence lies beside it), as PyPI's check-jsonschema 0.39.0 carries it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from mpd import fetch
from server import cli
from service.settings import SECRETS, ServiceSettings
from worker.task.lease import UNWIND_SECONDS

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text())
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("inbetween-")]
EXAMPLE = (ROOT / ".env.example").read_text()
EXAMPLES = dict(re.findall(r"^#? ?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
READ = re.findall(r"\$\{(\w+)(:[-?])?([^}]*)\}", TEXT)
"""Variables of the compose file: name, operator, default or complaint."""

OF_SETTINGS = {
    name.upper() + ending
    for name in ServiceSettings.model_fields
    for ending in (("", "_FILE") if name in SECRETS else ("",))
}
OF_OTHERS = {"COMPOSE_PROFILES"}
"""Read by Compose itself."""


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def default(text: str) -> str:
    """The text with each variable's default in its place."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_compose_file_is_what_its_specification_asks_for() -> None:
    found = [(list(error.absolute_path), error.message) for error in validator_for(SCHEMA)(SCHEMA).iter_errors(COMPOSE)]
    assert found == []


def test_the_services_are_all_there() -> None:
    named = "redis storage api worker worker-cpu keeper webhooks prometheus grafana fetch"
    assert sorted(SERVICES) == sorted(named.split())
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "worker": ["gpu"],
        "worker-cpu": ["cpu"],
        "fetch": ["fetch"],
    }


@pytest.mark.parametrize("name", [name for name in OURS if name != "fetch"])
def test_each_command_is_one_of_inbetween_server(name: str) -> None:
    assert "entrypoint" not in SERVICES[name]
    cli._parser().parse_args(SERVICES[name]["command"])
    health = SERVICES[name].get("healthcheck")
    if health is not None:
        assert health["test"][:2] == ["CMD", "inbetween-server"]
        cli._parser().parse_args(health["test"][2:])


def test_models_are_fetched_by_mpd_fetch(capsys: pytest.CaptureFixture[str]) -> None:
    assert SERVICES["fetch"]["entrypoint"] == ["/usr/bin/tini", "--", "mpd", "fetch"]
    with pytest.raises(SystemExit):
        fetch.parser(argparse.ArgumentParser).parse_args(SERVICES["fetch"]["command"])
    assert "--accept-license" in capsys.readouterr().out


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    ports = [default(port) for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports), "open to others only where somebody says so"


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in OURS])
def test_foreign_images_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", SERVICES[name]["image"])


def test_weights_are_written_by_fetch_alone() -> None:
    mounts = {name: volume for name in OURS for volume in SERVICES[name].get("volumes", []) if "/models" in volume}
    assert mounts == {"worker": "models:/models:ro", "fetch": "models:/models"}


@pytest.mark.parametrize("name", ["worker", "worker-cpu"])
def test_a_worker_is_killed_only_after_its_drain(name: str) -> None:
    service = SERVICES[name]
    grace = seconds(default(str(service["environment"]["DRAIN_GRACE"])))
    for stop in (default(service["stop_grace_period"]), EXAMPLES["STOP_GRACE_PERIOD"]):
        assert seconds(stop) >= grace + UNWIND_SECONDS + 10
    assert float(EXAMPLES["DRAIN_GRACE"]) == grace


def test_redis_loses_nothing_that_it_acknowledged() -> None:
    command = SERVICES["redis"]["command"]
    given = dict(zip(command[1::2], command[2::2], strict=True))
    assert (given["--appendonly"], given["--appendfsync"], given["--maxmemory-policy"]) == (
        "yes",
        "always",
        "noeviction",
    )


def test_the_storage_is_made_as_the_service_will_ask_for_it() -> None:
    ours, theirs = SERVICES["api"]["environment"], SERVICES["storage"]["environment"]
    assert ours["STORAGE_URL"] == f"s3://{theirs['GARAGE_DEFAULT_BUCKET']}"
    assert SERVICES["storage"]["healthcheck"]["test"][-1] == theirs["GARAGE_DEFAULT_BUCKET"]
    assert f's3_region = "{ours["STORAGE_REGION"]}"' in (ROOT / "docker" / "garage.toml").read_text()


def test_what_the_compose_file_sets_are_settings() -> None:
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= OF_SETTINGS | {"HF_TOKEN"}, name


def test_every_variable_of_the_example_is_read_by_somebody_and_every_one_read_is_there() -> None:
    read = {name for name, _, _ in READ}
    assert set(EXAMPLES) <= OF_SETTINGS | read | OF_OTHERS | {"METRICS_KEY"}
    assert read | OF_OTHERS <= set(EXAMPLES)
    assert COMPOSE["secrets"]["metrics_key"] == {"environment": "METRICS_KEY"}


def test_the_examples_values_are_the_defaults_and_the_settings_take_them() -> None:
    for name, operator, rest in READ:
        if operator == ":-" and rest:
            assert EXAMPLES[name] == rest, name
    values = {name.lower(): value for name, value in EXAMPLES.items() if name in OF_SETTINGS and value}
    ServiceSettings(_env_file=None, **values)


def test_env_sh_puts_secrets_of_its_own_and_leaves_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker" / "env.sh", tmp_path / "docker")
    shutil.copy(ROOT / ".env.example", tmp_path)

    def run() -> int:
        return subprocess.run(["sh", "docker/env.sh"], cwd=tmp_path, check=False, stderr=subprocess.DEVNULL).returncode

    assert run() == 0
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", made.read_text(), re.MULTILINE))
    assert re.fullmatch(r"GK[0-9a-f]{32}", values.pop("STORAGE_ACCESS_KEY"))
    secrets = [values[name] for name in re.findall(r"^([A-Z_]+)=REPLACE$", EXAMPLE, re.MULTILINE)]
    assert len(set(secrets)) == len(secrets) == 4
    assert all(re.fullmatch(r"[0-9a-f]{64}", secret) for secret in secrets)
    assert "REPLACE" not in made.read_text().partition("LOG_LEVEL")[2]
    before = made.read_text()
    assert run() == 1
    assert made.read_text() == before
    assert not (tmp_path / ".env.new").exists()


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_of_this_repository_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        if volume.startswith("./"):
            assert (ROOT / volume.partition(":")[0]).exists()
            assert volume.endswith(":ro")
