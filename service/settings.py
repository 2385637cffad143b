"""Settings of every process, read from the environment once.

Each field is one environment variable of the same name in capitals (`redis_url` is `REDIS_URL`), or a line in `.env`.
A secret may be in a file instead, whose path the variable with `_FILE` behind its name gives
(`REDIS_URL_FILE=/run/secrets/redis_url`): so containers hand secrets over.
The descriptions here are the reference: `inbetween-server settings` prints them.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FilePath, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

SECRETS = ("redis_url", "redis_password", "redis_sentinel_password", "storage_access_key", "storage_secret_key")
"""Settings that may be in files of their own. The URL carries Redis' password."""


class SecretFileError(Exception):
    """A variable ending in `_FILE` that cannot be followed. The message is one line, with nothing of the file in it."""


class SecretFiles(PydanticBaseSettingsSource):
    """The values of the secrets' `NAME_FILE` variables: what stands in the file, without the line's end."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE")
        if not path:
            return None, field_name, False
        if name in os.environ:
            raise SecretFileError(f"{name} and {name}_FILE are both set: set one of them.")
        try:
            return Path(path).read_text().rstrip("\r\n"), field_name, False
        except OSError as error:
            raise SecretFileError(f"{name}_FILE={path} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise SecretFileError(f"{name}_FILE={path} is not text.") from None

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(fields[name], name)[0] for name in SECRETS}
        return {name: value for name, value in found.items() if value is not None}


class ServiceSettings(BaseSettings):
    """The effective settings. Raises pydantic's `ValidationError`, naming the variable, for a value it cannot use, and
    `SecretFileError`.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port the API listens on.")
    public_url: str | None = Field(
        None, description="Base URL callers use, for links behind a proxy. Default: taken from the request."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Browser origins that may call the API, separated by commas."
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="Redis 6.2 or newer, or Valkey; AOF on: `redis://`, `rediss://` (TLS), `unix://`, or by Sentinel "
        "`redis+sentinel://host:26379,host:26379/service/0`. Its password is shown nowhere.",
    )
    redis_username: str | None = Field(None, description="Redis' user (ACL), unless REDIS_URL names one.")
    redis_password: SecretStr | None = Field(None, description="Redis' password, unless REDIS_URL has one.")
    redis_sentinel_username: str | None = Field(None, description="The sentinels' user, where they have ACLs.")
    redis_sentinel_password: SecretStr | None = Field(None, description="The sentinels' own password.")
    redis_ca_file: FilePath | None = Field(
        None, description="Certificates that Redis' own, and the sentinels', must come from; default is the system's."
    )
    redis_cert_file: FilePath | None = Field(
        None, description="Certificate shown to Redis, where it asks for one; with REDIS_KEY_FILE."
    )
    redis_key_file: FilePath | None = Field(None, description="Private key of REDIS_CERT_FILE.")
    redis_replicas: int = Field(
        0,
        ge=0,
        le=10,
        description="Replicas that must have a job's transition before it counts; with fewer, a request is answered "
        "503 and a worker waits. For Redis by Sentinel: 1.",
    )
    namespace: str = Field(
        "inbetween", pattern=r"^[a-z0-9-]{1,32}$", description="Prefix of every Redis key and queue name."
    )

    storage_url: str = Field(
        "var/storage", description="Where files live: `s3://bucket/prefix`, or the path of a local folder."
    )
    storage_endpoint: str | None = Field(None, description="S3 endpoint; default is Amazon's.")
    storage_public_endpoint: str | None = Field(
        None, description="S3 endpoint as callers reach it, for signed URLs; default is STORAGE_ENDPOINT."
    )
    storage_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Where requests name the bucket: `path` behind the endpoint, `virtual` in front of its host name, "
        "as Alibaba's and others want it; `auto` is `virtual` at Amazon and `path` elsewhere.",
    )
    storage_region: str = Field("us-east-1", description="S3 region.")
    storage_access_key: SecretStr | None = Field(
        None, description="S3 access key; default is boto3's own chain (environment, instance role)."
    )
    storage_secret_key: SecretStr | None = Field(None, description="S3 secret key, with STORAGE_ACCESS_KEY.")
    storage_proxy: bool = Field(
        False, description="Serve files through the API instead of redirecting to signed storage URLs."
    )
    signed_url_ttl: int = Field(3600, ge=10, le=604800, description="Seconds a signed URL stays valid.")

    result_ttl: int = Field(
        604800, ge=60, le=31536000, description="Seconds a finished job's files are kept when the request does not say."
    )
    max_image_bytes: int = Field(20_000_000, ge=1024, description="Largest keyframe accepted, in bytes.")
    max_image_pixels: int = Field(64_000_000, ge=1024, description="Largest keyframe accepted, in pixels.")
    max_request_pixels: int = Field(
        160_000_000, ge=1024, description="Pixels that all keyframes of one request may have together."
    )
    max_body_bytes: int = Field(120_000_000, ge=1024, description="Largest request body accepted, in bytes.")
    max_bodies_bytes: int = Field(
        512_000_000,
        ge=1024,
        description="Memory, in bytes, that request bodies and their images take in one API process at once: a quarter "
        "for bodies, 8 % for images on their way, 65 % for decoding. Who finds no room waits for seconds, then is "
        "answered 503; no body or image that needs more than its part is taken, nor, with keys, a body of more "
        "than half of it.",
    )
    max_connections: int = Field(
        1000,
        ge=1,
        description="Connections that one API process holds at once; one more ends the longest idle one, else is "
        "answered 503. At most as many as it may have files open, less 128; its soft limit of files is raised to the "
        "hard one.",
    )
    client_seconds: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Seconds a client may take to send a request's headers, and be silent in the middle of sending "
        "a body or reading an answer.",
    )
    client_rate: int = Field(
        16_384, ge=1, description="Bytes a second that lengthen CLIENT_SECONDS while a body or an answer is on its way."
    )
    max_video_pixels: int = Field(
        1_000_000_000,
        ge=1_000_000,
        description="Largest video of one take, as frames × width × height: a worker holds three bytes for each; six "
        "where a format shows more than 8 bits, and then half as many are allowed.",
    )
    fetch_allow_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names or addresses, separated by commas, that keyframe URLs and webhooks may reach even "
        "though they are private or plain http.",
    )

    auth: Literal["keys", "off"] = Field(
        "keys",
        description="`keys`: every request needs an API key. `off`: no keys, allowed on loopback addresses only.",
    )

    rate_limit: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Requests a minute of one API key; 0 is any number. Default: 600, and any number with AUTH=off. "
        "This and the next two can be set for a single key with `keys create`.",
    )
    max_active_jobs: int | None = Field(
        None,
        ge=0,
        description="Jobs of one owner that may be queued or running; 0 is any number. Default: 100, and any number "
        "with AUTH=off.",
    )
    gpu_seconds_per_day: float = Field(
        0.0,
        ge=0,
        description="Seconds of GPU that the jobs of one owner may take in a day (UTC), those under way with their "
        "estimates; 0 is any number.",
    )
    max_uploads: int = Field(
        100,
        ge=0,
        description="Uploads that one owner may have unused by any job; 0 is any number. They are kept for twice "
        "SIGNED_URL_TTL.",
    )
    max_uploads_bytes: int = Field(
        1_000_000_000, ge=0, description="Bytes of such uploads together, as they were announced; 0 is any number."
    )
    max_queue: int = Field(
        10_000,
        ge=0,
        description="Jobs that may be queued for engines, and as many that need none; beyond that the answer is 503. "
        "0 is any number. Redis holds about 9 kB for each.",
    )

    model: str = Field(
        "",
        description="Diffusers folder or hub id for the engine. Empty: no sampled methods, only `flow` and, with "
        "RIFE's weights, `rife`, with FILM `film`.",
    )
    rife: str = Field(
        "auto",
        description="Weights of RIFE 4.0 for the `rife` method: `auto` those of `weights.txt` where they are "
        "installed, a file's path, or `off`.",
    )
    film: str = Field(
        "",
        description="TorchScript file of an interpolator f(x0, x1, t) for the `film` method, such as FILM's published "
        "export. Empty: no `film`.",
    )
    model_revision: str | None = Field(None, description="Pinned hub revision of MODEL.")
    model_change: bool = Field(
        False,
        description="Whether this engine may serve another model or revision than the namespace does until now: for a "
        "rolling change, on the new workers alone, until the old ones have ended.",
    )
    model_variant: str | None = Field(None, description="Weights variant of MODEL, such as `fp16`.")
    device: str = Field("auto", description="Torch device of the engine: `auto`, `cpu`, `cuda`, `cuda:1`.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Weights in the engine: `auto` is float16 on CUDA and float32 on CPU."
    )
    accelerate: Literal["auto", "off", "exact", "max"] = Field(
        "auto",
        description="Of the engine's model: `exact` gives the same pictures to rounding, sooner; `max` approximates "
        "too; `auto` is `exact` on CUDA and `off` elsewhere.",
    )
    compile_cache: Path | None = Field(
        None,
        description="Folder for compiled code, so that an engine's next start is quick; else a temporary one.",
    )
    engine_dir: Path | None = Field(
        None, description="Private directory of the engine's socket; default is a fresh one under the temporary folder."
    )
    workers_per_engine: int = Field(
        2, ge=1, le=8, description="Work-horses beside each engine, so that encoding overlaps the next job's sampling."
    )

    webhook_workers: int = Field(
        4,
        ge=1,
        le=64,
        description="Processes that deliver webhooks, of each worker and of `inbetween-server webhooks`.",
    )

    lease_ttl: float = Field(
        10.0, ge=1, le=600, description="Seconds without renewal after which a running attempt counts as dead."
    )
    max_deaths: int = Field(
        3,
        ge=1,
        le=20,
        description="Infrastructure deaths after which a job is quarantined; as many workers whose machines ran out "
        "under it, and were well without it, fail it.",
    )
    max_errors: int = Field(2, ge=1, le=20, description="Application errors after which a job fails.")
    drain_grace: float = Field(
        60.0, ge=0, le=86400, description="Seconds a worker may take to finish its job after SIGTERM."
    )
    stall_factor: float = Field(
        20.0, ge=2, description="An engine whose step takes this many medians, and STALL_SECONDS, is restarted."
    )
    stall_seconds: float = Field(
        60.0, ge=1, description="Shortest silence of an engine that counts as a stall; ten times that before a step."
    )

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Where traces go, by OTLP over HTTP: the collector's base URL, such as `http://collector:4318`. "
        "Default: there are none. The other `OTEL_…` variables of OpenTelemetry's SDK count too.",
    )
    log_format: Literal["console", "json"] = Field("console", description="Log lines for people or for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources of settings: what comes first wins."""
        return init_settings, env_settings, SecretFiles(settings_cls), dotenv_settings

    @field_validator("cors_origins", "fetch_allow_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @cached_property
    def queues(self) -> dict[str, tuple[str, ...]]:
        """RQ queue names by lane, highest priority first. `gpu` jobs need an engine, `cpu` jobs (`flow`) do not."""
        return {
            lane: tuple(f"{self.namespace}-{lane}-{priority}" for priority in ("high", "default", "low"))
            for lane in ("gpu", "cpu")
        }
