"""The access keys of the host: a function key and a master key."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

FUNCTION_KEY = "LOCAL_FUNCTION_KEY"
MASTER_KEY = "LOCAL_MASTER_KEY"


class AuthLevel(StrEnum):
    """The authorization level of an HTTP function (Microsoft Learn: HTTP trigger, authorization level)."""

    ANONYMOUS = "anonymous"
    FUNCTION = "function"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Keys:
    """The function key allows the level `function`; the master key allows all levels."""

    function: str
    master: str

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Keys":
        """Return the keys of the settings. A key that is not set is random."""
        return cls(*(settings.get(name) or secrets.token_urlsafe(24) for name in (FUNCTION_KEY, MASTER_KEY)))

    def allow(self, level: AuthLevel, presented: str) -> bool:
        """True if a caller with this key may call a function of this level."""
        match level:
            case AuthLevel.ANONYMOUS:
                return True
            case AuthLevel.FUNCTION:
                return _same(presented, self.function) or _same(presented, self.master)
            case AuthLevel.ADMIN:
                return _same(presented, self.master)


def _same(presented: str, key: str) -> bool:
    """Compare in constant time, so that the time does not show how much of a guess is right."""
    return hmac.compare_digest(presented.encode(), key.encode())
