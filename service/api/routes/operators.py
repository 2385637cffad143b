"""For operators: webhook deliveries and dead letters, and setting either going again."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query

from service.api.routes.dependencies import (
    ONE_JOB,
    READ,
    Admin,
    BaseUrl,
    Here,
    JobId,
    Reader,
    Submitter,
    find,
    job_list,
    problems,
    view,
)
from service.api.schemas import DeliveryList, DeliveryView, JobList, JobView
from service.api.views import delivery_view
from service.auth import Key, Scope
from service.problems import Problem
from service.webhooks.record import DeliveryMissing

log = structlog.get_logger(__name__)
router = APIRouter(tags=["operators"])

PageLimit = Annotated[int, Query(ge=1, le=100, description="Entries on a page.")]


@router.get(
    "/webhooks/deliveries",
    operation_id="listDeliveries",
    summary="Webhook events and how their delivery went",
    responses=problems(*READ, "invalid-request"),
)
def list_deliveries(
    here: Here,
    base: BaseUrl,
    key: Reader,
    limit: PageLimit = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{13}\.msg_[a-z2-7]{26}$", description="`next_cursor` of the page before.")
    ] = None,
) -> DeliveryList:
    """List the deliveries of the last 30 days, newest first: the key's own, or with the scope `admin` everybody's."""
    page = here.webhooks.deliveries(_owner(key), limit, cursor)
    following = f"{base}/webhooks/deliveries?limit={limit}&cursor={page.next_cursor}"
    return DeliveryList(
        deliveries=[delivery_view(delivery) for delivery in page.deliveries],
        next_cursor=page.next_cursor,
        next=following if page.next_cursor else None,
    )


@router.post(
    "/webhooks/deliveries/{delivery_id}/redrive",
    operation_id="redriveDelivery",
    summary="Deliver a webhook event again",
    responses=problems(*READ, "delivery-not-found"),
)
def redrive_delivery(
    here: Here, key: Submitter, delivery_id: Annotated[str, Path(description="The delivery's `id`.")]
) -> DeliveryView:
    """Deliver an event again at once, with the same `webhook-id` and the whole schedule of retries before it."""
    try:
        delivery = here.webhooks.redrive(delivery_id, _owner(key))
    except DeliveryMissing:
        raise Problem(404, "delivery-not-found", "This key has no delivery of that id.") from None
    log.info("delivery redriven", delivery=delivery.id, job=delivery.job)
    return delivery_view(delivery)


@router.get(
    "/dead-letters",
    operation_id="listDeadLetters",
    summary="Jobs set aside because their workers kept dying",
    responses=problems(*READ, "invalid-request"),
)
def list_dead_letters(
    here: Here,
    base: BaseUrl,
    key: Admin,
    limit: PageLimit = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^job_[0-9a-z]{26}$", description="`next_cursor` of the page before.")
    ] = None,
) -> JobList:
    """List the jobs of all owners that were set aside, newest first. Needs the scope `admin`."""
    page = here.jobs.dead_letters(limit, cursor)
    return job_list(here, page, base, "/dead-letters", limit=limit)


@router.post(
    "/dead-letters/{job_id}/redrive",
    operation_id="redriveDeadLetter",
    summary="Set a failed job going again",
    responses=problems(*ONE_JOB, "job-conflict"),
)
def redrive_dead_letter(here: Here, base: BaseUrl, key: Admin, job_id: JobId) -> JobView:
    """Set a failed job going again, with fresh budgets for deaths and errors.

    Any failed job will do, not only one set aside.
    """
    job = here.jobs.redrive(find(here, key, job_id).id)
    log.info("job redriven", job=job.id, attempt=job.attempt)
    return view(here, job, base)


def _owner(key: Key) -> str | None:
    """Name the owner whose deliveries a key may see; None for everybody's."""
    return None if key.allows(Scope.admin) else key.owner
