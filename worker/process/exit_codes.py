"""How our processes end when something outside them is wrong: one clear line, and a code that says what kind of thing.

The codes are those of sysexits.h, which supervisors know.
"""

from __future__ import annotations

import errno
import socket
import sys

import redis
from pydantic import ValidationError
from redis.exceptions import RedisError

from service.database.connections import CannotConnect, connect, shown
from service.observe.redaction import redacted
from service.settings import SecretFileError, ServiceSettings
from service.storage import StorageUnavailable, open_storage, prove

UNAVAILABLE = 69
"""Something we need does not answer."""
CUDA = 70
"""The CUDA context is lost; a new process may well work."""
CANNOT_LISTEN = 71
"""The address is taken, or not ours."""
CONFIG = 78
"""A setting must be changed; starting again will not help."""


def explain(line: str, code: int) -> int:
    """Print the line for people and return the code."""
    sys.stderr.write(f"inbetween-server: {line}\n")
    sys.stderr.flush()
    return code


def settings() -> ServiceSettings:
    """Read the settings of this process. Ends it with one line per variable that cannot be used."""
    try:
        return ServiceSettings()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            explain(f"{name}={redacted(repr(fault['input']))} cannot be used: {fault['msg']}", CONFIG)
        raise SystemExit(CONFIG) from None
    except SecretFileError as error:
        raise SystemExit(explain(str(error), CONFIG)) from None


def cannot_listen(settings: ServiceSettings) -> str | None:
    """Say why the API cannot have HOST and PORT, in one line; None when it can."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror or error})"
            return f"{settings.host}:{settings.port} {reason}. Set PORT (and HOST) to something free."
    return None


def storage_fault(settings: ServiceSettings, connection: redis.Redis, *, ask: bool) -> str | None:
    """Say what is wrong with the storage, in one line; None when it can be used.

    ask: also whether it answers, and a file can be written and erased, and not only whether its settings name one.
    """
    try:
        storage = open_storage(settings, connection)
        if ask:
            storage.check()
            prove(storage)
    except StorageUnavailable as error:
        text = str(error)
        return text if text.startswith("STORAGE_") else f"STORAGE_URL: {text}"
    return None


def need_redis(settings: ServiceSettings) -> redis.Redis:
    """Connect to Redis and have it answer. Ends the process with one line when it does not."""
    try:
        connection = connect(settings)
        connection.ping()
    except CannotConnect as error:
        raise SystemExit(explain(str(error), CONFIG)) from None
    except RedisError as error:
        raise SystemExit(
            explain(f"Redis does not answer at {shown(settings)} ({error}). Start it, or set REDIS_URL.", UNAVAILABLE)
        ) from None
    return connection
