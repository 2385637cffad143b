"""Deliveries: what is sent, when it is sent again, and that nothing is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import redis
from rq.registry import ScheduledJobRegistry
from standardwebhooks import Webhook, WebhookVerificationError

from service.auth import ApiKeys
from service.jobs.record import Job, NewJob
from service.jobs.store import Jobs
from service.outbound.client import Outbound
from service.outbound.target import Target
from service.settings import ServiceSettings
from service.webhooks import deliveries
from service.webhooks.deliveries import Webhooks, announce
from service.webhooks.message import message_id
from service.webhooks.record import Delivery, DeliveryMissing, Outcome
from service.webhooks.schedule import MAX_RETRY_AFTER, SCHEDULE, judge, retry_after

EVENTS = ["inbetween.succeeded", "inbetween.failed", "inbetween.canceled"]
outbound = Outbound(["127.0.0.1"])


@pytest.fixture
def settings(redis_url: str) -> ServiceSettings:
    return ServiceSettings(redis_url=redis_url, namespace="hooks", public_url="https://api.example/")


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def jobs(connection: redis.Redis, settings: ServiceSettings) -> Jobs:
    return Jobs(connection, settings)


@pytest.fixture
def hooks(connection: redis.Redis, settings: ServiceSettings) -> Webhooks:
    return Webhooks(connection, settings)


def ended(jobs: Jobs, receiver: Any, how: str = "succeeded", events: list[str] = EVENTS, **changes: Any) -> Job:
    """A job that has ended, by the store's own verbs."""
    url = f"{receiver.url}/hook?token=s3cret"
    new = NewJob(
        owner="ann",
        options={"reference": "shot-012", "seeds": [1]},
        keyframes=[{"key": "jobs/secret-key"}],
        lane="cpu",
        result_ttl=3600,
        webhook={"url": url, "events": events},
    )
    job = jobs.submit(replace(new, **changes))
    if how == "canceled":
        return jobs.cancel(job.id)
    jobs.start(job.id, job.attempt, "horse")
    if how == "failed":
        return jobs.fail(job.id, job.attempt, {"type": "/problems/invalid-image", "detail": "no"}, retry=False)
    return jobs.succeed(job.id, job.attempt, {"files": [{"name": "take-1.mp4"}]})


def announced(jobs: Jobs, settings: ServiceSettings, receiver: Any) -> str:
    delivery_id = announce(jobs, settings, ended(jobs, receiver))
    assert delivery_id is not None
    return delivery_id


def got(hooks: Webhooks, delivery_id: str) -> Delivery:
    delivery = hooks.get(delivery_id)
    assert delivery is not None
    return delivery


def queued(hooks: Webhooks) -> list[str]:
    return list(hooks.queue.get_job_ids())


def _refuse(address: str, port: int, seconds: float) -> Any:
    raise ConnectionRefusedError("refused by 10.9.8.7")


