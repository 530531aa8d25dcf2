"""JSON types, times and ids as they are written in requests, responses and notifications."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None
type JsonObject = Mapping[str, Json]

_GUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)


class ControlModel(BaseModel):
    """A JSON object of the control API: camelCase names, no unknown members."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)


def canonical_id(text: str) -> str:
    """Return a GUID in lower case with hyphens, from either of Graph's two forms. Return other ids unchanged."""
    if not _GUID.fullmatch(text):
        return text
    digits = text.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def notification_id(text: str) -> str:
    """Return a GUID in upper case without hyphens. Return other ids unchanged.

    Source: the URLs of operation notifications on Graph's call-record page.
    """
    return text.replace("-", "").upper() if _GUID.fullmatch(text) else text


def rfc3339(moment: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
