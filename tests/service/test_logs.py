"""Log lines: ours and uvicorn's alike, with what was bound, and never with the values of local variables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import logging, structlog
from service.observe import logs
from service.settings import ServiceSettings
logs.configure(ServiceSettings(_env_file=None, log_format={format!r}, log_level="info"))
with structlog.contextvars.bound_contextvars(job="job_1"):
    structlog.get_logger("task").info("started", attempt=2)
    logging.getLogger("uvicorn.error").info("Started %s", "server", extra={{"color_message": "colours"}})
    logging.getLogger("uvicorn.access").info("GET /objects/secret-token")
    structlog.get_logger("task").debug("too fine")
    structlog.get_logger("task").info("asked", path="/é\\n2026 [info] forged\\x1b[2J", key="ibk_" + "s" * 43)
    def fail():
        secret = "local " + "secret"
        raise RuntimeError("broke")
    try:
        fail()
    except RuntimeError:
        structlog.get_logger("task").exception("failed")
"""


def lines(format: str) -> list[str]:
    command = [sys.executable, "-c", SCRIPT.format(format=format)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_lines_carry_what_was_bound() -> None:
    started, server, asked, failed = map(json.loads, lines("json"))
    assert (started["event"], started["job"], started["attempt"]) == ("started", "job_1", 2)
    assert (started["level"], started["logger"]) == ("info", "task")
    assert started["timestamp"].endswith("Z")
    assert (server["event"], server["job"], server["logger"]) == ("Started server", "job_1", "uvicorn.error")
    assert "color_message" not in server
    assert asked["path"] == "/é\\n2026 [info] forged\\x1b[2J"
    assert "RuntimeError: broke" in failed["exception"]


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_shows_no_values(format: str) -> None:
    text = "\n".join(lines(format))
    assert "RuntimeError: broke" in text
    assert "local secret" not in text
    assert "secret-token" not in text


@pytest.mark.parametrize("format", ["json", "console"])
def test_what_a_caller_sent_makes_no_line_of_its_own_and_shows_no_key(format: str) -> None:
    [line] = [line for line in lines(format) if "forged" in line]
    assert "asked" in line
    assert "\x1b[2J" not in line
    assert "ibk_…" in line
    assert "sss" not in line
