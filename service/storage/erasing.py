"""Erasing many objects of a bucket, on servers that differ in what they want of it.

A batch goes with a checksum as Amazon has it now; where that is refused with the Content-MD5 that servers asked for
before; and where that is refused too, as one DELETE for each object. What has worked is what the process begins with
from then on. One object that will not go keeps no other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from service.storage.answers import CREDENTIALS
from service.storage.interface import StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_TRANSIENT = (429, 500, 502, 503, 504)


class BatchEraser:
    """client: for batches with a checksum. again: makes another. where: for people."""

    def __init__(self, bucket: str, where: str, client: S3Client, again: Callable[[], S3Client]) -> None:
        self._bucket = bucket
        self._where = where
        self._client = client
        self._connect_again = again
        self._ways = [self._with_checksum, self._with_md5, self._one_by_one]

    def erase(self, names: Sequence[str]) -> None:
        """Erase the objects. Raises boto3's errors, and `StorageUnavailable` for one that will not go."""
        ways = self._ways
        for place, way in enumerate(ways):
            last = place == len(ways) - 1
            try:
                way(names)
            except ClientError as error:
                if last or _says_nothing_of_the_way(error):
                    raise
                continue
            self._ways = ways[place:]
            return

    def _with_checksum(self, names: Sequence[str]) -> None:
        self._batch(self._client, names)

    def _with_md5(self, names: Sequence[str]) -> None:
        self._batch(self._of_old, names)

    def _one_by_one(self, names: Sequence[str]) -> None:
        refusals = []
        for name in names:
            try:
                self._client.delete_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    @cached_property
    def _of_old(self) -> S3Client:
        client = self._connect_again()
        client.meta.events.register("before-call.s3.DeleteObjects", _sign_with_md5)
        return client

    def _batch(self, client: S3Client, names: Sequence[str]) -> None:
        answer = client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
        )
        for failed in answer.get("Errors", ()):
            if failed.get("Code") != "NoSuchKey":
                code = str(failed.get("Code", ""))
                said = f"{code} {failed.get('Message', '')}".strip()
                raise StorageUnavailable(f"{self._where}: {failed.get('Key')} was not erased: {said}", code)


def _says_nothing_of_the_way(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _TRANSIENT or error.response.get("Error", {}).get("Code") in CREDENTIALS


def _sign_with_md5(params: dict[str, Any], **_: object) -> None:
    params["context"].pop("checksum", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