class TestAnnouncing:
    def test_the_body_says_what_will_stay_true_and_no_more(
        self, jobs: Jobs, hooks: Webhooks, settings: ServiceSettings, receiver: Any
    ) -> None:
        job = ended(jobs, receiver)
        delivery_id = announce(jobs, settings, job)
        assert delivery_id == message_id(job.id, "inbetween.succeeded", 1)
        assert delivery_id is not None
        body = json.loads(got(hooks, delivery_id).payload)
        assert job.finished_at is not None
        moment = datetime.fromisoformat(body.pop("timestamp"))
        assert abs(moment.timestamp() - job.finished_at) < 0.001
        assert datetime.fromisoformat(body["data"].pop("created_at")).tzinfo is not None
        assert body == {
            "type": "inbetween.succeeded",
            "data": {
                "id": job.id,
                "state": "succeeded",
                "attempt": 1,
                "reference": "shot-012",
                "error": None,
                "links": {"self": f"https://api.example/inbetween/{job.id}"},
            },
        }

    @pytest.mark.parametrize("how", ["succeeded", "failed", "canceled"])
    def test_every_final_event(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, how: str
    ) -> None:
        job = ended(jobs, receiver, how)
        delivery_id = announce(jobs, settings, job)
        assert delivery_id is not None
        body = json.loads(got(hooks, delivery_id).payload)
        assert body["type"] == f"inbetween.{how}"
        assert body["data"]["error"] == job.error
        assert (job.error is not None) == (how == "failed")

    def test_twice_is_once(self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any) -> None:
        job = ended(jobs, receiver)
        assert announce(jobs, settings, job) == announce(jobs, settings, job)
        assert len(queued(hooks)) == 1
        assert len(hooks.deliveries("ann", 10).deliveries) == 1

    def test_another_attempt_is_another_event(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        job = ended(jobs, receiver, "failed")
        first = announce(jobs, settings, job)
        again = jobs.redrive(job.id)
        jobs.start(job.id, again.attempt, "horse")
        assert announce(jobs, settings, jobs.succeed(job.id, again.attempt, {})) != first
        assert len(queued(hooks)) == 2

    @pytest.mark.parametrize("changes", [{"webhook": None}, {"events": ["inbetween.failed"]}])
    def test_nobody_asked(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, changes: dict[str, Any]
    ) -> None:
        assert announce(jobs, settings, ended(jobs, receiver, **changes)) is None
        assert queued(hooks) == []
        assert jobs.redis.zcard(jobs.keys.undelivered) == 0

    def test_a_job_that_has_not_ended_is_not_announced(self, jobs: Jobs, hooks: Webhooks, receiver: Any) -> None:
        job = ended(jobs, receiver, "failed")
        assert hooks.announce(jobs.redrive(job.id)) is None

    def test_it_is_handed_over(self, jobs: Jobs, settings: ServiceSettings, receiver: Any) -> None:
        job = ended(jobs, receiver)
        assert jobs.redis.zcard(jobs.keys.undelivered) == 1
        announce(jobs, settings, job)
        assert jobs.redis.zcard(jobs.keys.undelivered) == 0


class TestTrying:
    def test_the_receiver_can_verify_it(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, connection: redis.Redis, receiver: Any
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)
        assert hooks.attempt(delivery_id, 1, outbound) is None
        (request,) = receiver.received
        assert (request.method, request.path) == ("POST", "/hook?token=s3cret")
        assert request.headers["webhook-id"] == delivery_id
        (secret,) = ApiKeys(connection, settings).webhook_secrets("ann")
        assert Webhook(secret).verify(request.body, request.headers) == json.loads(got(hooks, delivery_id).payload)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(request.body + b" ", request.headers)
        other = ApiKeys(connection, settings).rotate_webhook_secret("bob")
        with pytest.raises(WebhookVerificationError):
            Webhook(other).verify(request.body, request.headers)

    def test_two_live_secrets_give_two_signatures(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, connection: redis.Redis, receiver: Any
    ) -> None:
        keys = ApiKeys(connection, settings)
        (old,) = keys.webhook_secrets("ann")
        delivery_id = announced(jobs, settings, receiver)
        new = keys.rotate_webhook_secret("ann")
        hooks.attempt(delivery_id, 1, outbound)
        (request,) = receiver.received
        assert len(request.headers["webhook-signature"].split(" ")) == 2
        for secret in (old, new):
            Webhook(secret).verify(request.body, request.headers)

    def test_the_trace_goes_with_it(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        delivery_id = announce(jobs, settings, ended(jobs, receiver, traceparent=trace))
        assert delivery_id is not None
        hooks.attempt(delivery_id, 1, outbound)
        assert receiver.received[0].headers["traceparent"] == trace

    def test_each_try_has_the_same_id_and_body_and_its_own_time(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver.answers = [(500, {}, b""), (200, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        wait = hooks.attempt(delivery_id, 1, outbound)
        assert wait is not None
        assert 5 <= wait <= 6
        later = datetime.now(UTC) + timedelta(seconds=wait)
        monkeypatch.setattr(deliveries, "datetime", _Clock(later))
        assert hooks.attempt(delivery_id, 1, outbound) is None
        first, second = receiver.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        assert int(second.headers["webhook-timestamp"]) == int(later.timestamp())
        assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
        assert first.headers["webhook-signature"] != second.headers["webhook-signature"]

    @pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 429, 500, 503])
    def test_anything_but_2xx_is_tried_again(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, status: int
    ) -> None:
        receiver.answers = [(status, {"location": f"{receiver.url}/elsewhere"}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        assert hooks.attempt(delivery_id, 1, outbound) is not None
        delivery = got(hooks, delivery_id)
        assert (delivery.state, delivery.tries) == (Outcome.pending, 1)
        assert delivery.next_at is not None
        assert [(one.status, one.error) for one in delivery.log] == [(status, None)]
        assert len(receiver.received) == 1

    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_every_2xx_is_delivered(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, status: int
    ) -> None:
        receiver.answers = [(status, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        assert hooks.attempt(delivery_id, 1, outbound) is None
        delivery = got(hooks, delivery_id)
        assert (delivery.state, delivery.next_at) == (Outcome.delivered, None)
        assert hooks.attempt(delivery_id, 1, outbound) is None
        assert len(receiver.received) == 1

    def test_no_answer_is_logged_by_its_kind_and_without_an_address(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)
        elsewhere = Outbound(["127.0.0.1"], dial=_refuse)
        hooks.attempt(delivery_id, 1, elsewhere)
        hooks.redrive(delivery_id)
        hooks.attempt(delivery_id, 2, Outbound())
        delivery = got(hooks, delivery_id)
        assert [(one.status, one.error) for one in delivery.log] == [(None, "unreachable"), (None, "url-refused")]
        assert all(one.ms >= 0 and one.at > 0 for one in delivery.log)
        logged = str(hooks.redis.lrange(f"hooks:delivery-log:{delivery_id}", 0, -1))
        assert "10.9.8.7" not in logged
        assert "refused by" not in logged

    def test_retry_after_is_honoured(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        receiver.answers = [(503, {"retry-after": "120"}, b"")]
        assert hooks.attempt(announced(jobs, settings, receiver), 1, outbound) == 120

    def test_the_schedule_ends(self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any) -> None:
        receiver.answers = [(500, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        waits = [hooks.attempt(delivery_id, 1, outbound) for _ in SCHEDULE]
        assert waits.pop() is None
        for wait, planned in zip(waits, SCHEDULE[1:], strict=True):
            assert wait is not None
            assert planned <= wait <= 1.1 * planned + 1
        assert got(hooks, delivery_id).state is Outcome.failed
        assert len(receiver.received) == len(SCHEDULE)
        assert hooks.attempt(delivery_id, 1, outbound) is None
        assert len(receiver.received) == len(SCHEDULE)

    def test_a_try_that_kills_its_process_is_spent(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        def dies(host: str, port: int, seconds: float) -> Any:
            raise MemoryError

        delivery_id = announced(jobs, settings, receiver)
        for _ in SCHEDULE:
            with pytest.raises(MemoryError):
                hooks.attempt(delivery_id, 1, Outbound(["127.0.0.1"], dial=dies))
        assert hooks.attempt(delivery_id, 1, outbound) is None
        assert got(hooks, delivery_id).state is Outcome.failed
        assert receiver.received == []

    def test_tries_are_counted(self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any) -> None:
        receiver.answers = [(500, {}, b""), (200, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        hooks.attempt(delivery_id, 1, outbound)
        hooks.attempt(delivery_id, 1, outbound)
        counters = jobs.counters()
        assert counters['webhook_deliveries_total{result="retried"}'] == 1
        assert counters['webhook_deliveries_total{result="delivered"}'] == 1


class TestTurns:
    """Each owner has two places; what else it has due waits in a line of its own."""

    def events(self, jobs: Jobs, settings: ServiceSettings, receiver: Any, owner: str, count: int) -> list[str]:
        found = [announce(jobs, settings, ended(jobs, receiver, owner=owner)) for _ in range(count)]
        return [one for one in found if one is not None]

    def test_rq_has_two_of_each_owner_in_turns(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        many = self.events(jobs, settings, receiver, "ann", 5)
        one = self.events(jobs, settings, receiver, "bob", 1)
        assert queued(hooks) == [f"{name}-1" for name in (*many[:2], *one)]

    def test_a_place_that_is_given_back_goes_to_who_waited_longest(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        many = self.events(jobs, settings, receiver, "ann", 5)
        for done in range(5):
            assert queued(hooks) == [f"{name}-1" for name in many[done : done + 2]]
            hooks.queue.remove(f"{many[done]}-1")
            assert hooks.attempt(many[done], 1, outbound) is None
        assert [request.headers["webhook-id"] for request in receiver.received] == many
        assert not [*hooks.redis.scan_iter("hooks:webhook-line:*"), *hooks.redis.scan_iter("hooks:webhook-at-work:*")]

    @pytest.mark.parametrize("ending", ["settled", "put off", "over"])
    def test_however_a_try_ends_its_place_is_given_back(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, ending: str
    ) -> None:
        first, second, third = self.events(jobs, settings, receiver, "ann", 3)
        if ending == "settled":
            receiver.answers = [(500, {}, b"")]
            assert hooks.attempt(first, 1, outbound) is not None
        elif ending == "put off":
            hooks.redis.set(f"hooks:webhook-resting:{_host(hooks, first)}", 1, ex=30)
            assert hooks.attempt(first, 1, outbound) == 30
        else:
            hooks.redis.hset(f"hooks:delivery:{first}", "state", "disabled")
            assert hooks.attempt(first, 1, outbound) is None
        assert queued(hooks) == [f"{name}-1" for name in (first, second, third)]

    def test_an_old_run_leaves_the_place_to_the_live_one(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        many = self.events(jobs, settings, receiver, "ann", 3)
        assert hooks.attempt(many[0], 7, outbound) is None
        assert queued(hooks) == [f"{name}-1" for name in many[:2]]

    def test_a_try_that_rq_brings_by_itself_waits_in_line_too(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        """As one that RQ's scheduler had, when two others are at work."""
        _, second, third = self.events(jobs, settings, receiver, "ann", 3)
        assert hooks.attempt(third, 1, outbound) is None
        assert (receiver.received, got(hooks, third).spent) == ([], 0)
        hooks.attempt(second, 1, outbound)
        assert queued(hooks)[-1] == f"{third}-1"
        hooks.attempt(third, 1, outbound)
        assert got(hooks, third).state is Outcome.delivered

    def test_a_process_that_dies_keeps_its_place_for_a_lease(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        many = self.events(jobs, settings, receiver, "ann", 3)
        hooks.queue.empty()
        assert hooks.sweep() == 0
        hooks.redis.zadd("hooks:webhook-at-work:ann", dict.fromkeys(many[:2], 1))  # as a minute later
        hooks.redis.zadd("hooks:deliveries-due", dict.fromkeys(many, 1))
        hooks.sweep()
        assert len(queued(hooks)) == 2
        for _ in range(3):
            name, _, run = queued(hooks)[0].rpartition("-")
            hooks.queue.remove(f"{name}-{run}")
            hooks.attempt(name, int(run), outbound)
        assert sorted(request.headers["webhook-id"] for request in receiver.received) == sorted(many)

    def test_a_line_goes_on_when_those_at_work_died_as_their_tries_were_over(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many = self.events(jobs, settings, receiver, "ann", 5)
        with monkeypatch.context() as dying:
            dying.setattr(Webhooks, "_leave", lambda *_: None)
            for name in many[:2]:
                hooks.attempt(name, 1, outbound)
        hooks.queue.empty()
        seconds, _ = hooks.redis.time()
        listed: Any = hooks.redis.zrange("hooks:deliveries-due", 0, -1, withscores=True)
        due = dict(listed)
        soon = [name for name in many if due.get(name.encode(), 1e12) <= seconds + 61]
        assert soon == many[2:4], "who is first in line, and not all who are"
        hooks.redis.zadd("hooks:webhook-at-work:ann", dict.fromkeys(many[:2], 1))
        hooks.redis.zadd("hooks:deliveries-due", dict.fromkeys(soon, 1))
        assert hooks.sweep() == 2
        while queued(hooks):
            name, _, run = queued(hooks)[0].rpartition("-")
            hooks.queue.remove(f"{name}-{run}")
            hooks.attempt(name, int(run), outbound)
        assert sorted(request.headers["webhook-id"] for request in receiver.received) == sorted(many)

    def test_a_deleted_job_gives_its_place_back(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        first, second, third = self.events(jobs, settings, receiver, "ann", 3)
        hooks.forget(got(hooks, first).job)
        assert queued(hooks) == [f"{second}-1", f"{third}-1"]


def _host(hooks: Webhooks, delivery_id: str) -> str:
    found = hooks.redis.hget(f"hooks:delivery:{delivery_id}", "host")
    assert isinstance(found, bytes)
    return found.decode()


class TestReceivers:
    """Who has answered has more time; who was silent is known by the address that was connected to."""

    names = ("a.example", "b.example", "A.example.")

    def hook(self, jobs: Jobs, settings: ServiceSettings, receiver: Any, name: str) -> str:
        hook = {"url": f"http://{name}:{receiver.server_port}/hook", "events": EVENTS}
        delivery_id = announce(jobs, settings, ended(jobs, receiver, webhook=hook))
        assert delivery_id is not None
        return delivery_id

    def test_a_silent_address_rests_under_every_name_that_leads_to_it(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        dialled: list[str] = []

        def dial(address: str, port: int, seconds: float) -> Any:
            dialled.append(address)
            raise ConnectionRefusedError

        silent = Outbound(self.names, resolve=lambda host, port: ["127.0.0.1"], dial=dial)
        first, *others = (self.hook(jobs, settings, receiver, name) for name in self.names)
        hooks.attempt(first, 1, silent)
        for other in others:
            wait = hooks.attempt(other, 1, silent)
            assert wait is not None
            assert 25 <= wait <= 30
            assert (got(hooks, other).spent, got(hooks, other).tries) == (0, 0)
        assert dialled == ["127.0.0.1"]
        hooks.redrive(first)
        hooks.attempt(first, 2, silent)
        assert len(dialled) == 2, "a redrive wakes the address too"

    def test_what_was_put_off_before_it_was_sent_was_seen_by_nobody(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        way = Outbound(self.names, resolve=lambda host, port: ["127.0.0.1"], dial=_refuse)
        first, second = (self.hook(jobs, settings, receiver, name) for name in self.names[:2])
        hooks.attempt(first, 1, way)
        assert hooks.redis.hget(f"hooks:delivery:{first}", "begun") == b"1"
        assert hooks.attempt(second, 1, way) is not None
        assert hooks.redis.hget(f"hooks:delivery:{second}", "begun") is None

    def test_an_address_pays_for_no_try_that_did_not_reach_it(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        def nowhere(host: str, port: int) -> list[str]:
            raise OSError("no such host")

        receiver.answers = [(500, {}, b"")]
        delivery_id = self.hook(jobs, settings, receiver, self.names[0])
        hooks.attempt(delivery_id, 1, Outbound(self.names, resolve=lambda host, port: ["127.0.0.1"]))
        hooks.attempt(delivery_id, 1, Outbound(self.names, resolve=nowhere))
        assert len(list(hooks.redis.scan_iter("hooks:webhook-resting:*"))) == 1, "the name alone"

    def test_another_owner_and_another_port_do_not_wait(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        way = Outbound(self.names, resolve=lambda host, port: ["127.0.0.1"])
        refusing = Outbound(self.names, resolve=lambda host, port: ["127.0.0.1"], dial=_refuse)
        hooks.attempt(self.hook(jobs, settings, receiver, self.names[0]), 1, refusing)
        hook = {"url": f"http://{self.names[0]}:{receiver.server_port}/", "events": EVENTS}
        theirs = announce(jobs, settings, ended(jobs, receiver, webhook=hook, owner="bob"))
        assert theirs is not None
        assert hooks.attempt(theirs, 1, way) is None
        assert got(hooks, theirs).state is Outcome.delivered

    def test_one_that_was_never_heard_has_less_time(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        given: list[float] = []

        class Timed(Outbound):
            def post(self, target: Target, body: bytes, headers: dict[str, str], **more: Any) -> Any:
                given.append(more["timeout"])
                return outbound.post(target, body, headers, **more)

        receiver.answers = [(500, {}, b""), (200, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        for _ in range(2):
            hooks.attempt(delivery_id, 1, Timed())
        assert given == [deliveries.FIRST_TIMEOUT, deliveries.TIMEOUT]


class TestSilence:
    """A host that does not answer costs every try its whole time-out."""

    silent = Outbound(["127.0.0.1"], dial=_refuse)

    def test_its_other_events_wait_without_being_tried(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        first, second = announced(jobs, settings, receiver), announced(jobs, settings, receiver)
        hooks.attempt(first, 1, self.silent)
        wait = hooks.attempt(second, 1, outbound)
        assert wait is not None
        assert 25 <= wait <= 30
        delivery = got(hooks, second)
        assert (delivery.state, delivery.spent, delivery.tries) == (Outcome.pending, 0, 0)
        assert delivery.next_at is not None
        assert receiver.received == []

    def test_it_is_left_alone_longer_each_time_up_to_five_minutes(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)
        rests = []
        for _ in range(6):
            hooks.attempt(delivery_id, 1, self.silent)
            (key,) = hooks.redis.scan_iter("hooks:webhook-resting:*")
            rests.append(hooks.redis.ttl(key))
            hooks.redis.delete(key)
        for rest, expected in zip(rests, [30, 60, 120, 240, 300, 300], strict=True):
            assert expected - 5 <= rest <= expected

    def test_other_hosts_and_owners_do_not_wait(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        hooks.attempt(announced(jobs, settings, receiver), 1, self.silent)
        elsewhere = {"url": f"{receiver.url.replace('127.0.0.1', 'localhost')}/hook", "events": EVENTS}
        for changes in ({"owner": "bob"}, {"webhook": elsewhere}):
            delivery_id = announce(jobs, settings, ended(jobs, receiver, **changes))
            assert delivery_id is not None
            hooks.attempt(delivery_id, 1, self.silent)
            assert got(hooks, delivery_id).tries == 1

    def test_any_answer_ends_it(self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any) -> None:
        receiver.answers = [(500, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        for _ in range(2):
            for way in (self.silent, outbound, self.silent):
                hooks.attempt(delivery_id, 1, way)
                rests = [hooks.redis.ttl(key) for key in hooks.redis.scan_iter("hooks:webhook-resting:*")]
                assert rests == ([] if way is outbound else [pytest.approx(30, abs=5)])
                for key in hooks.redis.scan_iter("hooks:webhook-resting:*"):
                    hooks.redis.delete(key)
            hooks.attempt(delivery_id, 1, outbound)

    def test_a_redrive_does_not_wait(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)
        hooks.attempt(delivery_id, 1, self.silent)
        hooks.redrive(delivery_id)
        assert hooks.attempt(delivery_id, 2, outbound) is None
        assert got(hooks, delivery_id).state is Outcome.delivered


class TestGone:
    def test_410_disables_the_url_for_its_owner(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        waiting = announced(jobs, settings, receiver)
        receiver.answers = [(410, {}, b"")]
        gone = announced(jobs, settings, receiver)
        assert hooks.attempt(gone, 1, outbound) is None
        assert got(hooks, gone).state is Outcome.disabled

        assert hooks.attempt(waiting, 1, outbound) is None
        assert got(hooks, waiting).state is Outcome.disabled
        before = queued(hooks)
        later = announced(jobs, settings, receiver)
        assert got(hooks, later).state is Outcome.disabled
        assert queued(hooks) == before
        assert len(receiver.received) == 1

        other = announce(jobs, settings, ended(jobs, receiver, owner="bob"))
        assert other is not None
        assert got(hooks, other).state is Outcome.pending

    def test_a_redrive_enables_it_again(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        receiver.answers = [(410, {}, b""), (200, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        hooks.attempt(delivery_id, 1, outbound)
        assert hooks.redrive(delivery_id).run == 2
        assert hooks.attempt(delivery_id, 2, outbound) is None
        assert got(hooks, delivery_id).state is Outcome.delivered
        assert got(hooks, announced(jobs, settings, receiver)).state is Outcome.pending


class TestRedrive:
    def test_a_redrive_has_the_whole_schedule_before_it(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        receiver.answers = [(500, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        for _ in SCHEDULE:
            hooks.attempt(delivery_id, 1, outbound)
        delivery = hooks.redrive(delivery_id, "ann")
        assert (delivery.state, delivery.spent, delivery.next_at) == (Outcome.pending, 0, None)
        assert queued(hooks) == [f"{delivery_id}-1", f"{delivery_id}-2"]
        wait = hooks.attempt(delivery_id, 2, outbound)
        assert wait is not None
        assert 5 <= wait <= 6
        assert got(hooks, delivery_id).tries == len(SCHEDULE) + 1

    def test_the_run_before_it_does_nothing(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)
        hooks.redrive(delivery_id)
        assert hooks.attempt(delivery_id, 1, outbound) is None
        assert receiver.received == []

    def test_a_redrive_during_a_try_stands(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)

        class Meanwhile(Outbound):
            def post(self, target: Target, body: bytes, headers: dict[str, str], **more: Any) -> Any:
                hooks.redrive(delivery_id)
                return outbound.post(target, body, headers, **more)

        receiver.answers = [(500, {}, b"")]
        assert hooks.attempt(delivery_id, 1, Meanwhile()) is None
        delivery = got(hooks, delivery_id)
        assert (delivery.state, delivery.run, delivery.spent, len(delivery.log)) == (Outcome.pending, 2, 0, 1)

    def test_not_somebody_elses(self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any) -> None:
        delivery_id = announced(jobs, settings, receiver)
        with pytest.raises(DeliveryMissing):
            hooks.redrive(delivery_id, "bob")
        with pytest.raises(DeliveryMissing):
            hooks.redrive("msg_none")
        assert got(hooks, delivery_id).run == 1


class TestOrder:
    """Two events of one job: it failed, was redriven, and succeeded."""

    def both(self, jobs: Jobs, hooks: Webhooks, settings: ServiceSettings, receiver: Any) -> tuple[str, str, Job]:
        """Ids of the first event, which was tried and not taken, and of the second one, just announced."""
        job = ended(jobs, receiver, "failed")
        first = announce(jobs, settings, job)
        assert first is not None
        hooks.attempt(first, 1, Outbound(["127.0.0.1"], dial=_refuse))
        hooks.redis.delete(*hooks.redis.keys("hooks:webhook-resting:*"))
        hooks.queue.empty()
        again = jobs.redrive(job.id)
        jobs.start(job.id, again.attempt, "horse")
        done = jobs.succeed(job.id, again.attempt, {})
        second = announce(jobs, settings, done)
        assert second is not None
        return first, second, done

    def test_a_later_event_waits_for_the_earlier_one_which_is_tried_at_once(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        first, second, _ = self.both(jobs, hooks, settings, receiver)
        assert queued(hooks) == [f"{first}-2", f"{second}-1"], "not at the end of its pause"
        wait = hooks.attempt(second, 1, outbound)
        assert wait is not None
        assert wait > 0
        assert (got(hooks, second).spent, receiver.received) == (0, [])
        hooks.queue.empty()
        assert hooks.attempt(first, 2, outbound) is None
        assert queued(hooks) == [f"{second}-2"], "its turn has come"
        assert hooks.attempt(second, 2, outbound) is None
        assert [got(hooks, one).state for one in (first, second)] == [Outcome.delivered, Outcome.delivered]
        assert [one.headers["webhook-id"] for one in receiver.received] == [first, second]

    def test_a_later_event_is_sent_when_the_earlier_one_was_given_up(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        receiver.answers = [(500, {}, b"")] * (len(SCHEDULE) - 1) + [(200, {}, b"")]
        first, second, _ = self.both(jobs, hooks, settings, receiver)
        for _ in SCHEDULE[1:]:
            assert hooks.attempt(second, 1, outbound) is not None
            hooks.attempt(first, 2, outbound)
        assert got(hooks, first).state is Outcome.failed
        assert hooks.attempt(second, got(hooks, second).run, outbound) is None
        assert got(hooks, second).state is Outcome.delivered

    def test_a_later_event_waits_for_a_try_on_its_way(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        first, second, _ = self.both(jobs, hooks, settings, receiver)
        waits: list[int | None] = []

        class Meanwhile(Outbound):
            def post(self, target: Target, body: bytes, headers: dict[str, str], **more: Any) -> Any:
                waits.append(hooks.attempt(second, 1, outbound))
                return outbound.post(target, body, headers, **more)

        hooks.attempt(first, 2, Meanwhile())
        assert waits[0] is not None
        assert [one.headers["webhook-id"] for one in receiver.received] == [first]

    def test_an_earlier_event_is_never_sent_after_a_later_one(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        first, second, _ = self.both(jobs, hooks, settings, receiver)
        receiver.answers = [(410, {}, b""), (200, {}, b"")]
        hooks.attempt(first, 2, outbound)
        hooks.redrive(second)
        assert hooks.attempt(second, got(hooks, second).run, outbound) is None
        hooks.redrive(first)
        assert hooks.attempt(first, got(hooks, first).run, outbound) is None
        assert [got(hooks, one).state for one in (first, second)] == [Outcome.superseded, Outcome.delivered]
        assert [one.headers["webhook-id"] for one in receiver.received] == [first, second]


class TestListing:
    def test_newest_first_in_pages(self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any) -> None:
        made = [announced(jobs, settings, receiver) for _ in range(5)]
        stamps = {one.id: int(one.created_at * 1000) for one in hooks.deliveries("ann", 10).deliveries}
        expected = sorted(made, key=lambda one: (stamps[one], one), reverse=True)
        seen: list[str] = []
        cursor = None
        for size in (2, 2, 1):
            page = hooks.deliveries("ann", 2, cursor)
            assert len(page.deliveries) == size
            seen += [one.id for one in page.deliveries]
            cursor = page.next_cursor
        assert cursor is None
        assert seen == expected

    def test_by_owner_or_all(self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any) -> None:
        announced(jobs, settings, receiver)
        announce(jobs, settings, ended(jobs, receiver, owner="bob"))
        assert [one.owner for one in hooks.deliveries("bob", 10).deliveries] == ["bob"]
        assert {one.owner for one in hooks.deliveries(None, 10).deliveries} == {"ann", "bob"}
        assert hooks.deliveries("carol", 10).deliveries == ()

    def test_old_ones_are_no_longer_listed(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, connection: redis.Redis
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)
        month_ago = int((datetime.now(UTC) - timedelta(days=31)).timestamp() * 1000)
        connection.zadd("hooks:deliveries:of:ann", {f"{month_ago:013d}.msg_old": 0})
        assert [one.id for one in hooks.deliveries("ann", 10).deliveries] == [delivery_id]
        assert connection.zcard("hooks:deliveries:of:ann") == 1

    def test_nothing_is_kept_for_ever(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any, connection: redis.Redis
    ) -> None:
        receiver.answers = [(410, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        hooks.attempt(delivery_id, 1, outbound)
        kept = [key for key in connection.scan_iter("hooks:*deliver*") if connection.ttl(key) == -1]
        kept += [key for key in connection.scan_iter("hooks:webhook-closed*") if connection.ttl(key) == -1]
        assert sorted(kept) == [b"hooks:deliveries:all", b"hooks:deliveries:of:ann"]


class TestSweep:
    """`due` moves a delivery's time into the past, as if it had passed."""

    def due(self, hooks: Webhooks) -> None:
        members: Any = hooks.redis.zrange("hooks:deliveries-due", 0, -1)
        for member in members:
            hooks.redis.zadd("hooks:deliveries-due", {member: 1})

    def test_what_rq_lost_is_put_back(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        delivery_id = announced(jobs, settings, receiver)
        hooks.queue.empty()
        assert hooks.sweep() == 0
        self.due(hooks)
        assert hooks.sweep() == 1
        assert queued(hooks) == [f"{delivery_id}-2"]
        assert hooks.sweep() == 0
        assert hooks.attempt(delivery_id, 2, outbound) is None
        assert len(receiver.received) == 1

    def test_what_waits_in_a_long_queue_keeps_its_place(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        first, second = announced(jobs, settings, receiver), announced(jobs, settings, receiver)
        self.due(hooks)
        assert hooks.sweep() == 0
        assert queued(hooks) == [f"{first}-1", f"{second}-1"]

    def test_what_the_scheduler_holds_is_not_lost_until_it_forgets(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        receiver.answers = [(500, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        hooks.attempt(delivery_id, 1, outbound)
        hooks.queue.empty()
        scheduled = ScheduledJobRegistry(queue=hooks.queue)
        for moment, swept in ((datetime.now(UTC) + timedelta(hours=1), 0), (datetime.now(UTC) - timedelta(hours=1), 1)):
            hooks.redis.zadd(scheduled.key, {f"{delivery_id}-1": moment.timestamp()})
            self.due(hooks)
            assert hooks.sweep() == swept

    def test_a_wait_for_the_next_try_is_not_overdue(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        receiver.answers = [(503, {"retry-after": "5000"}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        hooks.attempt(delivery_id, 1, outbound)
        next_at = got(hooks, delivery_id).next_at
        assert next_at is not None
        assert hooks.redis.zscore("hooks:deliveries-due", delivery_id) == pytest.approx(next_at + 60, abs=0.01)

    def test_a_worker_that_died_between_try_and_retry(
        self, jobs: Jobs, settings: ServiceSettings, hooks: Webhooks, receiver: Any
    ) -> None:
        receiver.answers = [(500, {}, b"")]
        delivery_id = announced(jobs, settings, receiver)
        hooks.attempt(delivery_id, 1, outbound)
        hooks.queue.empty()
        assert hooks.sweep() == 0
        self.due(hooks)
        assert hooks.sweep() == 1
        delivery = got(hooks, delivery_id)
        assert (delivery.run, delivery.spent) == (2, 1)

    def test_a_delivery_that_is_gone_is_forgotten(self, hooks: Webhooks) -> None:
        hooks.redis.zadd("hooks:deliveries-due", {"msg_gone": 1})
        assert hooks.sweep() == 0
        assert hooks.redis.zcard("hooks:deliveries-due") == 0


def test_judging() -> None:
    assert judge(204, 1, 0) == ("delivered", 0)
    assert judge(410, 1, 0) == ("disabled", 0)
    assert judge(None, len(SCHEDULE), 0) == ("failed", 0)
    assert judge(503, 1, 10**8) == ("retried", MAX_RETRY_AFTER)
    result, wait = judge(503, len(SCHEDULE) - 1, 60)
    assert result == "retried"
    assert wait >= SCHEDULE[-1]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", 0), ("7", 7), (" 30 ", 30), ("-5", 0), ("soon", 0), ("٣", 0), ("1.5", 0), ("9" * 400, 999_999_999)],
)
def test_retry_after_as_a_number(value: str, seconds: float) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)
    assert 3500 < retry_after(format_datetime(now + timedelta(hours=1), usegmt=True)) <= 3600
    assert retry_after(format_datetime(now - timedelta(hours=1), usegmt=True)) == 0
    assert retry_after("Mon, 99 Foo 2030 00:00:00 GMT") == 0


class _Clock:
    """Stands for `datetime` where the time is a given one."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self, zone: Any) -> datetime:
        return self._moment
