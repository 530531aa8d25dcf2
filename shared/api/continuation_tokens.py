"""Seals on what a caller keeps for us, so that it comes back as it was given, and from whom it was given to."""

import hmac
from base64 import urlsafe_b64encode
from typing import Protocol

from shared.errors import InvalidRequest

_MAC_BYTES = 16  # bytes of HMAC-SHA-256: nobody guesses 128 bits
_DETAIL = "It is not the continuation of this list. Take the one that the page before gave, with the same parameters."


class ContinuationKeySource(Protocol):
    """Where the key of this deployment is."""

    async def get_continuation_key(self) -> bytes:
        """The key: the same for all instances."""
        ...


class ContinuationSigner:
    """Seals continuations with the deployment's own key, which is read once."""

    def __init__(self, source: ContinuationKeySource) -> None:
        self._source = source
        self._key: bytes | None = None

    async def sign(self, text: str, owner: str) -> str:
        """The text with a seal that holds for this owner alone."""
        return f"{text}.{_mac(await self._get_key(), text, owner)}"

    async def verify(self, signed: str, owner: str) -> str:
        """The text of a seal that is unbroken, and its owner's.

        Raises
        ------
        InvalidRequest
            It is not: invented, changed, or another caller's.
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
    # The text has no line break: it is base64.
    seal = hmac.digest(key, f"continuation\n{text}\n{owner}".encode(), "sha256")[:_MAC_BYTES]
    return urlsafe_b64encode(seal).decode().rstrip("=")
