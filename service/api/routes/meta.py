"""What the service can do and how it is: methods, health, metrics and the reference."""

from __future__ import annotations

import anyio
import structlog
from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from redis.exceptions import RedisError

from mpd.lengths import denoiser_calls
from mpd.methods import FLOW_FRAMES, LIMITS, METHODS, Method, Settings
from mpd.options import Limit, Option
from mpd.output.formats import OUTPUT_FORMATS
from service.api import exposition, reference_page
from service.api.routes.dependencies import READ, Here, Metrics, Reader, problems
from service.api.schemas import EngineView, HealthView, LimitView, MethodsView, MethodView, OptionView
from service.api.services import Services
from service.database.identity import DatabaseUnknown
from service.database.outages import takes_no_writes
from service.fleet import engines
from service.fleet.engines import Engine
from service.jobs.capacity import default_method, ready
from service.jobs.request_options import REQUEST_OPTIONS
from service.storage import StorageUnavailable

READY_PATIENCE = 3.0
"""Seconds that a storage has to answer before it counts as away."""

log = structlog.get_logger(__name__)
router = APIRouter(tags=["service"])


@router.get(
    "/methods",
    operation_id="listMethods",
    summary="Methods, options and their bounds, engines at work",
    responses=problems(*READ),
)
def list_methods(here: Here, key: Reader) -> MethodsView:
    """List everything a request can choose from, and what the engines that are live right now can do of it."""
    live = engines.live(here.redis, here.settings)
    return MethodsView(
        default=default_method(live),
        methods=[_method(method, ready(live)) for method in METHODS.values()],
        options=[_option(option) for option in REQUEST_OPTIONS.values()],
        limits={name: _limit(limit) for name, limit in LIMITS.items()},
        formats=OUTPUT_FORMATS,
        engines=[EngineView.model_validate(engine) for engine in live],
    )


@router.head("/livez", include_in_schema=False)
@router.get("/livez", operation_id="isAlive", summary="Whether the process answers", responses=problems())
async def livez() -> HealthView:
    """Tell that the process answers. Redis and storage are not asked: losing those is no reason to restart the API."""
    return HealthView(status="alive")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", operation_id="isReady", summary="Whether Redis and storage answer", responses=problems())
async def readyz(here: Here) -> HealthView:
    """Tell whether Redis and storage answer: 503 while either does not."""
    await here.readiness.check()
    return HealthView(status="ready")


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Text exposition format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(*READ),
    },
)
async def get_metrics(here: Here, key: Metrics) -> Response:
    """Return the figures of all owners together, in the text format of Prometheus.

    They are counted in Redis, so every API process answers the same: ask any one of them. As they are of all owners,
    they have a scope of their own, `metrics`: Prometheus sends such a key by `authorization: {credentials_file: …}`.
    """
    storage_up = await _answers(here)
    text = await to_thread.run_sync(_figures, here, storage_up)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answers(here: Services) -> bool:
    """Tell whether the storage answers. That takes long when it is away, and Prometheus waits ten seconds at most."""
    try:
        with anyio.fail_after(READY_PATIENCE):
            await here.readiness.check()
    except (StorageUnavailable, TimeoutError):
        return False
    except DatabaseUnknown:
        # The figures say so; it is asked after storage has answered.
        return True
    return True


def _figures(here: Services, storage_up: bool) -> bytes:
    try:
        here.traffic.flush()
    except RedisError as error:
        if not takes_no_writes(error):
            raise
        # What is counted is kept for when Redis has room again; what can be read is told.
        log.info("requests not counted", error=str(error))
    return exposition.render(here.jobs, here.webhooks, storage_up)


@router.get("/openapi.json", include_in_schema=False)
def openapi_document(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(reference_page.reference(request.app.openapi()), headers=reference_page.HEADERS)


def _method(method: Method, able: list[Engine]) -> MethodView:
    able = [engine for engine in able if engine.holds_model or not method.needs_model]
    available = any(method.name in engine.methods for engine in able) if able else None
    return MethodView(
        name=method.name,
        title=method.title,
        description=method.description,
        needs_model=method.needs_model,
        uses_end=method.uses_end,
        min_keyframes=method.min_keyframes,
        native_frames=None if method.needs_model else FLOW_FRAMES,
        denoiser_calls=denoiser_calls(Settings(method=method.name)),
        defaults=method.defaults,
        available=available if method.needs_engine else True,
    )


def _option(option: Option) -> OptionView:
    return OptionView(
        name=option.name,
        kind=option.kind,
        default=option.default,
        unset=option.unset or None,
        limit=None if option.limit is None else _limit(option.limit),
        size=None if option.size is None else _limit(option.size),
        label=option.label,
        hint=option.hint,
        group=option.group,
        choices=list(option.choices),
        methods=[method.name for method in METHODS.values() if method.has(option.trait)],
    )


def _limit(limit: Limit) -> LimitView:
    return LimitView(minimum=limit.low, maximum=limit.high, why=limit.why)
