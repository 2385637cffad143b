"""Request bodies and answers as the reference shows them."""

from __future__ import annotations

from typing import Any

from service.jobs.options import InbetweenRequest, Options

_OPTIONS: dict[str, Any] = {"method": "mpd-vibid", "frames": 25, "seed": 7, "formats": ["mp4"]}
_ID = "job_06b3k7w1v8x9n2m4q5r6s7t8v9"
_URL = f"https://api.example.com/inbetween/{_ID}"
_FILES = "https://files.example.com"

FORM_SCHEMA: dict[str, Any] = {
    "title": "InbetweenForm",
    "type": "object",
    "description": "Two images as `start` and `end`, or more as `keyframes`. In place of a file, text with an https "
    "URL, a data URI, `upload:ID` or `job:ID/0` is taken too.",
    "additionalProperties": False,
    "properties": {
        "start": {"type": "string", "format": "binary", "description": "First keyframe."},
        "end": {"type": "string", "format": "binary", "description": "Last keyframe."},
        "keyframes": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": 32,
            "description": "All keyframes in order, instead of `start` and `end`.",
        },
        "at": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 10000},
            "description": "Where each of `keyframes` stands on the timeline: one frame number each, from 0.",
        },
        "options": {"$ref": f"#/components/schemas/{Options.__name__}"},
    },
}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "Images and options, as a form or as JSON.",
    "content": {
        "multipart/form-data": {
            "schema": {"$ref": "#/components/schemas/InbetweenForm"},
            "encoding": {
                "options": {"contentType": "application/json"},
                "start": {"contentType": "image/*"},
                "end": {"contentType": "image/*"},
                "keyframes": {"contentType": "image/*"},
            },
            "examples": {
                "two images": {
                    "summary": "curl -F start=@a.jpg -F end=@b.jpg -F 'options={…}'",
                    "value": {"start": "(contents of a.jpg)", "end": "(contents of b.jpg)", "options": _OPTIONS},
                }
            },
        },
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{InbetweenRequest.__name__}"},
            "examples": {
                "two images by URL": {
                    "value": {
                        "start": "https://example.com/a.jpg",
                        "end": "https://example.com/b.jpg",
                        "options": _OPTIONS,
                    }
                },
                "a timeline": {
                    "summary": "Three keyframes at given frames, two takes, a webhook",
                    "value": {
                        "keyframes": [
                            {"image": "https://example.com/a.jpg", "frame": 0},
                            {"image": "upload:8f14e45fceea167a5a36dedd4bea2543", "frame": 12},
                            {"image": "https://example.com/c.jpg", "frame": 36},
                        ],
                        "options": {
                            "seeds": [1, 2],
                            "fps": 12,
                            "webhook": {"url": "https://example.com/hooks/inbetween"},
                            "reference": "shot-012",
                        },
                    },
                },
            },
        },
    },
}

QUEUED: dict[str, Any] = {
    "id": _ID,
    "state": "queued",
    "priority": "default",
    "position": 0,
    "attempt": 1,
    "created_at": "2026-01-05T10:00:00Z",
    "queued_at": "2026-01-05T10:00:00Z",
    "options": {"method": "mpd-vibid", "frames": 25, "steps": 25, "seeds": [7], "fps": 7, "formats": ["mp4"]},
    "keyframes": [
        {
            "url": f"{_FILES}/keyframes/0?signature=…",
            "content_type": "image/jpeg",
            "width": 1024,
            "height": 576,
            "size": 180000,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        }
    ],
    "cancel_requested": False,
    "links": {"self": _URL, "cancel": f"{_URL}/cancel", "events": f"{_URL}/events"},
}
RUNNING: dict[str, Any] = {
    **QUEUED,
    "state": "running",
    "position": None,
    "started_at": "2026-01-05T10:00:02Z",
    "progress": {"stage": "sampling", "fraction": 0.4, "step": 10, "steps": 25, "take": 0, "takes": 1, "eta": 21.5},
    "eta": 21.5,
}
SUCCEEDED: dict[str, Any] = {
    **QUEUED,
    "state": "succeeded",
    "position": None,
    "started_at": "2026-01-05T10:00:02Z",
    "finished_at": "2026-01-05T10:00:40Z",
    "expires_at": "2026-01-12T10:00:40Z",
    "result": {
        "frames": 25,
        "fps": 7,
        "width": 1024,
        "height": 576,
        "duration": 3.571,
        "seeds": [7],
        "settings": {"method": "mpd-vibid", "steps": 25},
        "files": [
            {
                "name": "take-1.mp4",
                "take": 1,
                "format": "mp4",
                "content_type": "video/mp4",
                "size": 812345,
                "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                "url": f"{_FILES}/take-1.mp4?signature=…",
            }
        ],
    },
    "links": {
        **QUEUED["links"],
        "video": f"{_URL}/video",
        "poster": f"{_URL}/poster",
        "contact_sheet": f"{_URL}/files/contact-sheet.jpg",
        "metadata": f"{_URL}/files/metadata.json",
        "frame": f"{_URL}/frames/{{n}}",
    },
}

_FOLLOW = {
    "getInbetween": {
        "operationId": "getInbetween",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Look at the job.",
    },
    "streamInbetween": {
        "operationId": "streamInbetween",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Follow it as it happens.",
    },
    "cancelInbetween": {
        "operationId": "cancelInbetween",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Stop it.",
    },
    "getVideo": {
        "operationId": "getVideo",
        "parameters": {"job_id": "$response.body#/id"},
        "description": "Download the video once it has succeeded.",
    },
}

ACCEPTED: dict[str, Any] = {
    "description": "The job is in the queue.",
    "headers": {
        "Location": {"description": "The job's URL.", "schema": {"type": "string", "format": "uri"}},
        "Retry-After": {"description": "Seconds until a look may show something new.", "schema": {"type": "integer"}},
        "Idempotent-Replayed": {
            "description": "`true` when this answer was given before, to the same `Idempotency-Key`.",
            "schema": {"type": "string"},
        },
    },
    "content": {"application/json": {"examples": {"queued": {"value": QUEUED}}}},
    "links": _FOLLOW,
}
JOB: dict[str, Any] = {
    "description": "The job as it is now.",
    "content": {
        "application/json": {
            "examples": {
                "queued": {"value": QUEUED},
                "running": {"value": RUNNING},
                "succeeded": {"value": SUCCEEDED},
            }
        }
    },
    "links": {name: link for name, link in _FOLLOW.items() if name != "getInbetween"},
}
