"""What every body that a request may have is made of, and the webhook that one may name."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

EventType = Literal["inbetween.succeeded", "inbetween.failed", "inbetween.canceled"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)


def _every_event() -> list[EventType]:
    return list(EVENT_TYPES)


class Strict(BaseModel):
    """Take a value as it is: a number in quotes is no number, an unknown field is refused by name."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        """Read 25.0 as 25, for JSON knows one kind of number."""
        return [_whole(entry) for entry in value] if isinstance(value, list) else _whole(value)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Webhook(Strict):
    """Where to send a signed event when the job is over."""

    url: str = Field(
        min_length=1,
        max_length=2000,
        description="Receives a POST signed as Standard Webhooks describe; the operator gives you the secret "
        "(`inbetween-server keys webhook-secret OWNER`). https, unless the operator allows the host.",
        examples=["https://example.com/hooks/inbetween"],
    )
    events: list[EventType] = Field(
        default_factory=_every_event, min_length=1, max_length=3, description="Which events to send. Default: all."
    )
