"""Request bodies of the control API."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from simulator.clock import MAX_SPEED
from simulator.delivery import DeliverySettings, TokenKind
from simulator.operations import STOPPED_BY_TONE
from simulator.records import CallDirection, Tone
from simulator.wire import ControlModel, Json

_MAX_SECONDS = 3.2e9  # about 100 years, so that no datetime overflows


class ClockChange(ControlModel):
    """The body of POST /control/clock."""

    advance: float | None = Field(None, ge=0, le=_MAX_SECONDS, description="simulated seconds")
    speed: float | None = Field(
        None, ge=0, le=MAX_SPEED, description="simulated seconds per real second; 0 stops the clock"
    )


class NewCallBody(ControlModel):
    """The body of POST /control/calls."""

    tenant_id: str = Field(min_length=1, max_length=100)
    app_id: str = Field(min_length=1, max_length=100)
    callback_uri: str | None = Field(None, pattern=r"^https?://")
    id: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^/?#]+$")
    direction: CallDirection | None = None
    state: Literal["incoming", "establishing", "established"] | None = None
    age_seconds: float = Field(0, ge=0, le=_MAX_SECONDS, description="time since the start of the call")
    quiet: bool = Field(default=False, description="send no notification by itself")
    details: dict[str, Json] = Field(default_factory=dict, description="further members of Graph's call")

    @model_validator(mode="after")
    def _direction_fits_state(self) -> Self:
        if self.state == "incoming" and self.direction is CallDirection.OUTGOING:
            raise ValueError("a call in state incoming has the direction incoming")
        return self


class EndBody(ControlModel):
    """The body of POST /control/calls/{id}/end."""

    code: int = 200
    subcode: int = 5001
    message: str = "The conversation has ended."
    notify: bool = True


class FinishBody(ControlModel):
    """The body of POST /control/calls/{id}/operations/{operationId}/finish."""

    status: Literal["completed", "failed"] = "completed"
    code: int = STOPPED_BY_TONE.code
    subcode: int = STOPPED_BY_TONE.subcode
    message: str = STOPPED_BY_TONE.message
    completion_reason: str = STOPPED_BY_TONE.completion_reason


class NotifyBody(ControlModel):
    """The body of POST /control/calls/{id}/notify: a notification to send again, or the content of another one."""

    notification_id: str | None = None
    change_type: Literal["created", "updated", "deleted"] = "updated"
    suffix: str = Field("", pattern=r"^(/.*)?$", description="follows the call in the URL, as /participants")
    resource_data: Json = None

    @model_validator(mode="after")
    def _has_exactly_one(self) -> Self:
        if (self.notification_id is None) == (self.resource_data is None):
            raise ValueError("give one of notificationId, resourceData")
        return self


class ToneBody(ControlModel):
    """The body of POST /control/calls/{id}/tone: the key that the person presses."""

    tone: Tone


class JoiningBody(ControlModel):
    """The body of POST /control/calls/{id}/participantJoining."""

    joining: dict[str, Json] = Field(
        default_factory=dict, description="members of the call in the notification: who joins, as source"
    )
    change_type: Literal["created", "updated"] = "updated"
    suffix: str = Field("", pattern=r"^(/.*)?$", description="follows the call in the URL, as /participants")


class DeliveryBody(DeliverySettings):
    """The body of PUT /control/delivery, for all calls or for one. A missing setting gets its default."""

    call_id: str | None = None

    def settings(self) -> DeliverySettings:
        """Return the settings without the call's id."""
        return DeliverySettings(**self.model_dump(exclude={"call_id"}))


class RotationBody(ControlModel):
    """The body of POST /control/keys/rotate."""

    kind: Literal["notification", "entra"] = "notification"
    keep_old: bool = Field(default=False, description="keep the older keys published")


class TokenBody(ControlModel):
    """The body of POST /control/tokens. A missing `issuer`, `roles` or `expiresIn` gets the usual value of the kind."""

    kind: Literal["notification", "entra"] = "entra"
    token: TokenKind = Field(TokenKind.LEGACY, description="the kind of a notification's token")
    app_id: str
    tenant_id: str
    audience: str | None = None
    issuer: str | None = None
    roles: tuple[str, ...] | None = None
    expires_in: int | None = Field(
        None, ge=-_MAX_SECONDS, le=_MAX_SECONDS, description="real seconds; a negative value makes an expired token"
    )

    @property
    def lifetime(self) -> timedelta | None:
        """Return `expires_in` as a duration, or None."""
        return None if self.expires_in is None else timedelta(seconds=self.expires_in)
