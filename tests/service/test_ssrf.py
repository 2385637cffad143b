"""No URL that a caller sends, as a keyframe or as a webhook, makes the service connect to the network inside.

By the real routes and the real code behind them. A canary listens on every address of this machine and must not hear
a single connection; that it would is tested too. The table of hosts is `inside.py`.
"""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from service.api.intake import submission
from service.jobs.record import Job
from service.outbound.client import Outbound, UrlRefused
from service.webhooks.deliveries import announce
from tests.service.conftest import Api, Make, problem
from tests.service.inside import DISGUISED, NAMED, WRITTEN, named, written
from trials.pictures import photo
from trials.receiver import Receiver

PUBLIC = "93.184.215.14"
PICTURE = "data:image/png;base64," + base64.b64encode(photo()).decode()
KEYFRAMES_AT_ONCE = 16


class Canary:
    """Listens on all addresses of this machine, IPv4 and IPv6, and counts who comes."""

    def __init__(self) -> None:
        dual = socket.has_dualstack_ipv6()
        family, anywhere = (socket.AF_INET6, "::") if dual else (socket.AF_INET, "0.0.0.0")
        self._listener = socket.create_server((anywhere, 0), family=family, dualstack_ipv6=dual)
        self.port: int = self._listener.getsockname()[1]
        self.heard = threading.Semaphore(0)
        self.connections = 0
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.heard.release()
            connection.close()


class Names:
    """A resolver with a script: one answer per question, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Dials:
    """Remembers which addresses were connected to; only loopback is really there."""

    def __init__(self) -> None:
        self.dialed: list[str] = []

    def __call__(self, address: str, port: int, seconds: float) -> socket.socket:
        self.dialed.append(address)
        if address != "127.0.0.1":
            raise ConnectionRefusedError
        return socket.create_connection((address, port), seconds)


@pytest.fixture
def canary() -> Iterator[Canary]:
    listening = Canary()
    yield listening
    listening.close()


@pytest.fixture
def resolving(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Names, Dials]]:
    """Gives the API's own outbound door a resolver with these answers, and a watched dialler."""

    def give(*answers: Sequence[str]) -> tuple[Names, Dials]:
        names, dials = Names(*answers), Dials()
        monkeypatch.setattr(api.services.submission.outbound, "_resolve", names)
        monkeypatch.setattr(api.services.submission.outbound, "_dial", dials)
        return names, dials

    return give


def refusals(api: Api, urls: Sequence[str]) -> list[dict[str, Any]]:
    """What the API says of each URL as a keyframe."""
    found = []
    for start in range(0, len(urls), KEYFRAMES_AT_ONCE):
        some = urls[start : start + KEYFRAMES_AT_ONCE]
        keyframes = [{"image": PICTURE}, *({"image": url} for url in some)]
        body = {"keyframes": keyframes, "options": {"method": "flow", "frames": 2}}
        answer = api.client.post("/inbetween/estimate", json=body).json()
        assert not answer["accepted"]
        assert [refusal["field"] for refusal in answer["refusals"]] == [
            f"keyframes[{number + 1}].image" for number in range(len(some))
        ], answer["refusals"]
        found += answer["refusals"]
    return found


def urls_of(hosts: Sequence[str], canary: Canary) -> list[str]:
    return [f"{scheme}://{host}:{canary.port}/latest/meta-data" for host in hosts for scheme in ("https", "http")]


def test_the_canary_hears_who_comes(make_api: Make, canary: Canary) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1,localhost")
    for host in ("127.0.0.1", "localhost"):
        body = {"start": f"https://{host}:{canary.port}/", "end": PICTURE}
        problem(api.client.post("/inbetween", json=body), 422, "fetch-failed")
        assert canary.heard.acquire(timeout=30)


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_inner_address_as_a_keyframe(
    api: Api, canary: Canary, resolving: Callable[..., tuple[Names, Dials]], kind: str
) -> None:
    names, dials = resolving(["127.0.0.1"])
    for refusal in refusals(api, urls_of(WRITTEN[kind], canary)):
        assert refusal["type"] == "/problems/invalid-url"
        assert "public https URL" in refusal["remedy"]
    assert (names.asked, dials.dialed, canary.connections) == ([], [], 0)


