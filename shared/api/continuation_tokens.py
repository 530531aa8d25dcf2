"""Signatures of continuations, so that a caller can neither change one nor use another caller's."""

import hmac
from base64 import urlsafe_b64encode
from typing import Protocol

from shared.errors import InvalidRequest

_MAC_BYTES = 16  # of HMAC-SHA-256: 128 bits cannot be guessed
_DETAIL = "not a continuation of this list: send the one of the page before, with the same parameters"


class ContinuationKeySource(Protocol):
    """Holds the signing key of the deployment."""

    async def get_continuation_key(self) -> bytes:
        """Return the key, which is the same for all instances."""
        ...


class ContinuationSigner:
    """Signs continuations with the deployment's own key. The key is read once."""

    def __init__(self, source: ContinuationKeySource) -> None:
        self._source = source
        self._key: bytes | None = None

    async def sign(self, text: str, owner: str) -> str:
        """Return the text with a signature that is valid only for this owner."""
        return f"{text}.{_mac(await self._get_key(), text, owner)}"

    async def verify(self, signed: str, owner: str) -> str:
        """Return the text of a signed continuation.

        Raises
        ------
        InvalidRequest
            The continuation is invented, changed, or another caller's.
        """
        text, _, mac = signed.rpartition(".")
        if not signed.isascii() or not hmac.compare_digest(mac, _mac(await self._get_key(), text, owner)):
            raise InvalidRequest("The continuation cannot be used.", (("continuation", _DETAIL),))
        return text

    async def _get_key(self) -> bytes:
        if self._key is None:
            self._key = await self._source.get_continuation_key()
        return self._key


def _mac(key: bytes, text: str, owner: str) -> str:
    # The text is base64 and so has no line break. The parts cannot run into each other.
    mac = hmac.digest(key, f"continuation\n{text}\n{owner}".encode(), "sha256")[:_MAC_BYTES]
    return urlsafe_b64encode(mac).decode().rstrip("=")
