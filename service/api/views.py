"""What the API answers of a record: how the models of `schemas.py` are made.

Links are absolute: `base` is the API's public base URL without a closing slash.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from service.api.schemas import (
    DeliveryView,
    FileView,
    JobView,
    KeyframeView,
    Links,
    ProblemView,
    ProgressView,
    ResultView,
    TryView,
    WebhookView,
)
from service.jobs.record import Job, State, file_key
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from service.storage import Storage
from service.webhooks.record import Delivery


def job_view(job: Job, jobs: Jobs, storage: Storage, settings: ServiceSettings, base: str) -> JobView:
    """Show the record as its owner sees it. An expired job has no view."""
    links = job_links(f"{base}/inbetween/{job.id}", finished=job.result is not None)
    progress = ProgressView.model_validate(job.progress) if job.progress and job.state is State.running else None
    return JobView(
        id=job.id,
        state=job.state.value,
        priority=job.priority,
        position=jobs.position(job) if job.state is State.queued else None,
        attempt=job.attempt,
        created_at=moment(job.created_at),
        queued_at=_moment(job.queued_at),
        started_at=_moment(job.started_at),
        finished_at=_moment(job.finished_at),
        expires_at=_moment(job.expires_at),
        options=job.options,
        keyframes=_keyframes(job, storage, settings, base),
        reference=job.options.get("reference"),
        webhook=WebhookView.model_validate(job.webhook) if job.webhook else None,
        progress=progress,
        eta=progress.eta if progress else None,
        cancel_requested=job.cancel_requested,
        result=_result(job, storage, settings, base) if job.result is not None else None,
        error=ProblemView.model_validate(job.error) if job.error is not None else None,
        quarantined=job.quarantined,
        links=links,
    )


def job_links(url: str, finished: bool) -> Links:
    """Name where to go from a job. url: the job's own. finished: whether there is a result."""
    links = Links(self=url, cancel=f"{url}/cancel", events=f"{url}/events")
    if not finished:
        return links
    return links.model_copy(
        update={
            "video": f"{url}/video",
            "poster": f"{url}/poster",
            "contact_sheet": f"{url}/files/contact-sheet.jpg",
            "metadata": f"{url}/files/metadata.json",
            "frame": f"{url}/frames/{{n}}",
        }
    )


def delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        job=delivery.job,
        event=delivery.event,
        url=delivery.url,
        state=delivery.state.value,
        tries=delivery.tries,
        created_at=moment(delivery.created_at),
        next_at=_moment(delivery.next_at),
        log=[
            TryView(at=moment(entry.at), status=entry.status, ms=entry.ms, error=entry.error) for entry in delivery.log
        ],
    )


def absolute(url: str, base: str) -> str:
    """Make a signed link one that callers can use: the local store's is a path."""
    return base + url if url.startswith("/") else url


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def _keyframes(job: Job, storage: Storage, settings: ServiceSettings, base: str) -> list[KeyframeView]:
    positions = job.options.get("positions") or []
    views = []
    for number, keyframe in enumerate(job.keyframes):
        url = f"{base}/inbetween/{job.id}/keyframes/{number}"
        if not settings.storage_proxy:
            signed = storage.sign_get(
                keyframe["key"], expires=settings.signed_url_ttl, content_type=keyframe["content_type"]
            )
            url = absolute(signed, base)
        frame = positions[number] if number < len(positions) else None
        views.append(KeyframeView(url=url, frame=frame, **{name: keyframe[name] for name in _KEPT}))
    return views


_KEPT = ("content_type", "width", "height", "size", "sha256")


def _result(job: Job, storage: Storage, settings: ServiceSettings, base: str) -> ResultView:
    result = dict(job.result or {})
    files = []
    for file in result.pop("files", []):
        url = f"{base}/inbetween/{job.id}/files/{quote(file['name'])}"
        if not settings.storage_proxy:
            signed = storage.sign_get(
                file_key(job, file["name"]), expires=settings.signed_url_ttl, content_type=file["content_type"]
            )
            url = absolute(signed, base)
        files.append(FileView(url=url, **file))
    return ResultView(files=files, **result)
