"""Files in an S3 bucket, at Amazon's endpoint or any other.

Signed links are presigned URLs (Signature Version 4). Knows nothing of HTTP beyond what boto3 does.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from service.storage.interface import (
    CHUNK,
    ObjectMissing,
    Stat,
    StorageError,
    StorageUnavailable,
    check_content_type,
    check_key,
    disposition,
    folder_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from service.settings import Settings

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_BATCH = 1000
"""Keys in one batch delete, S3's own limit."""


class S3Storage:
    """The S3 home: objects of `bucket` below the folder `prefix`.

    endpoint: None is Amazon's. public_endpoint: as callers reach it, in signed links alone; default `endpoint`.
    credentials: access and secret key; None leaves them to boto3's own chain.
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
        timeout: float = 20.0,
        attempts: int = 3,
    ) -> None:
        self.bucket = bucket
        self._prefix = folder_of(prefix)
        self._endpoint = endpoint
        access, secret = credentials or (None, None)
        session = boto3.Session(access, secret, region_name=region)
        self._client = _client(session, endpoint, timeout, attempts=attempts)
        self._probe = _client(session, endpoint, min(timeout, 3.0), attempts=1)
        self._signer = _client(session, public_endpoint, timeout, attempts=1) if public_endpoint else self._client

    @classmethod
    def from_settings(cls, settings: Settings, *, timeout: float = 20.0, attempts: int = 3) -> S3Storage:
        """Raises `StorageUnavailable` for a URL that names no bucket, or half a pair of keys."""
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
            return self._client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"].read()

    def stat(self, key: str) -> Stat:
        try:
            with self._errors(key):
                found = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        except ObjectMissing:
            # A HEAD's 404 has no body, so it may be the bucket that is missing.
            self.check()
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
                body = self._client.get_object(Bucket=self.bucket, Key=self._name(key), **part)["Body"]
        except _PastTheEnd:
            return iter(())
        return self._pieces(key, body)

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
        for names in self._pages(folder):
            with self._errors():
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
                )
            for failed in answer.get("Errors", ()):
                raise StorageUnavailable(f"{self._where}: {failed.get('Key')} was not deleted: {failed.get('Code')}")

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
        try:
            with self._errors(""):
                self._probe.head_bucket(Bucket=self.bucket)
        except ObjectMissing:
            raise StorageUnavailable(
                f"{self._where} does not exist: create the bucket, or correct STORAGE_URL"
            ) from None

    @property
    def _where(self) -> str:
        return f"bucket {self.bucket} at {self._endpoint or 'Amazon S3'}"

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _sign(self, operation: str, parameters: dict[str, Any], expires: int) -> str:
        with self._errors():
            return self._signer.generate_presigned_url(operation, parameters, ExpiresIn=expires)

    def _pages(self, folder: str) -> Iterator[tuple[str, ...]]:
        """Object names below a folder, a page at a time."""
        paginator = self._client.get_paginator("list_objects_v2")
        with self._errors():
            for page in paginator.paginate(
                Bucket=self.bucket, Prefix=self._prefix + folder, PaginationConfig={"PageSize": _BATCH}
            ):
                if names := tuple(entry["Key"] for entry in page.get("Contents", ())):
                    yield names

    def _pieces(self, key: str, body: Any) -> Iterator[bytes]:
        with self._errors(key), contextlib.closing(body):
            yield from body.iter_chunks(CHUNK)

    @contextlib.contextmanager
    def _errors(self, key: str | None = None) -> Iterator[None]:
        """boto3's errors as ours; a 404 is a missing object when `key` is given."""
        try:
            yield
        except ClientError as error:
            raise self._refused(error, key) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageUnavailable(
                f"{self._where}: no credentials; set STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY"
            ) from error
        except BotoCoreError as error:
            raise StorageUnavailable(f"{self._where} does not answer: {' '.join(str(error).split())}") from error

    def _refused(self, error: ClientError, key: str | None) -> StorageError:
        fault = error.response.get("Error", {})
        code, message = fault.get("Code", ""), " ".join(fault.get("Message", "").split())
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "InvalidRange":
            return _PastTheEnd(message)
        if status == 404 and code != "NoSuchBucket" and key is not None:
            return ObjectMissing(key)
        if status in (401, 403):
            return StorageUnavailable(f"{self._where} refuses these credentials: {code}")
        if code == "400":  # a HEAD's answer has no body, and so no code of its own
            return StorageUnavailable(f"{self._where} does not understand these requests: is STORAGE_REGION right?")
        if code == "NoSuchBucket" or status >= 500 or status == 429:
            return StorageUnavailable(f"{self._where}: {code} {message}")
        return StorageError(f"{self._where}: {code} {message}")


class _PastTheEnd(StorageError):
    """The range begins at or past the object's end."""


def _client(session: boto3.Session, endpoint: str | None, timeout: float, *, attempts: int) -> S3Client:
    return session.client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version="s3v4",
            # Endpoints other than Amazon's are hosts or addresses of their own, without a name per bucket.
            s3={"addressing_style": "path" if endpoint else "virtual"},
            connect_timeout=min(timeout, 5.0),
            read_timeout=timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=40,
            # Several S3 servers refuse the checksum trailers that boto3 adds unasked.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
