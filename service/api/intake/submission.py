"""From a request that is right in itself to a job in the queue: follow its images, check them, keep them, submit.

Knows nothing of HTTP. Everything here may take seconds (a download, a decode, an upload): call it from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from mpd.methods import METHODS, SettingsError
from service.api.caller_semaphores import ThreadCallerSemaphore
from service.api.intake import data_uris, estimate, keyframe_check, limits
from service.api.intake.byte_budget import ThreadByteBudget
from service.api.intake.idempotency import in_flight
from service.api.intake.quoted import Quoted
from service.api.intake.request_body import ReceivedImage, Wanted
from service.fleet import engines
from service.fleet.engines import Engine
from service.jobs import accepted, capacity, replay
from service.jobs.record import Allowance, Job, Lane, NewJob, Refused, files_prefix
from service.jobs.store import Jobs
from service.jobs.uploads import UPLOAD_PREFIX, Uploads
from service.observe import tracing
from service.outbound.client import HostRefused, Outbound, OutboundError, TooLarge, UrlRefused
from service.outbound.target import Target
from service.problems import Problem
from service.settings import ServiceSettings
from service.storage import ObjectDamaged, Storage
from service.validation import from_settings

FETCH_SECONDS = 60.0
"""For all URLs of one request together."""

RESERVED_SECONDS = 3600.0
"""Until files that never became a job's are erased: far longer than a request can take."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Submission:
    """Takes requests in. One per process; threads may share it."""

    settings: ServiceSettings
    jobs: Jobs
    storage: Storage
    outbound: Outbound
    uploads: Uploads
    #: At what keeps a processor and Redis busy, which others would feel; waiting for downloads needs none.
    turns: ThreadCallerSemaphore
    #: At storing keyframes: the same turns where that keeps this machine's disk busy.
    storing: ThreadCallerSemaphore
    #: For images that did not come as bytes, while they are in hand.
    pictures: ThreadByteBudget

    def check(self, owner: str, wanted: Wanted, allowance: Allowance) -> Iterable[Callable[[], Any]]:
        """Give every check of a request that `accept` makes, each raising `Problem`: first the cheap ones."""
        yield partial(self._webhook, wanted)
        yield partial(self._check_capacity, wanted)
        yield partial(self._check_allowance, owner, wanted, allowance)
        look = _Look(owner, wanted)
        for picture in wanted.pictures:
            yield partial(self._look, look, picture)

    def accept(
        self,
        owner: str,
        wanted: Wanted,
        job_id: str,
        allowance: Allowance,
        traceparent: str | None = None,
        claim: str | None = None,
    ) -> Job:
        """Keep the keyframes, then write the job down and queue it.

        Raises `Problem` for what cannot be run, and for what is more than the allowance: that before anything is
        decoded or kept, and again, for good, as the job is written down.
        """
        webhook = self._webhook(wanted)
        engine = self._check_capacity(wanted)
        seconds = _gpu_seconds(wanted, engine)
        self._admit(owner, wanted, seconds, allowance)
        look = _Look(owner, wanted)
        keyframes = self._keep(job_id, look)
        options = wanted.options
        sources = [picture.source for picture in wanted.pictures]
        uploads = [
            one.removeprefix(UPLOAD_PREFIX) for one in sources if isinstance(one, str) and one.startswith(UPLOAD_PREFIX)
        ]
        new = NewJob(
            id=job_id,
            owner=owner,
            options=options.normalised(wanted.positions),
            keyframes=keyframes,
            lane=_lane(wanted),
            result_ttl=options.result_ttl or self.settings.result_ttl,
            priority=options.priority,
            webhook=webhook,
            traceparent=traceparent,
            gpu_seconds=seconds,
            uploads=uploads,
            size=capacity.frame_size(wanted.settings, engine, look.size),
        )
        tracing.note(job=job_id, method=wanted.settings.method)
        with self.turns.of(owner):
            return self._submit(new, allowance, claim)

    def _submit(self, new: NewJob, allowance: Allowance, claim: str | None) -> Job:
        try:
            return self.jobs.submit(new, allowance, claim)
        except Refused as refused:
            # Between `_admit` and here others took what was left, or the request's repetition its place.
            self.jobs.abandon_files(new.id)
            if refused.reason == "taken-over":
                raise in_flight() from None
            raise self._refusal(refused, new.lane, new.gpu_seconds, allowance) from None

    def _admit(self, owner: str, wanted: Wanted, seconds: float | None, allowance: Allowance) -> None:
        limits.check_alone(seconds, allowance)
        lane = _lane(wanted)
        try:
            self.jobs.admit(owner, lane, seconds, allowance)
        except Refused as refused:
            raise self._refusal(refused, lane, seconds, allowance) from None

    def _refusal(self, refused: Refused, lane: Lane, seconds: float | None, allowance: Allowance) -> Problem:
        wait = None
        if refused.reason == "queue-full":
            wait = estimate.room(self.jobs, lane, engines.live(self.jobs.redis, self.settings))
        return limits.refusal(refused, allowance, seconds, wait)

    def _keep(self, job_id: str, look: _Look) -> list[dict[str, Any]]:
        """Look at every keyframe, then keep it, and give what the record says of each.

        What was sent with the request can be had again, so that nothing is kept before all of it was looked at. What
        lies elsewhere may be another file by then, or take long to come: it is kept at once. One is in hand at a time.
        """
        keyframes: list[dict[str, Any]] = []
        kept: set[int] = set()
        try:
            for number, picture in enumerate(look.wanted.pictures):
                with self._in_hand(look, picture) as data:
                    info = self._inspect(look, picture, data)
                    keyframes.append(_keyframe(job_id, number, info))
                    if not picture.enclosed:
                        self._store(job_id, look.owner, keyframes[number], data, not kept)
                        kept.add(number)
            for number, picture in enumerate(look.wanted.pictures):
                if picture.enclosed:
                    with self._in_hand(look, picture) as data:
                        self._store(job_id, look.owner, keyframes[number], data, not kept)
                        kept.add(number)
        except Exception:
            # No job will ever name these files. After `submit` they stay whatever happens: it may have gone through.
            # Storage may have just failed, so it is not the caller who waits for it once more.
            if kept or len(keyframes) == len(look.wanted.pictures):
                self.jobs.abandon_files(job_id)
            raise
        return keyframes

    def _store(self, job_id: str, owner: str, keyframe: dict[str, Any], data: bytes, first: bool) -> None:
        if first:
            # Should this process die before `submit`, the keeper finds the files here.
            self.jobs.reserve_files(job_id, RESERVED_SECONDS)
        with self.storing.of(owner):
            self.storage.put(keyframe["key"], data, keyframe["content_type"])

    def _webhook(self, wanted: Wanted) -> dict[str, Any] | None:
        """Give what the record keeps of the webhook: its URL as it was read, so that nobody reads the text again."""
        webhook = wanted.options.webhook
        if webhook is None:
            return None
        target = _target(self.outbound, webhook.url, "options.webhook.url")
        return {"url": target.url, "target": target.to_json(), "events": list(webhook.events)}

    def _check_capacity(self, wanted: Wanted) -> Engine | None:
        live = engines.live(self.jobs.redis, self.settings)
        return capacity.check(wanted.settings, len(wanted.pictures), live, self.settings, wanted.options.formats)

    def _check_allowance(self, owner: str, wanted: Wanted, allowance: Allowance) -> None:
        try:
            engine = self._check_capacity(wanted)
        except Problem:
            # A check of its own says so; what the job would take is then not known.
            engine = None
        self._admit(owner, wanted, _gpu_seconds(wanted, engine), allowance)

    def _look(self, look: _Look, picture: ReceivedImage) -> None:
        with self._in_hand(look, picture) as data:
            self._inspect(look, picture, data)

    def _inspect(self, look: _Look, picture: ReceivedImage, data: bytes) -> keyframe_check.ImageInfo:
        with self.turns.of(look.owner):
            info = keyframe_check.inspect(data, self.settings, field=picture.field, others=look.pixels)
        look.pixels += info.width * info.height
        if picture.sha256 not in (None, info.sha256):
            raise Problem(422, "keyframe-mismatch", f"The image's SHA-256 is {info.sha256}.", field=picture.field)
        if picture is look.wanted.pictures[0]:
            look.size = info.width, info.height
            count, formats = len(look.wanted.pictures), look.wanted.options.formats
            capacity.check_picture(look.wanted.settings, count, look.size, self.settings, formats)
        return info

    @contextmanager
    def _in_hand(self, look: _Look, picture: ReceivedImage) -> Iterator[bytes]:
        """Hold the image's bytes, with room for them where they did not come as such."""
        if isinstance(picture.source, bytes):
            yield picture.source
            return
        with self.pictures.of(look.owner) as hold:
            yield self._bytes(look, picture, picture.source, hold.reach)

    def _bytes(
        self, look: _Look, picture: ReceivedImage, source: str | Quoted, holding: Callable[[int], None]
    ) -> bytes:
        if data_uris.is_data_uri(source):
            holding(min(len(source) * 3 // 4, self.settings.max_image_bytes))
            return data_uris.decode(source, self.settings, field=picture.field)
        if isinstance(source, Quoted):
            detail = f"This text of {len(source):,} bytes is neither an image nor a URL of one."
            raise Problem(422, "invalid-url", detail, field=picture.field)
        if source.startswith(UPLOAD_PREFIX):
            return self.uploads.read(look.owner, source, picture.field, holding)
        if source.startswith(replay.JOB_PREFIX):
            return self._of_a_job(look.owner, source, picture.field, holding)
        return self._fetched(_target(self.outbound, source, picture.field), picture.field, look.deadline, holding)

    def _of_a_job(self, owner: str, reference: str, field: str, holding: Callable[[int], None]) -> bytes:
        """Read a keyframe that a job of the same owner was given."""
        found = replay.parse(reference)
        job = self.jobs.get(found[0]) if found else None
        if found is None or job is None or job.owner != owner or found[1] >= len(job.keyframes):
            raise Problem(422, "keyframe-not-found", f"There is no {reference[:80]}.", field=field)
        keyframe = job.keyframes[found[1]]
        holding(keyframe.get("size", self.settings.max_image_bytes))
        try:
            return accepted.read(self.storage, keyframe)
        except ObjectDamaged as damage:
            kept = self.jobs.get(found[0])
            if kept is None or not kept.keyframes:
                raise Problem(422, "keyframe-not-found", "The job's files were erased.", field=field) from None
            log.error("a keyframe is not what was accepted", job=found[0], error=str(damage))
            detail = f"The storage does not have {reference} as it was accepted."
            raise Problem(500, "keyframe-lost", detail, field=field) from None

    def _fetched(self, target: Target, field: str, deadline: float, holding: Callable[[int], None]) -> bytes:
        most = self.settings.max_image_bytes
        remedy = "Check that the URL answers with the image itself, or send the image in the request."
        left = deadline - time.monotonic()
        if left <= 0:
            detail = f"The keyframes' URLs took longer than {FETCH_SECONDS:g} seconds together."
            raise Problem(422, "fetch-failed", detail, field=field, remedy=remedy)
        try:
            return self.outbound.fetch(target, max_bytes=most, timeout=min(20.0, left), holding=holding).body
        except HostRefused as error:
            raise _refused_url(error, field) from None
        except TooLarge as error:
            remedy = f"Send an image of at most {most} bytes."
            raise Problem(413, "image-too-large", _said(error), field=field, remedy=remedy) from None
        except OutboundError as error:
            raise Problem(422, "fetch-failed", _said(error), field=field, remedy=remedy) from None


@dataclass
class _Look:
    """A look at one request's images."""

    owner: str
    wanted: Wanted
    #: Of those that were seen.
    pixels: int = 0
    #: Of the first, as it is seen.
    size: tuple[int, int] = (0, 0)
    deadline: float = field(default_factory=lambda: time.monotonic() + FETCH_SECONDS)


def _keyframe(job_id: str, number: int, info: keyframe_check.ImageInfo) -> dict[str, Any]:
    return {
        "key": f"{files_prefix(job_id)}keyframes/{number}{keyframe_check.ENDINGS[info.format]}",
        "content_type": info.content_type,
        "width": info.width,
        "height": info.height,
        "sha256": info.sha256,
        "size": info.size,
    }


def _lane(wanted: Wanted) -> Lane:
    return "gpu" if METHODS[wanted.settings.method].needs_model else "cpu"


def _gpu_seconds(wanted: Wanted, engine: Engine | None) -> float | None:
    try:
        return estimate.cost(wanted.settings, len(wanted.pictures), engine).gpu_seconds
    except SettingsError as error:
        raise from_settings(error) from None


def _target(outbound: Outbound, url: str, field: str) -> Target:
    try:
        return outbound.check(url)
    except UrlRefused as error:
        raise _refused_url(error, field) from None


def _refused_url(error: OutboundError, field: str) -> Problem:
    remedy = "Use a public https URL, or ask the operator to add the host to FETCH_ALLOW_HOSTS."
    return Problem(422, "invalid-url", _said(error), field=field, remedy=remedy)


def _said(error: OutboundError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
