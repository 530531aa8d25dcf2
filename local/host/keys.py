"""The keys that open functions: one for functions, one master key."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

FUNCTION_KEY = "LOCAL_FUNCTION_KEY"
MASTER_KEY = "LOCAL_MASTER_KEY"


class AuthLevel(StrEnum):
    """Who may call an HTTP function (Learn: HTTP trigger, authorization level)."""

    ANONYMOUS = "anonymous"
    FUNCTION = "function"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Keys:
    """The function key opens level `function`; the master key opens all."""

    function: str
    master: str

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Keys":
        """The keys that the settings give; random ones where they give none."""
        return cls(*(settings.get(name) or secrets.token_urlsafe(24) for name in (FUNCTION_KEY, MASTER_KEY)))

    def allow(self, level: AuthLevel, presented: str) -> bool:
        """Whether a caller with this key may call a function of this level."""
        match level:
            case AuthLevel.ANONYMOUS:
                return True
            case AuthLevel.FUNCTION:
                return _same(presented, self.function) or _same(presented, self.master)
            case AuthLevel.ADMIN:
                return _same(presented, self.master)


def _same(presented: str, key: str) -> bool:
    """Compare without telling by the time it takes how much of a guess was right."""
    return hmac.compare_digest(presented.encode(), key.encode())
