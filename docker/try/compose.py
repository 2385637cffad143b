"""Services of docker-compose.yml as `podman run` has them: what no Docker engine is there for, Podman does.

Knows as much of the format as that file uses.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "inbetween-try-"
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def services(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Read all services, with the variables put in. Raises `KeyError` for one that must be set and is not."""

    def put_in(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        value = environment.get(name) or (rest if operator == ":-" else None)
        if value is None:
            raise KeyError(f"{name}: {rest}")
        return value

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(put_in, value)
        if isinstance(value, dict):
            return {name: filled(inner) for name, inner in value.items()}
        return [filled(inner) for inner in value] if isinstance(value, list) else value

    read: dict[str, dict[str, Any]] = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    return read


def run_options(name: str, service: Mapping[str, Any], env_file: Path | None) -> list[str]:
    """List what comes between `podman run` and the image. No networks, ports and devices: those are the caller's."""
    options = [f"--name={PREFIX}{name}", "--health-interval=disable"]
    if service.get("env_file"):
        options.append(f"--env-file={env_file}")
    options += [f"--env={key}={value}" for key, value in service.get("environment", {}).items()]
    options += ["--read-only"] if service.get("read_only") else []
    options += [f"--tmpfs={place}" for place in service.get("tmpfs", ())]
    options += [f"--cap-drop={name}" for name in service.get("cap_drop", ())]
    options += [f"--security-opt={name.removesuffix(':true')}" for name in service.get("security_opt", ())]
    options += [f"--volume={PREFIX}{place}" for place in service.get("volumes", ()) if not place.startswith(".")]
    if "stop_grace_period" in service:
        options.append(f"--stop-timeout={service['stop_grace_period'].removesuffix('s')}")
    if "healthcheck" in service:
        kind, *command = service["healthcheck"]["test"]
        options.append(f"--health-cmd={command[0] if kind == 'CMD-SHELL' else shlex.join(command)}")
    if "user" in service:
        options.append(f"--user={service['user']}")
    if "entrypoint" in service:
        options.append(f"--entrypoint={json.dumps(service['entrypoint'])}")
    return options


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"podman {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done


def clear(names: Sequence[str]) -> None:
    """Remove what an earlier run of these services left."""
    for name in names:
        podman("rm", "--force", "--time=0", "--ignore", f"{PREFIX}{name}")
    left = podman("volume", "ls", "--quiet", "--filter", f"name={PREFIX}").stdout.split()
    if left:
        podman("volume", "rm", "--force", *left)
