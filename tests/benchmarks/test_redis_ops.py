"""What a job asks of Redis and of storage is counted: real processes, at the smallest size."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from benchmarks import redis_ops


def test_a_job_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert redis_ops.main(["--generation", "0.2", "--jobs", "2", "--idle", "1.5", "--kept", "100"]) == 0
    rows = dict(re.findall(r"^\| (.+?)(?:, in storage)? \| ([\d,]+) \|", capsys.readouterr().out, re.MULTILINE))
    whole, submission, status = (
        int(rows[name]) for name in ("a whole job", "of that, its submission", "a look at its status")
    )
    assert 0 < status < submission < whole
    assert all(int(rows[kind].replace(",", "")) > 10_000 for kind in ("keyframes", "stills", "video", "other"))


def test_what_would_have_been_asked_anyhow_is_taken_off() -> None:
    idle = {
        "seconds": 10.0, "commands": Counter(ping=100), "processor": 1.0, "received": 0, "sent": 0, "written": 50
    }  # fmt: skip
    busy = {
        "seconds": 20.0, "commands": Counter(ping=204, hset=40), "processor": 3.0, "received": 8, "sent": 4,
        "written": 500,
    }  # fmt: skip
    found = redis_ops.each(busy, idle, 4)
    assert found == {
        "commands": {"ping": 1.0, "hset": 10.0}, "processor": 0.25, "received": 2.0, "sent": 1.0, "written": 100.0
    }  # fmt: skip
