"""The one home of connections to Redis: every process makes its own here.

REDIS_URL says where Redis is: `redis://` and `rediss://` (TLS), `unix://`, or `redis+sentinel://` and
`rediss+sentinel://` with the sentinels' addresses: `redis+sentinel://host:26379,host:26379/service/0`. A connection by
Sentinel asks for the primary each time it connects, so that it finds the new one after a failover.

A command whose answer was lost is not sent again from here, since it may have been done; who can repeat one says so
with `retry`. Knows nothing of what is kept in Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelPool
from redis.asyncio.sentinel import SentinelManagedConnection as AsyncSentinelManagedConnection
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from service.settings import ServiceSettings

CONNECT_SECONDS = 5.0
"""Longest wait for a connection to Redis."""
SENTINEL_SECONDS = 1.0
"""Longest wait for a sentinel; the next one is asked then."""
SENTINEL_PORT = 26379

DIRECT = ("redis", "rediss", "unix")
BY_SENTINEL = ("redis+sentinel", "rediss+sentinel")
CLUSTER = (
    "REDIS_URL names a Redis Cluster, which RQ's workers cannot use. Give each set of queues its own Redis instead "
    "(a NAMESPACE and REDIS_URL for each), by Sentinel where it must outlive a machine."
)


class CannotConnect(ValueError):
    """Settings that lead to no Redis. The message is one sentence, with nothing secret in it."""


@dataclass(frozen=True)
class Place:
    """Where Redis is."""

    tls: bool
    #: redis-py's, of the connection to the data.
    options: dict[str, Any]
    sentinel_options: dict[str, Any]
    #: None of them for a direct connection.
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""


def connect(
    settings: ServiceSettings, *, timeout: float | None = 10.0, retry: Retry | None = None, **options: Any
) -> redis.Redis:
    """Make a pool of connections for threads; it opens none yet.

    It answers with bytes, and forked processes may use it.

    timeout: seconds without an answer after which a command raises redis' `TimeoutError`; None waits for ever. retry:
    for commands that may be sent twice. Raises `CannotConnect`.
    """
    options = {"socket_timeout": timeout, "socket_connect_timeout": CONNECT_SECONDS, "retry": retry, **options}
    place = place_of(settings)
    if not place.sentinels:
        return _RedisClient.from_url(settings.redis_url, **place.options, **options)
    once = {**place.sentinel_options, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(place.sentinels, sentinel_kwargs=once)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        place.service,
        redis_class=_RedisClient,
        connection_pool_class=_SentinelPool,
        connection_class=_ManagedTLS if place.tls else _Managed,
        **place.options,
        **options,
    )
    return client


def connect_async(settings: ServiceSettings, *, most: int, timeout: float, retry: AsyncRetry) -> redis.asyncio.Redis:
    """Make a pool of at most so many connections, for one event loop.

    Who finds all in use waits, as long as it takes.

    timeout: seconds without an answer, as of `connect`. Raises `CannotConnect`.
    """
    place = place_of(settings)
    options: dict[str, Any] = {
        **place.options,
        "max_connections": most,
        # Waiting for a turn is no outage: on a busy machine a hundred streams may open at once.
        "timeout": None,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": retry,
    }
    if not place.sentinels:
        return redis.asyncio.Redis.from_pool(
            redis.asyncio.BlockingConnectionPool.from_url(settings.redis_url, **options)
        )
    once = {**place.sentinel_options, "retry": AsyncRetry(NoBackoff(), 0)}
    return redis.asyncio.Redis.from_pool(
        _AsyncSentinelPool(
            service_name=place.service,
            sentinel_manager=AsyncSentinel(place.sentinels, sentinel_kwargs=once),  # type: ignore[no-untyped-call]
            connection_class=_AsyncManagedTLS if place.tls else _AsyncManaged,
            **options,
        )
    )


class _RedisClient(redis.Redis):
    """Its pipelines load their scripts at each try. redis-py does so once, and a server that came up since has none."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(Pipeline):
    def load_scripts(self) -> None:
        """Load nothing: it is left to each try."""

    def _execute_transaction(self, *arguments: Any) -> Any:
        self._load()
        return super()._execute_transaction(*arguments)

    def _execute_pipeline(self, *arguments: Any) -> Any:
        self._load()
        return super()._execute_pipeline(*arguments)  # type: ignore[no-untyped-call]

    def _load(self) -> None:
        if self.scripts:
            super().load_scripts()  # type: ignore[no-untyped-call]


