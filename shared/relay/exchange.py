"""The request of Graph as the relay passes it on, and the response that Graph gets of the bot's answer.

The webhook imports this module even if the relay is off. The rest of the relay loads only if it has targets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

from shared.domain.deliveries import parse_delivery_id
from shared.domain.leases import TenantApp

RELAYED_HEADERS = (
    *("Content-Type", "Scenario-Id", "X-Microsoft-Skype-Chain-ID", "X-Microsoft-Skype-Message-ID"),
    "Client-Request-Id",
)
MAX_HEADER_LENGTH = 512  # characters; Graph sends GUIDs
MIN_BEARER_LIFE = timedelta(seconds=30)  # that Graph's bearer must have left when it is sent


@dataclass(frozen=True, slots=True)
class Bearer:
    """The `Authorization` header of Graph's request. It stays in memory, and is not sent shortly before its end."""

    header: str = field(repr=False)
    expires_at: datetime

    def is_usable(self, now: datetime) -> bool:
        """True if it has 30 seconds left."""
        return self.expires_at - now >= MIN_BEARER_LIFE


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """The parts of Graph's request that are passed on, besides its body.

    Parameters
    ----------
    headers
        The content type and the correlation headers.
    to
        The values of `to` in the query of the callback.
    is_from_relay
        True if it has a `webhook-id` of ours: a bot, or a target that leads to Call Keeper itself, has sent a delivery
        back. It is stored, but relayed once more it would go round in a circle.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    to: tuple[str, ...] = ()
    is_from_relay: bool = False

    @classmethod
    def of(cls, headers: Mapping[str, str], url: str) -> "IncomingRequest":
        """Read them from the headers and the URL of a request. Headers that no client should send are left out."""
        found = {name: headers.get(name) for name in RELAYED_HEADERS}
        kept = {name: value for name, value in found.items() if value and is_plain(value)}
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
        to = tuple(value for name, value in query if name == "to")
        return cls(kept, to, parse_delivery_id(headers.get("webhook-id") or "") is not None)


@dataclass(frozen=True, slots=True)
class BotResponse:
    """The response of the bot that Graph gets: all of it if Graph wants an answer, else only two headers."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request of Graph with a valid token.

    Parameters
    ----------
    sender
        The tenant and the app of the token.
    """

    body: bytes = field(repr=False)
    request: IncomingRequest
    bearer: Bearer
    sender: TenantApp
    received_at: datetime


def is_plain(value: str) -> bool:
    """True if a header may have this value. A bot's own may be anything, and the host cannot send all of it."""
    return len(value) <= MAX_HEADER_LENGTH and value.isascii() and value.isprintable()
