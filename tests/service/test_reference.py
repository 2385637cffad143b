"""Every setting and every metric of the code is in the docs, and what the docs name is in the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from server import reference
from service.jobs.metrics import METRIC_PREFIX, METRICS, counted, observed
from service.settings import SECRETS, ServiceSettings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = {name.upper() for name in ServiceSettings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}
OTHERS = {"INBETWEEN_URL", "INBETWEEN_API_KEY", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "REDIS_SERVER"}
"""Variables that are no settings of the service: the client's, and those of what we use."""


def test_the_page_is_what_the_code_says() -> None:
    command = [sys.executable, "-m", "server.cli", "reference"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert made == reference.markdown()
    assert (ROOT / "docs" / "reference.md").read_text() == made, "run: inbetween-server reference > docs/reference.md"


def test_it_has_every_setting_and_every_metric_once() -> None:
    rows = re.findall(r"^\| `([A-Za-z_]+)`", reference.markdown(), re.MULTILINE)
    assert rows == [name.upper() for name in ServiceSettings.model_fields] + [METRIC_PREFIX + name for name in METRICS]


def test_every_setting_says_what_it_means() -> None:
    for name, field in ServiceSettings.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_setting_or_a_metric_that_is_not_there(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", text))
    composed = ROOT / ".env.example"
    of_compose = set(re.findall(r"^#? ?([A-Z_]+)=", composed.read_text(), re.MULTILINE)) if composed.exists() else set()
    assert {name for name in named - SETTINGS - OTHERS - of_compose if not name.startswith("OTEL_")} == set()
    parts = {f"{name}_{part}" for name, one in METRICS.items() if one.kind == "histogram" for part in PARTS}
    assert {
        name.removeprefix(METRIC_PREFIX) for name in re.findall(rf"\b{METRIC_PREFIX}[a-z_]+", text)
    } <= METRICS.keys() | parts


PARTS = ("bucket", "sum", "count")


def _texts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".lua", ".py")]


def test_what_is_counted_is_known_and_what_is_known_is_counted() -> None:
    """In the scripts by their text, for they check nothing; in Python each count checks itself."""
    package = {path: path.read_text() for folder in ("service", "worker", "server") for path in _texts(ROOT / folder)}
    scripts = "".join(text for path, text in package.items() if path.suffix == ".lua")
    calls = re.findall(r"\b(?:count|observe)\((?:key\('counters'\), )?'([a-z_]+)", scripts)
    assert len(calls) >= 8
    assert set(calls) <= METRICS.keys()
    own = ROOT / "service" / "jobs" / "metrics.py"
    rest = "".join(text for path, text in package.items() if path != own and path.suffix in (".py", ".lua"))
    assert [name for name in METRICS if not re.search(rf"['\"]{name}\b", rest)] == []


def test_a_count_with_a_name_or_a_label_that_is_not_known_is_refused() -> None:
    with pytest.raises(KeyError):
        counted("jobs_total", outcome="succeeded")
    with pytest.raises(KeyError):
        counted("made_up_total")
    with pytest.raises(KeyError):
        observed("stage_seconds", 1.0, step="encoding")
    assert observed("stage_seconds", 0.7, stage="encoding") == {
        'stage_seconds_le{stage="encoding",le="1"}': 1,
        'stage_seconds_sum{stage="encoding"}': 0.7,
    }