class _Managed(SentinelManagedConnection):
    """Asks the sentinels also for a command that is sent again.

    redis-py asks them when the pool hands a connection out, and then repeats the command where the primary was
    (redis-py issue 3874).
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._connect_retry()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]


class _ManagedTLS(_Managed, SSLConnection):
    pass


class _AsyncManaged(AsyncSentinelManagedConnection):
    """The same."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        await self._connect_retry()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class _AsyncManagedTLS(_AsyncManaged, AsyncSSLConnection):
    pass


class _SentinelPool(SentinelConnectionPool):
    """Closes its connections to the sentinels with its own."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        # Without those in use it is no farewell: the primary has changed.
        for sentinel in self.sentinel_manager.sentinels if inuse_connections else ():
            sentinel.connection_pool.disconnect()


class _AsyncSentinelPool(redis.asyncio.BlockingConnectionPool, AsyncSentinelPool):
    """The same, and who finds all connections in use waits."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels if inuse_connections else ():
            await sentinel.connection_pool.disconnect()


def shown(settings: ServiceSettings) -> str:
    """Show where Redis is, for people: without user, password and options."""
    place = settings.redis_url.partition("://")[2].rpartition("@")[2].partition("?")[0]
    return f"{place} (by Sentinel)" if settings.redis_url.startswith(BY_SENTINEL) else place


def place_of(settings: ServiceSettings) -> Place:
    """Read what the settings say about Redis. Raises `CannotConnect`."""
    scheme, separator, rest = settings.redis_url.partition("://")
    if "cluster" in scheme:
        raise CannotConnect(CLUSTER)
    if not separator or scheme not in DIRECT + BY_SENTINEL:
        raise CannotConnect(
            "REDIS_URL cannot be used. Write redis://:password@host:6379/0, rediss://… for TLS, unix:///path, or "
            "redis+sentinel://host:26379,host:26379/service/0."
        )
    tls = scheme.startswith("rediss")
    files = {
        "ssl_ca_certs": settings.redis_ca_file,
        "ssl_certfile": settings.redis_cert_file,
        "ssl_keyfile": settings.redis_key_file,
    }
    given = {name: str(path) for name, path in files.items() if path is not None}
    if given and not tls:
        raise CannotConnect(
            "REDIS_CA_FILE, REDIS_CERT_FILE and REDIS_KEY_FILE are for TLS: write rediss://… in REDIS_URL."
        )
    if (settings.redis_cert_file is None) != (settings.redis_key_file is None):
        raise CannotConnect("REDIS_CERT_FILE and REDIS_KEY_FILE belong together: set both.")
    options: dict[str, Any] = {**given}
    if settings.redis_username:
        options["username"] = settings.redis_username
    if settings.redis_password:
        options["password"] = settings.redis_password.get_secret_value()
    return (
        _by_sentinel(settings, tls, rest, options, given) if scheme in BY_SENTINEL else _direct(settings, tls, options)
    )


def _direct(settings: ServiceSettings, tls: bool, options: dict[str, Any]) -> Place:
    _options_of(settings.redis_url)
    return Place(tls, options, {})


def _by_sentinel(
    settings: ServiceSettings, tls: bool, rest: str, options: dict[str, Any], files: dict[str, str]
) -> Place:
    credentials, at, rest = rest.rpartition("@")
    where, _, query = rest.partition("?")
    hosts, _, path = where.partition("/")
    service, _, database = path.partition("/")
    if not hosts or not service:
        raise CannotConnect(
            "REDIS_URL names no sentinel or no service: write redis+sentinel://host:26379,host:26379/service/0."
        )
    # The rest means what it means in redis-py's URLs.
    read = _options_of(f"redis://{credentials}{at}sentinel/{database}?{query}")
    for name in ("host", "port"):
        read.pop(name, None)
    own: dict[str, Any] = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS, **files}
    if tls:
        own["ssl"] = True
    if settings.redis_sentinel_username:
        own["username"] = settings.redis_sentinel_username
    if settings.redis_sentinel_password:
        own["password"] = settings.redis_sentinel_password.get_secret_value()
    return Place(tls, {**options, **read}, own, tuple(map(_address, hosts.split(","))), service)


def _options_of(url: str) -> dict[str, Any]:
    """Read a URL as redis-py does. Its own message might show a part of a password."""
    try:
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:
        raise CannotConnect(
            "REDIS_URL cannot be used. Write redis://:password@host:6379/0, rediss://… or unix://path, with what is "
            "special in a password quoted (%2F for /)."
        ) from None


def _address(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise CannotConnect("A sentinel's address in REDIS_URL cannot be read: write host:26379, or [::1]:26379.")
    return host, port or SENTINEL_PORT
