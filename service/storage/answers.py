"""What an S3 server's answers mean: refusals as our errors, and which answers are no S3 server's at all.

Only an answer about the object itself says that the object is missing. Every other refusal is an outage, whatever its
status: servers say 400 to credentials that have run out, and 403 to a bucket that is full. And between us and the
server there may be something else that answers 200, such as a captive proxy with its page.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

from service.storage.interface import ObjectMissing, StorageError, StorageFull, StorageUnavailable

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.model import OperationModel

_FULL = (
    "EntityTooLarge",
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageBackendFull",
    "XMinioStorageFull",
)
"""Codes for want of room: a disk's, a bucket's quota, or what one object may have."""

_OVER_QUOTA = "quota is reached"
"""Garage has no code of its own for it: AccessDenied, and words."""

CREDENTIALS = (
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
)
"""Codes for who we are or what we may do, by whatever status they come."""
_REGION = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect")
_ADDRESSING = ("SecondLevelDomainForbidden", "VirtualHostDomainRequired")

_ROOTS = {"ListObjectsV2": "ListBucketResult", "DeleteObjects": "DeleteResult"}
_WITHOUT_BODY = ("PutObject", "DeleteObject")
_OF_AN_OBJECT = {"GetObject": ("etag",), "HeadObject": ("etag", "content-length", "last-modified")}


class PastTheEnd(StorageError):
    """The range begins at or past the object's end."""


class NoStorage(BotoCoreError):
    """Something answered, and it was no S3 server."""

    fmt = "{operation} was answered with {status} and {what}, which is no answer of an S3 server"


def refused(error: ClientError, where: str, key: str | None) -> StorageError:
    """Make our error of a refusal, with the server's own code and message.

    where: the bucket, for people. key: of the object that was asked for, None where it was not one.
    """
    fault = error.response.get("Error", {})
    code, message = str(fault.get("Code", "")), " ".join(str(fault.get("Message", "")).split())
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{code} {message}".strip()[:500]
    if code == "InvalidRange" and status == 416:
        return PastTheEnd(message)
    if key is not None and status == 404 and code == "NoSuchKey":
        return ObjectMissing(key)
    if status == 507 or code in _FULL or _OVER_QUOTA in message:
        return StorageFull(f"{where} is full: {said}", code)
    if code in _REGION:
        return StorageUnavailable(f"{where} does not take these requests, is STORAGE_REGION right? {said}", code)
    if code in _ADDRESSING:
        return StorageUnavailable(f"{where} wants the bucket in its name, set STORAGE_ADDRESSING=virtual: {said}", code)
    if code == "NoSuchBucket":
        return StorageUnavailable(f"{where} does not exist: create the bucket, or correct STORAGE_URL ({said})", code)
    if status in (401, 403) or code in CREDENTIALS:
        return StorageUnavailable(f"{where} refuses these credentials: {said}", code)
    return StorageUnavailable(f"{where} answers {status}: {said}", code)


def believe(operation_model: OperationModel, response_dict: dict[str, Any], **_: object) -> None:
    """Raise `NoStorage` for a success that no S3 server would have answered so. botocore calls it before it parses."""
    status, name = response_dict["status_code"], operation_model.name
    if status >= 300:
        return
    body, headers = response_dict["body"], response_dict["headers"]
    if name in _ROOTS:
        root = _root(body)
        if root != _ROOTS[name]:
            raise NoStorage(operation=name, status=status, what=f"<{root}>" if root else "no XML")
    elif name in _WITHOUT_BODY:
        if body.strip():
            raise NoStorage(operation=name, status=status, what=f"{len(body)} bytes of {headers.get('content-type')}")
    elif absent := [one for one in _OF_AN_OBJECT.get(name, ()) if not headers.get(one)]:
        if operation_model.has_streaming_output:
            body.close()  # nobody reads it: the connection would stay open until it is garbage
        raise NoStorage(operation=name, status=status, what=f"without {', '.join(absent)}")


def _root(body: bytes) -> str | None:
    """Read the name of an XML document's root without its namespace."""
    try:
        return ElementTree.fromstring(body).tag.rpartition("}")[2]
    except ElementTree.ParseError:
        return None
