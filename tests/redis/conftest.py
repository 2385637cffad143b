"""The service as real processes on whatever Redis a test has made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from inbetween import Client
from inbetween.options import Webhook
from tests.redis.servers import until
from trials.receiver import Receiver
from trials.servers import free_port
from trials.site import Site

ROOT = Path(__file__).resolve().parents[2]
KEYFRAMES = [ROOT / "examples" / "keyframes" / f"arrow-{end}.png" for end in ("start", "end")]

Open = Callable[..., AbstractContextManager["Service"]]


class Service:
    """API, worker and keeper, and a client of theirs."""

    def __init__(self, site: Site, receiver: Receiver) -> None:
        self.site = site
        self.receiver = receiver
        self.url = f"http://127.0.0.1:{site.variables['PORT']}"
        self.processes = {command: site.start(command) for command in ("api", "worker", "keeper")}
        until("the service is ready", self._ready)
        site.until_said("keeper", "keeping")
        self.client = Client(self.url, timeout=20)

    def whole_job(self) -> None:
        """One job all the way: asked for with a key, followed by its events, downloaded, told by webhook, deleted."""
        webhook: Webhook = {"url": f"{self.receiver.url}/hook"}
        job = self.client.inbetween(*KEYFRAMES, method="flow", frames=3, webhook=webhook)
        states = [event.state for event in job.events() if event.type == "state"]
        assert states[-1] == "succeeded", self.site.log()
        assert job.save(self.site.area / "video.mp4").stat().st_size > 0
        assert self.receiver.wait_for(1)[-1].headers["webhook-id"]
        # The keeper knows it once the delivery is written down.
        until(
            "the webhook is written down as delivered",
            lambda: not self.site.redis.zcard(self.site.jobs.keys.undelivered),
        )
        metrics = httpx.get(f"{self.url}/metrics", timeout=20, trust_env=False)
        assert metrics.is_success, f"{metrics.text}\n{self.site.log()}"
        job.delete()

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False


@pytest.fixture
def service(tmp_path: Path, receiver: Receiver) -> Open:
    """Start the service on the Redis that these settings lead to, for as long as the context lasts."""

    @contextmanager
    def opened(**settings: str) -> Iterator[Service]:
        variables = {name.upper(): value for name, value in settings.items()}
        url = variables.pop("REDIS_URL")
        area = tmp_path / "site"
        area.mkdir()
        own = {"AUTH": "off", "PORT": str(free_port()), "FETCH_ALLOW_HOSTS": "127.0.0.1", "WORKERS_PER_ENGINE": "1"}
        site = Site(url, area, **{**own, **variables})
        try:
            running = Service(site, receiver)
            with running.client:
                yield running
        finally:
            site.close()

    return opened
