"""The playground: one page and its files, served as they lie in `service/playground/`.

Everything comes from this host; only signed links may lead to the storage, which the page's content security policy
names.
"""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.routes.dependencies import Here
from service.api.services import Services
from service.problems import Problem
from service.storage import LocalStorage

FOLDER = Path(__file__).parents[2] / "playground"
_FILES = frozenset(path.name for path in FOLDER.iterdir() if path.is_file())
_TYPES = {".js": "text/javascript", ".woff2": "font/woff2", ".svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False)


@router.head("/")
@router.get("/")
def front(request: Request, here: Here) -> Response:
    answer = _file(request, "index.html")
    answer.headers["Content-Security-Policy"] = policy(_storage_origins(here))
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return answer


@router.head("/playground/{asset}")
@router.get("/playground/{asset}")
def file(request: Request, asset: str) -> Response:
    if asset not in _FILES:
        raise Problem(404, "not-found", "The playground has no such file.", remedy="Start from `/`.")
    return _file(request, asset)


def policy(origins: list[str]) -> str:
    """Write the content security policy of the page.

    No inline script or style, no eval, nothing from elsewhere but files of the storage at `origins`.
    """
    files = " ".join(["'self'", *origins])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        f"img-src {files} data: blob:; media-src {files} blob:; connect-src {files} blob:; "
        "require-trusted-types-for 'script'; trusted-types 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _storage_origins(here: Services) -> list[str]:
    """List the origins that signed links lead to, unless here."""
    if here.settings.storage_proxy or isinstance(here.storage, LocalStorage):
        link = here.settings.public_url or ""
    else:
        link = here.storage.sign_get("playground", expires=here.settings.signed_url_ttl)
    parts = urlsplit(link)
    return [f"{parts.scheme}://{parts.netloc}"] if parts.netloc else []


def _file(request: Request, name: str) -> Response:
    path = FOLDER / name
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0]
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
