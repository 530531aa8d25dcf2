"""What goes over the wire: JSON types, times and the two written forms of Graph's ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None
type JsonObject = Mapping[str, Json]

_GUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)


def canonical_id(text: str) -> str:
    """Lower case with hyphens for a GUID in either of Graph's forms; anything else as it is."""
    if not _GUID.fullmatch(text):
        return text
    digits = text.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def notification_id(text: str) -> str:
    """Upper case without hyphens, as in the URLs of operation notifications (Graph: call-record page)."""
    return text.replace("-", "").upper() if _GUID.fullmatch(text) else text


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
