"""Every process of a site is restarted in turn while people submit jobs: nothing is lost, nothing runs twice."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from service.jobs.record import State
from trials.pictures import photo
from trials.processes import LONGEST_WAIT
from trials.servers import RedisProcess, free_port
from trials.site import Site

SUCCEEDED = 'jobs_total{outcome="succeeded",method="flow"}'
FILES = {"start": ("a.png", photo(), "image/png"), "end": ("b.png", photo(colour="teal"), "image/png")}


class Customer(threading.Thread):
    """Submits one job after another, each under a key of its own, until it is sent home."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__()
        self.ports = ports
        self.accepted: list[str] = []
        self.home = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self.home.is_set():
                self.accepted.append(self.submit(client, f"key-{len(self.accepted)}"))
                self.home.wait(0.3)

    def submit(self, client: httpx.Client, key: str) -> str:
        """Ask one API after the other until one accepts."""
        for turn in range(1000):
            url = f"http://127.0.0.1:{self.ports[turn % len(self.ports)]}/inbetween"
            try:
                options = {"options": '{"method": "flow", "frames": 6}'}
                answer = client.post(url, files=FILES, data=options, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                self.home.wait(0.05)
                continue
            if answer.status_code == 202:
                return str(answer.json()["id"])
            assert answer.status_code in (409, 503), answer.text
            self.home.wait(0.05)
        raise AssertionError(f"nobody accepts {key}")


@pytest.fixture
def site(redis_process: RedisProcess, tmp_path: Path) -> Iterator[Site]:
    site = Site(redis_process.url, tmp_path, AUTH="off", DRAIN_GRACE="30", WORKERS_PER_ENGINE="1")
    yield site
    site.close()


def test_a_rolling_restart_of_every_process_under_load_loses_nothing(site: Site) -> None:
    ports = [free_port(), free_port()]

    def start(command: str, number: int) -> psutil.Popen:
        return site.start(command, **({"PORT": str(ports[number])} if command == "api" else {}))

    running = {
        (command, number): start(command, number) for command in ("api", "worker", "keeper") for number in (0, 1)
    }
    customer = Customer(ports)
    customer.start()
    try:
        wait_for(lambda: site.jobs.counters().get(SUCCEEDED, 0) >= 2, site)
        for (command, number), process in running.items():
            done = len(customer.accepted)
            process.terminate()
            assert process.wait(60) in (0, -signal.SIGTERM), site.log()
            start(command, number)
            wait_for(lambda done=done: len(customer.accepted) > done, site)
    finally:
        customer.home.set()
        customer.join(60)
    assert not customer.is_alive()
    assert len(set(customer.accepted)) == len(customer.accepted) >= len(running)
    wait_for(lambda: all(job.state.is_terminal for job in site.jobs.get_many(customer.accepted)), site)
    ended = site.jobs.get_many(customer.accepted)
    assert {(job.state, job.deaths, job.errors) for job in ended} == {(State.succeeded, 0, 0)}
    assert len(ended) == len(customer.accepted)
    assert site.jobs.counters()[SUCCEEDED] == len(ended), "each once"
    assert site.jobs.list("local", 100).jobs == tuple(reversed(ended)), "and no other"


def wait_for(holds: object, site: Site) -> None:
    assert callable(holds)
    deadline = time.monotonic() + LONGEST_WAIT
    while not holds():
        assert time.monotonic() < deadline, site.log()
        time.sleep(0.1)
