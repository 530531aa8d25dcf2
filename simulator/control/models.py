"""What the control API takes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from simulator.delivery import Modes, TokenKind
from simulator.records import Direction
from simulator.wire import Json

_HUNDRED_YEARS = 3.2e9


class ControlModel(BaseModel):
    """A JSON object of the control API."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)


class ClockChange(ControlModel):
    """POST /control/clock."""

    advance: float | None = Field(None, ge=0, le=_HUNDRED_YEARS, description="simulated seconds")
    speed: float | None = Field(None, ge=0, le=100_000, description="simulated seconds per real second; 0 stands still")


class CallWanted(ControlModel):
    """POST /control/calls."""

    tenant_id: str = Field(min_length=1, max_length=100)
    app_id: str = Field(min_length=1, max_length=100)
    callback_uri: str | None = Field(None, pattern=r"^https?://")
    id: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^/?#]+$")
    direction: Direction | None = None
    state: Literal["incoming", "establishing", "established"] | None = None
    age_seconds: float = Field(0, ge=0, le=_HUNDRED_YEARS)
    quiet: bool = False
    details: dict[str, Json] = Field(default_factory=dict, description="further members of Graph's call")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.state == "incoming" and self.direction is Direction.OUTGOING:
            raise ValueError("a call in state incoming has the direction incoming")
        return self


class EndWanted(ControlModel):
    """POST /control/calls/{id}/end."""

    code: int = 200
    subcode: int = 5001
    message: str = "The conversation has ended."
    notify: bool = True


class FinishWanted(ControlModel):
    """POST /control/calls/{id}/operations/{operationId}/finish."""

    status: Literal["completed", "failed"] = "completed"
    code: int = 200
    subcode: int = 8514
    message: str = "Action completed, stop tone detected."
    completion_reason: str = "stopToneDetected"


class NotifyWanted(ControlModel):
    """POST /control/calls/{id}/notify: one that was sent before, or any other."""

    notification_id: str | None = None
    change_type: Literal["created", "updated", "deleted"] = "updated"
    suffix: str = Field("", pattern=r"^(/.*)?$", description="what follows the call in the URL, as /participants")
    resource_data: Json = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.notification_id is None) == (self.resource_data is None):
            raise ValueError("give one of notificationId, resourceData")
        return self


class DeliveryWanted(Modes):
    """PUT /control/delivery: for all calls, or for one. What is left out has its first value again."""

    call_id: str | None = None

    def modes(self) -> Modes:
        """The modes alone."""
        return Modes(**self.model_dump(exclude={"call_id"}))


class RotationWanted(ControlModel):
    """POST /control/keys/rotate."""

    kind: Literal["notification", "entra"] = "notification"
    keep_old: bool = Field(default=False, description="keep the older keys published")


class TokenWanted(ControlModel):
    """POST /control/tokens. `issuer`, `roles` and `expiresIn` have the kind's own values if left out."""

    kind: Literal["notification", "entra"] = "entra"
    token: TokenKind = Field(TokenKind.LEGACY, description="of a notification")
    app_id: str
    tenant_id: str
    audience: str | None = None
    issuer: str | None = None
    roles: tuple[str, ...] | None = None
    expires_in: int | None = Field(None, description="real seconds; negative: expired so long ago")
