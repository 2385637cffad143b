"""What an option means that a job's record leaves out, whatever its default is today. Made by `make generated`.

Entries are added for new options and methods, and never changed or taken away: records of version 1
stand on them, and processes of other releases read and write such records too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 1
OPTION_DEFAULTS: Mapping[str, Any] = {
    "anchor": None,
    "background": "#000000",
    "exact_keyframes": False,
    "fit": "cover",
    "formats": ["mp4"],
    "fps": 7,
    "frames": None,
    "gamma": None,
    "guidance": None,
    "handover": None,
    "height": None,
    "k": None,
    "lam": None,
    "loop": False,
    "method": "mpd-vibid",
    "motion": None,
    "motion_bucket_id": 127,
    "noise_aug_strength": 0.02,
    "output_fps": None,
    "positions": None,
    "reference": None,
    "seeds": [0],
    "segments": None,
    "steps": 25,
    "width": None,
}
METHOD_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "flow": {
        "anchor": None,
        "gamma": None,
        "guidance": None,
        "handover": None,
        "k": None,
        "lam": None,
        "motion": None,
        "segments": None,
    },
    "svd": {
        "anchor": None,
        "gamma": None,
        "guidance": [1.0, 3.0],
        "handover": None,
        "k": None,
        "lam": None,
        "motion": None,
        "segments": "chained",
    },
    "trf": {
        "anchor": None,
        "gamma": None,
        "guidance": [1.0, 3.0],
        "handover": None,
        "k": None,
        "lam": None,
        "motion": None,
        "segments": "chained",
    },
    "vibid": {
        "anchor": None,
        "gamma": None,
        "guidance": None,
        "handover": None,
        "k": None,
        "lam": None,
        "motion": None,
        "segments": "chained",
    },
    "mpd-trf": {
        "anchor": "rigid",
        "gamma": 0.3,
        "guidance": [1.0, 3.0],
        "handover": 0.0,
        "k": 2,
        "lam": 0.5,
        "motion": None,
        "segments": "chained",
    },
    "mpd-vibid": {
        "anchor": "rigid",
        "gamma": 0.2,
        "guidance": None,
        "handover": 0.0,
        "k": 3,
        "lam": 1.0,
        "motion": None,
        "segments": "chained",
    },
    "mpd": {
        "anchor": "closure",
        "gamma": 0.0,
        "guidance": None,
        "handover": None,
        "k": 0,
        "lam": 1.0,
        "motion": None,
        "segments": "chained",
    },
    "rife": {
        "anchor": None,
        "gamma": None,
        "guidance": None,
        "handover": None,
        "k": None,
        "lam": None,
        "motion": "auto",
        "segments": None,
    },
    "film": {
        "anchor": None,
        "gamma": None,
        "guidance": None,
        "handover": None,
        "k": None,
        "lam": None,
        "motion": None,
        "segments": None,
    },
}
"""The methods' own values where an option is None."""
