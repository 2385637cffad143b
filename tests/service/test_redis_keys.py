"""Names in Redis are what releases have in common: one that changes loses what the release before it wrote."""

from __future__ import annotations

import inspect

from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

NAMES = {
    "job": "ns:job:job_id",
    "events": "ns:events:job_id",
    "ended": "ns:ended:ticket",
    "queued": "ns:queued:lane:priority",
    "owned": "ns:owned:state:owner",
    "waker": "ns:waker:process",
    "running": "ns:running",
    "running_in": "ns:running:lane",
    "expiry": "ns:expiry",
    "tombstones": "ns:tombstones",
    "erasures": "ns:erasures",
    "reserved": "ns:reserved",
    "unerased": "ns:unerased",
    "dead": "ns:dead",
    "undelivered": "ns:undelivered",
    "gpu_used": "ns:gpu-used:owner:day",
    "gpu_promised": "ns:gpu-promised:owner",
    "counters": "ns:counters",
    "replicated": "ns:replicated",
    "keeper": "ns:keeper",
    "cancel": "ns:cancel",
    "database": "ns:database",
    "signing_key": "ns:signing-key",
    "api_keys": "ns:keys",
    "webhook_secrets": "ns:webhook-secrets:owner",
    "rate": "ns:rate",
    "claim": "ns:idempotency:owner:digest",
    "upload": "ns:upload:upload_id",
    "uploads": "ns:uploads",
    "unused_uploads": "ns:unused-uploads:owner",
    "engine": "ns:engine:engine_id",
    "engines": "ns:engines",
    "unwell": "ns:unwell",
    "model": "ns:model",
    "models": "ns:models",
    "models_asking": "ns:models-asking",
    "votes": "ns:votes:study:owner",
    "studies": "ns:studies:owner",
    "delivery": "ns:delivery:delivery_id",
    "delivery_log": "ns:delivery-log:delivery_id",
    "deliveries": "ns:deliveries:of:owner",
    "deliveries_due": "ns:deliveries-due",
    "job_deliveries": "ns:job-deliveries:job_id",
    "webhook_queue": "ns-webhooks",
}
"""Every name, with the names of its parts in place of the parts. A line is added for a new one; none is changed."""


def test_names_stay() -> None:
    keys = RedisKeys("ns")
    found = {}
    for name, member in vars(RedisKeys).items():
        if isinstance(member, property):
            found[name] = getattr(keys, name)
        elif inspect.isfunction(member) and not name.startswith("_"):
            parts = list(inspect.signature(member).parameters)[1:]
            found[name] = member(keys, *parts)
    assert found == NAMES
    assert keys.owned("owner") == "ns:owned:all:owner"
    assert keys.deliveries() == "ns:deliveries:all"


def test_queues_of_jobs_keep_their_names() -> None:
    queues = ServiceSettings(_env_file=None, namespace="ns").queues
    assert queues == {
        lane: tuple(f"ns-{lane}-{priority}" for priority in ("high", "default", "low")) for lane in ("gpu", "cpu")
    }
