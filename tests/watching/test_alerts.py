"""The alert rules as promtool runs them: each fires when it should, is quiet when it should, and has its page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.jobs.metrics import METRIC_PREFIX, METRICS

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "docker" / "prometheus"
RULES = PROMETHEUS / "rules.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}

Series = dict[str, str]
"""Values of a series, a minute apart, by its name and labels: `0+1x9` begins at 0 and grows by 1 nine times."""

DEPTH = 'inbetween_queue_depth{lane="gpu",priority="%s",instance="%s"}'
WORKERS = 'inbetween_workers{state="%s",instance="%s"}'
INTERPOLATORS = 'inbetween_interpolators{state="%s",instance="%s"}'
REQUESTS = 'inbetween_http_requests_total{route="%s",method="GET",status="%s",instance="%s"}'
JOBS = 'inbetween_jobs_total{outcome="%s",method="mpd",instance="%s"}'
UP = 'up{job="inbetween",instance="%s"}'


def everywhere(name: str, values: str, *labels: str) -> Series:
    """The same from two API processes, as it is."""
    return {name % (*labels, instance): values for instance in ("a", "b")}


def one(name: str, values: str) -> Series:
    return everywhere(f'inbetween_{name}{{instance="%s"}}', values)


CASES: dict[str, tuple[Series | list[Series], Series | list[Series], dict[str, str]]] = {
    # alert: what makes it fire, what must not, the labels it fires with
    "InbetweenApiOrRedisDown": (
        everywhere(UP, "1x5 0x40"),
        {UP % "a": "0x45", UP % "b": "1x45"},
        {"job": "inbetween"},
    ),
    "InbetweenApiProcessDown": (
        {UP % "a": "1x5 0x40", UP % "b": "1x45"},
        everywhere(UP, "1x45"),
        {"job": "inbetween", "instance": "a"},
    ),
    "InbetweenDatabaseUnknown": (
        one("database_known", "1x5 0x40"),
        [
            one("database_known", "1x45"),
            {'inbetween_database_known{instance="a"}': "0x45", 'inbetween_database_known{instance="b"}': "1x45"},
        ],
        {},
    ),
    "InbetweenApiFailing": (
        everywhere(REQUESTS, "0+6x45", "/inbetween", "503") | everywhere(REQUESTS, "0+94x45", "/inbetween", "200"),
        everywhere(REQUESTS, "0+60x45", "/readyz", "503")
        | everywhere(REQUESTS, "0+4x45", "/inbetween", "500")
        | everywhere(REQUESTS, "0+96x45", "/inbetween", "200"),
        {},
    ),
    "InbetweenStorageDown": (
        one("storage_up", "1x5 0x40"),
        {'inbetween_storage_up{instance="a"}': "0x45", 'inbetween_storage_up{instance="b"}': "1x45"},
        {},
    ),
    "InbetweenFilesNotErased": (
        one("erasures_oldest_due_seconds", "0+60x45"),
        one("erasures_oldest_due_seconds", "890x45"),
        {},
    ),
    "InbetweenKeeperGone": (one("keepers", "1x5 0x40"), one("keepers", "1x45"), {}),
    "InbetweenSweepFaults": (
        everywhere('inbetween_sweep_faults_total{sweep="%s",instance="%s"}', "0x20 3x25", "announce"),
        everywhere('inbetween_sweep_faults_total{sweep="%s",instance="%s"}', "3x45", "announce"),
        {"sweep": "announce"},
    ),
    "InbetweenNoEngine": (
        everywhere(DEPTH, "2x45", "low")
        | everywhere(WORKERS, "0x45", "idle")
        | everywhere(WORKERS, "1x45", "starting"),
        everywhere(DEPTH, "2x45", "low") | everywhere(WORKERS, "0x45", "idle") | everywhere(WORKERS, "1x45", "busy"),
        {},
    ),
    "InbetweenEngineFailed": (
        [everywhere(one, "0x5 1x40", "failed") for one in (WORKERS, INTERPOLATORS)],
        everywhere(WORKERS, "0x45", "failed") | everywhere(WORKERS, "3x45", "starting"),
        {"state": "failed"},
    ),
    "InbetweenMachineUnwell": (one("workers_unwell", "0x5 1x40"), one("workers_unwell", "0x29 1x16"), {}),
    "InbetweenGpuIdle": (
        everywhere(DEPTH, "1x45", "default") | everywhere(WORKERS, "1x45", "idle"),
        everywhere(DEPTH, "0x45", "default") | everywhere(WORKERS, "1x45", "idle"),
        {},
    ),
    "InbetweenQueueOld": (one("oldest_queued_age_seconds", "0+60x45"), one("oldest_queued_age_seconds", "590x45"), {}),
    "InbetweenWorkersDying": (
        everywhere('inbetween_reclaims_total{cause="%s",instance="%s"}', "0x20 4x25", "engine"),
        everywhere('inbetween_reclaims_total{cause="%s",instance="%s"}', "0x20 9x25", "lost")
        | everywhere('inbetween_reclaims_total{cause="%s",instance="%s"}', "0x20 2x25", "lease"),
        {},
    ),
    "InbetweenJobsFailing": (
        everywhere(JOBS, "0+2x45", "failed") | everywhere(JOBS, "0+8x45", "succeeded"),
        [
            everywhere(JOBS, "0+1x45", "failed") | everywhere(JOBS, "0+12x45", "succeeded"),
            everywhere(JOBS, "0x20 2x25", "failed") | everywhere(JOBS, "0x20 2x25", "succeeded"),
        ],
        {},
    ),
    "InbetweenDeadLetters": (one("dead_letters", "0x5 1x40"), one("dead_letters", "0x45"), {}),
    "InbetweenWebhooksNotSent": (
        one("webhooks_oldest_due_seconds", "0+60x45"),
        one("webhooks_oldest_due_seconds", "90x45"),
        {},
    ),
    "InbetweenWebhookBacklog": (one("webhooks_pending", "501x45"), one("webhooks_pending", "499x45"), {}),
    "InbetweenWebhooksGivenUp": (
        everywhere('inbetween_webhook_deliveries_total{result="%s",instance="%s"}', "0x20 1x25", "failed"),
        everywhere('inbetween_webhook_deliveries_total{result="%s",instance="%s"}', "0+9x45", "retried"),
        {},
    ),
}


@pytest.mark.needs("prometheus")
def test_every_rule_fires_when_it_should_and_is_quiet_when_it_should(tmp_path: Path) -> None:
    assert CASES.keys() == ALERTS.keys()
    tests = []
    for alert, (firing, quiet, labels) in CASES.items():
        rule = ALERTS[alert]
        fired = {"exp_labels": labels | rule["labels"], "exp_annotations": rule["annotations"]}
        loud, silent = (series if isinstance(series, list) else [series] for series in (firing, quiet))
        for series, expected in [*((one, [fired]) for one in loud), *((one, []) for one in silent)]:
            tests.append(
                {
                    "name": f"{alert} {'fires' if expected else 'is quiet'}",
                    "interval": "1m",
                    "input_series": [{"series": name, "values": values} for name, values in series.items()],
                    "alert_rule_test": [{"eval_time": "30m", "alertname": alert, "exp_alerts": expected}],
                }
            )
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    "command", [("rules", "rules.yml"), ("config", "--syntax-only", "prometheus.yml")], ids=["rules", "config"]
)
def test_promtool_has_no_complaint(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", "check", *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_page_in_the_runbook_and_every_page_its_alert() -> None:
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert headings == list(ALERTS)
    for alert, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"


def test_rules_and_dashboard_ask_for_nothing_that_is_not_there() -> None:
    known = {METRIC_PREFIX + name for name in METRICS}
    known |= {
        f"{METRIC_PREFIX}{name}_{part}"
        for name, measure in METRICS.items()
        if measure.kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    for path in (RULES, ROOT / "docker" / "grafana" / "dashboards" / "inbetween.json"):
        asked = set(re.findall(rf"\b{METRIC_PREFIX}[a-z_]+", path.read_text()))
        assert asked
        assert asked <= known, path