@pytest.mark.parametrize("kind", NAMED)
def test_a_name_that_leads_inside_as_a_keyframe(
    api: Api, canary: Canary, resolving: Callable[..., tuple[Names, Dials]], kind: str
) -> None:
    for answer in (
        ["127.0.0.1"],
        ["::1"],
        [PUBLIC, "10.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["0.0.0.0"],
    ):
        _, dials = resolving(answer)
        for refusal in refusals(api, urls_of(NAMED[kind], canary)):
            assert refusal["type"] == "/problems/invalid-url"
            assert not any(address in refusal["detail"] for address in answer)
        assert (dials.dialed, canary.connections) == ([], 0)


def test_the_system_own_resolver_is_no_way_in(api: Api, canary: Canary) -> None:
    for refusal in refusals(api, urls_of(["localhost", "LOCALHOST", "localhost."], canary)):
        assert refusal["type"] == "/problems/invalid-url"
    assert canary.connections == 0


def test_urls_whose_readers_disagree(api: Api, canary: Canary, resolving: Callable[..., tuple[Names, Dials]]) -> None:
    names, dials = resolving(["127.0.0.1"])
    for inner in ("127.0.0.1", "[::1]", "2130706433", "localhost"):
        urls = [url.format(canary=f"{inner}:{canary.port}") for url in DISGUISED]
        for url, refusal in zip(urls, refusals(api, urls), strict=True):
            assert refusal["type"] == "/problems/invalid-url", url
    assert set(names.asked) <= {"localhost"}
    assert (dials.dialed, canary.connections) == ([], 0)


def test_an_inner_address_as_a_webhook(api: Api, canary: Canary) -> None:
    """Refused with the request; no job is made that would post there in the end."""
    disguised = [url.format(canary=f"127.0.0.1:{canary.port}") for url in DISGUISED]
    for url in [*urls_of(written(), canary)[::2], *disguised]:
        options = {"method": "flow", "webhook": {"url": url}}
        answer = api.client.post("/inbetween", json={"start": PICTURE, "end": PICTURE, "options": options})
        assert problem(answer, 422, "invalid-url")["field"] == "options.webhook.url", url
    assert (canary.connections, api.jobs.queue_lengths()["cpu"]["default"]) == (0, 0)


def deliver(api: Api, url: str, outbound: Outbound, times: int = 1) -> list[str | None]:
    """Post a webhook as the worker does, so many times; what each try ended with."""
    job: Job = api.jobs.cancel(api.submit({"method": "flow", "webhook": {"url": url}})["id"])
    delivery_id = announce(api.jobs, api.settings, job)
    assert delivery_id is not None
    for _ in range(times):
        delivery = api.services.webhooks.redrive(delivery_id)
        run = api.services.redis.hget(f"{api.settings.namespace}:delivery:{delivery.id}", "run")
        api.services.webhooks.attempt(delivery_id, int(run or 0), outbound)
    found = api.services.webhooks.get(delivery_id)
    assert found is not None
    return [entry.error for entry in found.log]


def test_a_name_that_leads_inside_as_a_webhook(api: Api, canary: Canary) -> None:
    """Names are taken with the request, and what they resolve to counts when the webhook is sent."""
    dials = Dials()
    for host in named():
        url = f"https://{host}:{canary.port}/hook"
        try:
            api.services.submission.outbound.check(url)
        except UrlRefused:
            continue
        assert deliver(api, url, Outbound(resolve=Names(["127.0.0.1"]), dial=dials)) == ["host-refused"]
    assert (dials.dialed, canary.connections) == ([], 0)


def test_a_keyframes_host_that_changes_its_answer(
    api: Api, canary: Canary, resolving: Callable[..., tuple[Names, Dials]]
) -> None:
    """DNS rebinding: a public address when it is looked at, an inner one when it is connected to."""
    body = {"start": f"https://rebinding.example:{canary.port}/", "end": PICTURE, "options": {"method": "flow"}}
    names, dials = resolving([PUBLIC], ["127.0.0.1"])
    problem(api.client.post("/inbetween", json=body), 422, "fetch-failed")
    assert (names.asked, dials.dialed) == (["rebinding.example"], [PUBLIC]), "one question, and its answer is dialled"
    problem(api.client.post("/inbetween", json=body), 422, "invalid-url")
    assert (dials.dialed, canary.connections) == ([PUBLIC], 0)
    for answer in ([PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], ["2606:4700::1", "::1"]):
        _, dials = resolving(answer)
        problem(api.client.post("/inbetween", json=body), 422, "invalid-url")
        assert (dials.dialed, canary.connections) == ([], 0), "one inner address condemns the whole answer"


def test_a_webhooks_host_that_changes_its_answer(api: Api, canary: Canary) -> None:
    names, dials = Names([PUBLIC], ["127.0.0.1"], ["::1"]), Dials()
    outbound = Outbound(resolve=names, dial=dials)
    errors = deliver(api, f"https://rebinding.example:{canary.port}/hook", outbound, times=3)
    assert errors == ["unreachable", "host-refused", "host-refused"]
    assert (dials.dialed, canary.connections) == ([PUBLIC], 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_inside_is_not_followed(make_api: Make, receiver: Receiver, canary: Canary, status: int) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1")
    receiver.answers = [(status, {"location": f"https://127.0.0.1:{canary.port}/"}, b"")]
    refused = problem(
        api.client.post("/inbetween", json={"start": f"{receiver.url}/a.png", "end": PICTURE}), 422, "fetch-failed"
    )
    assert "redirect" in refused["detail"]
    deliver(api, f"{receiver.url}/hook", api.services.submission.outbound)
    assert (len(receiver.received), canary.connections) == (2, 0)


def test_proxies_of_the_environment_are_not_used(
    make_api: Make, receiver: Receiver, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelled in (name, name.lower()):
            monkeypatch.setenv(spelled, f"http://127.0.0.1:{canary.port}")
    for spelled in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(spelled, raising=False)
    receiver.answers = [(200, {"content-type": "image/png"}, photo())]
    outbound = api.services.submission.outbound
    wanted = outbound.fetch(outbound.check(f"{receiver.url}/a.png"), max_bytes=10_000)
    assert wanted.body == photo()
    deliver(api, f"{receiver.url}/hook", api.services.submission.outbound)
    assert (len(receiver.received), canary.connections) == (2, 0)


def test_what_is_fetched_is_capped_in_bytes_and_in_time(
    make_api: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(fetch_allow_hosts="127.0.0.1", max_image_bytes=2048)
    body = {"start": f"{receiver.url}/a.png", "end": PICTURE}
    receiver.answers = [(200, {}, b"x" * 10_000_000)]
    assert problem(api.client.post("/inbetween", json=body), 413, "image-too-large")["field"] == "start"
    monkeypatch.setattr(submission, "FETCH_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        body["start"] = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        refused = problem(api.client.post("/inbetween", json=body), 422, "fetch-failed")
        assert "time" in refused["detail"]


def test_the_table_has_every_host_once() -> None:
    hosts = [*written(), *named()]
    assert len(set(hosts)) == len(hosts)
    assert len(hosts) > 150


def test_a_problem_of_a_url_tells_nothing_of_the_inside(
    api: Api, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a name exists inside, and where it leads, looks the same from outside."""

    def resolve(host: str, port: int) -> Sequence[str]:
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ["10.1.2.3"] if host == "somewhere.example" else []

    monkeypatch.setattr(api.services.submission.outbound, "_resolve", resolve)
    hosts = ("nowhere.example", "somewhere.example", "empty.example")
    told = refusals(api, [f"https://{host}:{canary.port}/" for host in hosts])
    assert len({(refusal["type"], refusal["detail"], refusal["remedy"]) for refusal in told}) == 1
