"""`inbetween-server webhooks`, and `health`, which supervisors of containers ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from server import health
from service.settings import ServiceSettings
from service.webhooks.deliveries import Webhooks
from service.webhooks.record import Outcome
from tests.worker.test_deliveries import settled, succeeded
from trials.servers import RedisProcess, free_port
from worker.process import exit_codes

COMMAND = (sys.executable, "-m", "server.cli")


@pytest.fixture
def settings(redis_process: RedisProcess, tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(
        _env_file=None,
        redis_url=redis_process.url,
        storage_url=str(tmp_path / "storage"),
        port=free_port(),
        fetch_allow_hosts=("127.0.0.1",),
    )


def variables(settings: ServiceSettings) -> dict[str, str]:
    names = ("redis_url", "storage_url", "port")
    own = {name.upper(): str(getattr(settings, name)) for name in names}
    return {**os.environ, **own, "AUTH": "off", "FETCH_ALLOW_HOSTS": ",".join(settings.fetch_allow_hosts)}


@contextmanager
def running(settings: ServiceSettings, role: str, folder: Path) -> Iterator[None]:
    """A process of this role; after it, it has ended as it should when told to."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, role], env=variables(settings), stdout=log, stderr=log)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM), (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


@retry(retry=retry_if_result(lambda fault: fault is not None), stop=stop_after_delay(60), wait=wait_fixed(0.05))
def healthy(settings: ServiceSettings, role: str) -> str | None:
    return health.fault(settings, role)


@pytest.mark.parametrize("role", health.ROLES)
def test_a_part_is_healthy_once_it_works_and_an_outage_of_redis_is_no_fault_of_its(
    settings: ServiceSettings, role: str, redis_process: RedisProcess, tmp_path: Path
) -> None:
    fault = health.fault(settings, role)
    assert fault is not None
    assert "\n" not in fault
    with running(settings, role, tmp_path):
        healthy(settings, role)
        redis_process.kill()
        assert health.fault(settings, role) is None
        redis_process.start()


def test_the_command_says_in_one_line_what_is_wrong(settings: ServiceSettings) -> None:
    done = subprocess.run(
        [*COMMAND, "health", "keeper"], env=variables(settings), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (exit_codes.UNAVAILABLE, "inbetween-server: no keeper sweeps\n")


def test_webhooks_are_delivered_where_there_is_no_worker(
    settings: ServiceSettings, receiver: Any, tmp_path: Path
) -> None:
    receiver.answers = [(200, {}, b"")]
    with redis.Redis.from_url(settings.redis_url) as connection, running(settings, "webhooks", tmp_path):
        succeeded(connection, settings, f"{receiver.url}/hook")
        (delivered,) = receiver.wait_for(1)
        delivery = settled(Webhooks(connection, settings), Outcome.delivered)
    assert delivery is not None
    assert delivered.headers["webhook-id"] == delivery.id


def test_api_keeper_and_webhooks_load_nothing_that_makes_pictures() -> None:
    """So the image without torch can run them."""
    ours = "server.cli, worker.keeper, worker.listener, worker.webhook_workers, worker.deliveries, service.api.app"
    heavy = "{'torch', 'numpy', 'cv2', 'av', 'diffusers', 'transformers'}"
    script = f"import sys, {ours}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
