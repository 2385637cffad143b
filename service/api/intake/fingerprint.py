"""What makes two requests the same, for whoever repeats one under its `Idempotency-Key`.

A request is printed as it was asked: an option that was left out is left out, so that a repetition stays one when a
new version has more options or other defaults, or when a default is decided only after the print is taken. It is also
printed as it was meant, with the defaults of its day: so leaving an option out and sending its default are the same
request too, for as long as that is the default. Knows nothing of HTTP, nor of what the images are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.api.intake import data_uris
from service.api.intake.quoted import Quoted
from service.api.intake.request_body import ReceivedImage, Wanted
from service.settings import ServiceSettings

DEFAULTS_BEFORE: Mapping[str, Any] = {
    "method": "mpd-vibid",
    "frames": None,
    "steps": 25,
    "seed": None,
    "seeds": None,
    "width": None,
    "height": None,
    "fit": "cover",
    "background": "#000000",
    "loop": False,
    "exact_keyframes": False,
    "loop_frame": None,
    "fps": 7,
    "motion_bucket_id": 127,
    "noise_aug_strength": 0.02,
    "gamma": None,
    "k": None,
    "lam": None,
    "anchor": None,
    "handover": None,
    "guidance": None,
    "formats": ["mp4"],
    "priority": "default",
    "result_ttl": None,
    "webhook": None,
    "reference": None,
}
"""The options of the versions that stored `Fingerprint.before` alone: as they were, whatever becomes of them."""
_WEBHOOK_BEFORE = ("url", "events")


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 of a request: as it was asked, as it was meant, and as the versions before printed what was meant."""

    asked: str
    meant: str
    #: Without the hashes that a request expects of its images. Processes of those versions compare nothing else.
    before: str

    @property
    def stored(self) -> dict[str, Any]:
        """The members of a claim's record in which `matches` looks for a repetition."""
        return {"fingerprint": self.before, "prints": [self.asked, self.meant]}

    def matches(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether this request repeats the one of a claim, whichever version stored it."""
        prints = stored.get("prints")
        if prints is None:
            return bool(stored["fingerprint"] == self.before)
        return self.asked in prints or self.meant in prints


def fingerprint(wanted: Wanted, settings: ServiceSettings) -> Fingerprint:
    """Print a request: its options, its images by their bytes or their reference, their places and expected hashes.

    Raises `Problem` for a data URI that cannot be decoded.
    """
    pictures = [_picture(picture, settings) for picture in wanted.pictures]
    expected = [picture.sha256 for picture in wanted.pictures]
    options = wanted.options
    asked = options.model_dump(mode="json", exclude_unset=True)
    meant = options.model_dump(mode="json")
    before = {**DEFAULTS_BEFORE, **{name: meant[name] for name in asked}}
    if before["webhook"] is not None:
        before["webhook"] = {name: before["webhook"][name] for name in _WEBHOOK_BEFORE}

    def printed(of: str, options: Mapping[str, Any]) -> str:
        fields = {"pictures": pictures, "positions": wanted.positions, "options": options}
        return _digest(fields if of == "before" else fields | {"expected": expected, "of": of})

    return Fingerprint(printed("asked", asked), printed("meant", meant), printed("before", before))


def _picture(picture: ReceivedImage, settings: ServiceSettings) -> list[str]:
    source = picture.source
    if isinstance(source, bytes):
        return ["image", hashlib.sha256(source).hexdigest()]
    if isinstance(source, Quoted) or data_uris.is_data_uri(source):
        return ["image", data_uris.digest(source, settings, field=picture.field)]
    return ["reference", source]


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
