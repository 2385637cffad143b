"""The API's application: settings in, an ASGI app out.

    uvicorn --factory service.api.app:create_app

Imports no torch. Nothing is connected before the first request: a Redis or a storage that is down makes `/readyz`
say so, and does not keep the API from starting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio
import structlog
from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from redis.exceptions import RedisError

from service import auth
from service.api import exception_handlers, openapi
from service.api.edge.fairness import FairShare
from service.api.edge.middleware import BodyCap, RequestBoundary
from service.api.edge.origins import OwnMachine
from service.api.routes import (
    files,
    jobs,
    meta,
    objects,
    openai,
    operators,
    playground,
    problems,
    queries,
    streams,
    votes,
)
from service.api.services import Services, open_services
from service.observe import tracing
from service.settings import ServiceSettings

_ASKED_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Range",
    "X-Request-ID",
    "traceparent",
)
_ANSWERED_HEADERS = (
    "Accept-Ranges",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
)

log = structlog.get_logger(__name__)


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """Make the application with its routes, edge and error handlers.

    Raises `OpenDoor` when the settings would let anybody in, and `StorageUnavailable` for a wrong STORAGE_URL.
    """
    settings = settings or ServiceSettings()
    auth.refuse_open_door(settings)
    tracing.start(settings, "api")
    services = open_services(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as background:
            background.start_soon(services.traffic.run)
            yield
            background.cancel_scope.cancel()
        await to_thread.run_sync(_last_words, services)
        await to_thread.run_sync(tracing.stop)
        await services.fanout.aclose()
        await services.streaming.aclose()
        services.redis.close()

    app = FastAPI(
        title="Inbetween",
        version=version("inbetween"),
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        dependencies=[Depends(queries.refuse_unknown)],
    )
    app.state.services = services
    for module in (playground, jobs, streams, votes, files, objects, openai, operators, meta, problems):
        app.include_router(module.router)
    exception_handlers.install(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    app.add_middleware(BodyCap, settings=settings, largest=services.bodies.ledger.largest)
    app.add_middleware(FairShare, apart=jobs.WITH_TURNS)
    if settings.auth == "off":
        app.add_middleware(OwnMachine, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=_ASKED_HEADERS,
            expose_headers=_ANSWERED_HEADERS,
            max_age=3600,
        )
    app.add_middleware(RequestBoundary, traffic=services.traffic)
    tracing.instrument(app)
    return app


def _last_words(services: Services) -> None:
    try:
        services.traffic.flush()
    except RedisError as error:
        log.warning("the last requests are not counted", error=str(error))
