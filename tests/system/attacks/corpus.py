"""The whole corpus, and its counts by kind for docs/security.md."""

from collections import Counter

from tests.system.attacks import bodies, entra, genuine, tokens, wires
from tests.system.attacks.scene import Case, Kind

CASES: tuple[Case, ...] = (*tokens.cases(), *entra.cases(), *bodies.cases(), *wires.cases(), *genuine.cases())
MEANINGS: dict[Kind, str] = {
    "algorithm": "a token that chooses how it is verified",
    "key": "a token that chooses or forges its key",
    "claims": "a well signed token that is not for us, or not Graph's",
    "time": "a token too early, too late, or without a time",
    "form": "no token, half a token, several, in another place",
    "tenant": "a good token of one tenant for a call of another",
    "size": "too large, too many, compressed",
    "JSON": "no JSON, JSON with two readings, JSON that costs too much",
    "id": "ids that would become keys, paths or queries",
    "HTTP": "addresses, methods, requests hidden in requests",
}


def counts() -> list[tuple[Kind, int, int]]:
    """Each kind, with how many cases are refused, and how many odd ones are let in."""
    found = Counter((case.kind, case.is_genuine) for case in CASES)
    return [(kind, found[kind, False], found[kind, True]) for kind in MEANINGS]
