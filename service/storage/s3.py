"""Files in an S3 bucket, at Amazon's endpoint or any other.

Signed links are presigned URLs (Signature Version 4). Knows nothing of HTTP beyond what boto3 does.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.parsers import ResponseParserError

from service.storage.answers import NoStorage, PastTheEnd, believe, refused
from service.storage.erasing import BatchEraser
from service.storage.interface import (
    CHUNK,
    Stat,
    StorageUnavailable,
    check_content_type,
    check_key,
    disposition,
    folder_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from service.settings import ServiceSettings

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_BATCH = 1000
"""Keys in one batch delete, S3's own limit."""


class S3Storage:
    """The S3 home: objects of `bucket` below the folder `prefix`.

    endpoint: None is Amazon's. public_endpoint: as callers reach it, in signed links alone; default `endpoint`.
    credentials: access and secret key; None leaves them to boto3's own chain. virtual_host: the bucket goes into the
    endpoint's name instead of its path; None does so at Amazon's alone.
    timeout: seconds without a byte after which the endpoint is silent. attempts: how often each call is tried.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        public_endpoint: str | None = None,
        region: str = "us-east-1",
        credentials: tuple[str, str] | None = None,
        virtual_host: bool | None = None,
        timeout: float = 20.0,
        attempts: int = 3,
    ) -> None:
        self.bucket = bucket
        self._prefix = folder_of(prefix)
        self._endpoint = endpoint
        access, secret = credentials or (None, None)
        session = boto3.Session(access, secret, region_name=region)
        # Endpoints other than Amazon's are mostly hosts or addresses of their own, without a name per bucket.
        style: Literal["virtual", "path"] = (
            "virtual" if virtual_host or (virtual_host is None and not endpoint) else "path"
        )
        connect = partial(_client, session, style=style)
        self._client = connect(endpoint, timeout, attempts)
        # Whoever starts is told soon of a server that is away; one that is busy is not away.
        self._probe = connect(endpoint, min(timeout, 10.0), min(attempts, 2))
        self._signer = connect(public_endpoint, timeout, 1) if public_endpoint else self._client
        self._eraser = BatchEraser(bucket, self._where, self._client, partial(connect, endpoint, timeout, attempts))

    @classmethod
    def from_settings(cls, settings: ServiceSettings, *, timeout: float = 20.0, attempts: int = 3) -> S3Storage:
        """Open the bucket that the settings name.

        Raises `StorageUnavailable` for a URL that names none, or half a pair of keys.
        """
        found = _BUCKET.fullmatch(settings.storage_url)
        if found is None:
            raise StorageUnavailable(f"STORAGE_URL {settings.storage_url} names no bucket: write s3://bucket/prefix")
        access, secret = settings.storage_access_key, settings.storage_secret_key
        if (access is None) != (secret is None):
            raise StorageUnavailable("STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY come together: set both or neither")
        try:
            return cls(
                found[1],
                found[2] or "",
                endpoint=settings.storage_endpoint,
                public_endpoint=settings.storage_public_endpoint,
                region=settings.storage_region,
                credentials=(access.get_secret_value(), secret.get_secret_value()) if access and secret else None,
                virtual_host={"auto": None, "path": False, "virtual": True}[settings.storage_addressing],
                timeout=timeout,
                attempts=attempts,
            )
        except ValueError as error:
            raise StorageUnavailable(f"storage settings: {error}") from None

    def put(self, key: str, source: bytes | Path, content_type: str) -> None:
        # One PUT and never a multipart upload: it is whole or absent, and a killed writer leaves no parts behind.
        with contextlib.ExitStack() as stack:
            body = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            stack.enter_context(self._errors())
            self._client.put_object(
                Bucket=self.bucket, Key=self._name(key), Body=body, ContentType=check_content_type(content_type)
            )

    def get(self, key: str) -> bytes:
        with self._errors(key):
            found = self._client.get_object(Bucket=self.bucket, Key=self._name(key))
            with contextlib.closing(found["Body"]) as body:
                return body.read()

    def stat(self, key: str) -> Stat:
        try:
            with self._errors():
                found = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        except StorageUnavailable as error:
            if not isinstance(error.__cause__, ClientError):
                raise
            # A HEAD's refusal has no body, and a 404 may be of anything: the refusal of a GET says what it is about.
            with contextlib.suppress(PastTheEnd), self._errors(key):
                self._client.get_object(Bucket=self.bucket, Key=self._name(key), Range="bytes=0-0")["Body"].close()
            raise
        return Stat(
            found["ContentLength"],
            found.get("ContentType", "application/octet-stream"),
            found["LastModified"].timestamp(),
            found["ETag"].strip('"'),
        )

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        if end is not None and end <= start:
            self.stat(key)
            return iter(())
        # Without a Range when all is wanted: an empty object has no byte 0 to ask for.
        part: dict[str, Any] = {}
        if start > 0 or end is not None:
            part["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            with self._errors(key):
                found = self._client.get_object(Bucket=self.bucket, Key=self._name(key), **part)
        except PastTheEnd:
            return iter(())
        whole = found["ResponseMetadata"]["HTTPStatusCode"] == 200
        if part and not whole and not found.get("ContentRange", "").startswith(f"bytes {start}-"):
            found["Body"].close()
            raise StorageUnavailable(f"{self._where}: another range of {key} came than the one asked for")
        pieces = self._pieces(key, found["Body"])
        return _cut(pieces, start, end) if part and whole else pieces

    def list(self, prefix: str) -> Iterator[str]:
        folder = folder_of(prefix)
        return (name.removeprefix(self._prefix) for page in self._pages(folder) for name in page)

    def delete(self, key: str) -> None:
        with self._errors():
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def delete_prefix(self, prefix: str) -> None:
        folder = folder_of(prefix)
        if not folder:
            raise ValueError("delete_prefix needs a folder")
        failure: StorageUnavailable | None = None
        for names in self._pages(folder):
            try:
                with self._errors():
                    self._eraser.erase(names)
            except StorageUnavailable as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def sign_get(self, key: str, *, expires: int, filename: str | None = None, content_type: str | None = None) -> str:
        parameters: dict[str, Any] = {"Bucket": self.bucket, "Key": self._name(key)}
        if filename is not None:
            parameters["ResponseContentDisposition"] = disposition(filename)
        if content_type is not None:
            parameters["ResponseContentType"] = check_content_type(content_type)
        return self._sign("get_object", parameters, expires)

    def sign_put(self, key: str, *, size: int, content_type: str, expires: int) -> str:
        kind = check_content_type(content_type)
        parameters = {"Bucket": self.bucket, "Key": self._name(key), "ContentType": kind, "ContentLength": size}
        return self._sign("put_object", parameters, expires)

    def check(self) -> None:
        # A HEAD's answer has no body: a listing says what is wrong, and shows that it is a bucket that answers. It
        # alone would not do: for it boto3 finds out the right region by itself, and links are signed for the wrong one.
        refusal: StorageUnavailable | None = None
        try:
            with self._errors():
                self._probe.head_bucket(Bucket=self.bucket)
        except StorageUnavailable as error:
            if not isinstance(error.__cause__, ClientError):
                raise
            refusal = error
        with self._errors():
            self._probe.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)
        if refusal is not None and refusal.code == "400":
            raise StorageUnavailable(f"{self._where} does not understand all requests: is STORAGE_REGION right?", "400")
        if refusal is not None:
            raise refusal

    @property
    def _where(self) -> str:
        return f"bucket {self.bucket} at {self._endpoint or 'Amazon S3'}"

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _sign(self, operation: str, parameters: dict[str, Any], expires: int) -> str:
        with self._errors():
            return self._signer.generate_presigned_url(operation, parameters, ExpiresIn=expires)

    def _pages(self, folder: str) -> Iterator[tuple[str, ...]]:
        """List the object names below a folder, a page at a time."""
        paginator = self._client.get_paginator("list_objects_v2")
        with self._errors():
            for page in paginator.paginate(
                Bucket=self.bucket, Prefix=self._prefix + folder, PaginationConfig={"PageSize": _BATCH}
            ):
                names = tuple(entry["Key"] for entry in page.get("Contents", ()))
                if not all(name.startswith(self._prefix + folder) for name in names):
                    raise StorageUnavailable(f"{self._where} lists other objects than those below {folder or '/'}")
                if names:
                    yield names

    def _pieces(self, key: str, body: Any) -> Iterator[bytes]:
        with self._errors(key), contextlib.closing(body):
            yield from body.iter_chunks(CHUNK)

    @contextlib.contextmanager
    def _errors(self, key: str | None = None) -> Iterator[None]:
        """Raise boto3's errors as ours; `key` is of the one object that was asked for."""
        try:
            yield
        except ClientError as error:
            raise refused(error, self._where, key) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageUnavailable(
                f"{self._where}: no credentials; set STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY"
            ) from error
        except (BotoCoreError, ResponseParserError) as error:
            how = (
                "does not answer as storage does"
                if isinstance(error, NoStorage | ResponseParserError)
                else "does not answer"
            )
            raise StorageUnavailable(f"{self._where} {how}: {' '.join(str(error).split())}") from error


def _cut(pieces: Iterator[bytes], start: int, end: int | None) -> Iterator[bytes]:
    """Cut the bytes `start` up to `end` out of pieces that begin at byte 0, as of a server that takes no ranges."""
    with contextlib.closing(pieces):  # type: ignore[type-var]
        at = 0
        for piece in pieces:
            if part := piece[max(0, start - at) : None if end is None else max(0, end - at)]:
                yield part
            at += len(piece)
            if end is not None and at >= end:
                return


def _client(
    session: boto3.Session, endpoint: str | None, timeout: float, attempts: int, style: Literal["virtual", "path"]
) -> S3Client:
    client = session.client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            connect_timeout=min(timeout, 5.0),
            read_timeout=timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=40,
            # Several S3 servers refuse the checksum trailers that boto3 adds unasked.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register("before-parse.s3", believe)
    return client
