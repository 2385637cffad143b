"""One try of a webhook delivery, as RQ runs it. What a delivery is, `service.webhooks.deliveries` knows."""

from __future__ import annotations

from rq import Retry

from service.database.connections import connect
from service.database.identity import open_database
from service.observe import tracing
from service.outbound.client import Outbound
from service.settings import ServiceSettings
from service.webhooks.deliveries import Webhooks

NO_LIMIT = 1_000_000
"""What RQ counts is not what ends a delivery: its own record does."""


def deliver(delivery_id: str, run: int) -> Retry | None:
    """Post the event once. A `Retry` asks RQ to come back when the schedule or the receiver says."""
    settings = ServiceSettings()
    tracing.start(settings, "webhooks")
    try:
        with connect(settings) as connection:
            outbound = Outbound(settings.fetch_allow_hosts)
            database = open_database(connection, settings)
            wait = Webhooks(connection, settings, database).attempt(delivery_id, run, outbound)
    finally:
        # A work-horse ends by os._exit, which runs no farewells.
        tracing.stop()
    return None if wait is None else Retry(max=NO_LIMIT, interval=wait)
