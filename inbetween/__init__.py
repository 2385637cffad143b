"""The client of an inbetweening service: two keyframes in, a coherent video between them out.

    from inbetween import Client

    client = Client("https://inbetween.example.com")
    client.inbetween("a.png", "b.png", method="mpd-vibid").wait().save("out.mp4")

`AsyncClient` does the same for asyncio; `inbetween --help` is the command line. Needs httpx alone.
"""

from inbetween.async_client import AsyncClient, AsyncJob
from inbetween.client import Client, Job
from inbetween.connection import __version__
from inbetween.errors import (
    Conflict,
    DownloadFailed,
    InbetweenError,
    JobCanceled,
    JobFailed,
    NoResult,
    NotAllowed,
    NotFound,
    Problem,
    ProblemError,
    RequestRefused,
    ServerFault,
    TooMuch,
    Unreachable,
    WaitTimeout,
    WebhookInvalid,
)
from inbetween.images import Keyframe
from inbetween.options import Options
from inbetween.records import Event, File, Progress, Result
from inbetween.retries import Retries
from inbetween.webhooks import WebhookEvent, verify_webhook

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Conflict",
    "DownloadFailed",
    "Event",
    "File",
    "InbetweenError",
    "Job",
    "JobCanceled",
    "JobFailed",
    "Keyframe",
    "NoResult",
    "NotAllowed",
    "NotFound",
    "Options",
    "Problem",
    "ProblemError",
    "Progress",
    "RequestRefused",
    "Result",
    "Retries",
    "ServerFault",
    "TooMuch",
    "Unreachable",
    "WaitTimeout",
    "WebhookEvent",
    "WebhookInvalid",
    "__version__",
    "verify_webhook",
]
