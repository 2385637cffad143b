"""Names of everything that is kept in Redis. The Lua scripts build the same names from the same namespace."""

from __future__ import annotations

from dataclasses import dataclass

SCRIPTS_ALONE = {
    "order": "The number of the last ticket that was queued.",
    "webhook-at-work": "ZSET of an owner's tries that are at work, by when their lease ends.",
    "webhook-closed": "A receiver of an owner's that said it is gone for good; nothing is sent there for a while.",
    "webhook-heard": "A host that has answered, and when.",
    "webhook-line": "ZSET of an owner's tries that wait for others of the same owner.",
    "webhook-resting": "A host that is silent, and until when nothing is sent there.",
    "webhook-silences": "How often a host was silent in a row.",
}
"""Names that Lua alone uses."""


@dataclass(frozen=True)
class RedisKeys:
    """Name every key that a namespace has in Redis."""

    namespace: str

    def _key(self, *parts: str) -> str:
        return ":".join((self.namespace, *parts))

    def job(self, job_id: str) -> str:
        """Name the hash of a job's record."""
        return self._key("job", job_id)

    def events(self, job_id: str) -> str:
        """Name the stream of a job's events: `type` (state, progress, preview) and `data` (JSON)."""
        return self._key("events", job_id)

    def ended(self, ticket: str) -> str:
        """Name the hash of the record as an attempt left it whose end was taken back before it was told.

        See `undelivered`.
        """
        return self._key("ended", ticket)

    def queued(self, lane: str, priority: str) -> str:
        """Name the ZSET of tickets in the order of RQ's list."""
        return self._key("queued", lane, priority)

    def owned(self, owner: str, state: str | None = None) -> str:
        """Name the ZSET of ids, all with score 0: the owner's jobs, or those in one state."""
        return self._key("owned", state or "all", owner)

    def waker(self, process: str) -> str:
        """Name the stream of one API process's own, to end its wait for events."""
        return self._key("waker", process)

    @property
    def running(self) -> str:
        """ZSET of tickets; the score changes at every renewal of the lease."""
        return self._key("running")

    def running_in(self, lane: str) -> str:
        """Name the SET of the running tickets of one lane, to be counted."""
        return self._key("running", lane)

    @property
    def expiry(self) -> str:
        """ZSET of ended jobs by the time their result expires."""
        return self._key("expiry")

    @property
    def tombstones(self) -> str:
        """ZSET of expired jobs by the time their record is forgotten."""
        return self._key("tombstones")

    @property
    def erasures(self) -> str:
        """ZSET of ids whose files must go, by the time from which they can be erased for good."""
        return self._key("erasures")

    @property
    def reserved(self) -> str:
        """ZSET of those in `erasures` whose request may still make a job of them, by the time it began."""
        return self._key("reserved")

    @property
    def unerased(self) -> str:
        """ZSET of ids, those of `erasures` whose files would not go, by when they were first due."""
        return self._key("unerased")

    @property
    def dead(self) -> str:
        """ZSET of quarantined ids, all with score 0."""
        return self._key("dead")

    @property
    def undelivered(self) -> str:
        """ZSET of tickets whose final event has not been handed to webhook delivery, by the time they ended."""
        return self._key("undelivered")

    def gpu_used(self, owner: str, day: int) -> str:
        """Name the counter of the milliseconds of GPU that the owner's ended jobs took on a day.

        day: counted from 1970 in UTC.
        """
        return self._key("gpu-used", owner, str(day))

    def gpu_promised(self, owner: str) -> str:
        """Name the counter of the GPU milliseconds that the owner's queued and running jobs are estimated to take."""
        return self._key("gpu-promised", owner)

    @property
    def counters(self) -> str:
        """Hash of running totals, named as the metrics they become."""
        return self._key("counters")

    @property
    def replicated(self) -> str:
        """Written after each transition that replicas must have (`REDIS_REPLICAS`)."""
        return self._key("replicated")

    @property
    def keeper(self) -> str:
        """The lock of the keeper at work; gone seconds after it is."""
        return self._key("keeper")

    @property
    def cancel(self) -> str:
        """Pub/sub channel of tickets to cancel; a hint, the verdict of a renewal is the truth."""
        return self._key("cancel")

    @property
    def database(self) -> str:
        """Hash: which database this is, its `id` and `epoch`."""
        return self._key("database")

    @property
    def signing_key(self) -> str:
        """The secret behind signed links of a local storage."""
        return self._key("signing-key")

    @property
    def api_keys(self) -> str:
        """Hash from a secret's SHA-256 to the API key as JSON."""
        return self._key("keys")

    def webhook_secrets(self, owner: str) -> str:
        """Name the list of the secrets that sign an owner's webhooks, newest first."""
        return self._key("webhook-secrets", owner)

    @property
    def rate(self) -> str:
        """Prefix of what the rate limiter keeps."""
        return self._key("rate")

    def claim(self, owner: str, digest: str) -> str:
        """Name the JSON of the request that an Idempotency-Key of this SHA-256 stands for."""
        return self._key("idempotency", owner, digest)

    def upload(self, upload_id: str) -> str:
        """Name the JSON of what may be uploaded, and by whom."""
        return self._key("upload", upload_id)

    @property
    def uploads(self) -> str:
        """ZSET of uploads by the end of their link."""
        return self._key("uploads")

    def unused_uploads(self, owner: str) -> str:
        """Name the hash from an owner's uploads that no job has used to their size and end."""
        return self._key("unused-uploads", owner)

    def engine(self, engine_id: str) -> str:
        """Name the JSON of what an engine publishes; gone soon after its engine."""
        return self._key("engine", engine_id)

    @property
    def engines(self) -> str:
        """SET of engines' ids."""
        return self._key("engines")

    @property
    def unwell(self) -> str:
        """ZSET of workers that take no jobs, by when they last said so."""
        return self._key("unwell")

    @property
    def model(self) -> str:
        """The model that the namespace serves."""
        return self._key("model")

    @property
    def models(self) -> str:
        """ZSET of models by when an engine last served them."""
        return self._key("models")

    @property
    def models_asking(self) -> str:
        """Hash of the models that engines would serve instead, and since when."""
        return self._key("models-asking")

    def votes(self, owner: str, study: str) -> str:
        """Name the hash from a vote's name to the vote. A study's name has no colon in it, an owner's may."""
        return self._key("votes", study, owner)

    def studies(self, owner: str) -> str:
        """Name the SET of an owner's studies."""
        return self._key("studies", owner)

    def delivery(self, delivery_id: str) -> str:
        """Name the hash of one event on its way to its receiver."""
        return self._key("delivery", delivery_id)

    def delivery_log(self, delivery_id: str) -> str:
        """Name the list of the tries of a delivery, as JSON."""
        return self._key("delivery-log", delivery_id)

    def deliveries(self, owner: str | None = None) -> str:
        """Name the ZSET of deliveries by when they were made, an owner's or all."""
        return self._key("deliveries", "all") if owner is None else self._key("deliveries", "of", owner)

    @property
    def deliveries_due(self) -> str:
        """ZSET of undelivered events by when their next try is due."""
        return self._key("deliveries-due")

    def job_deliveries(self, job_id: str) -> str:
        """Name the SET of the deliveries of a job."""
        return self._key("job-deliveries", job_id)

    @property
    def webhook_queue(self) -> str:
        """Name of the RQ queue of webhook tries."""
        return f"{self.namespace}-webhooks"
