"""The whole corpus, and its counts by kind for docs/security.md."""

from collections import Counter

from tests.system.attacks import accepted, authorization_header, bodies, claims, entra, signatures, transports
from tests.system.attacks.cases import Case, Kind

MODULES = (signatures, claims, authorization_header, entra, bodies, transports, accepted)
CASES: tuple[Case, ...] = tuple(case for module in MODULES for case in module.cases())
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
    """Return each kind with the number of cases that are refused, and the number that are accepted."""
    found = Counter((case.kind, case.must_be_accepted) for case in CASES)
    return [(kind, found[kind, False], found[kind, True]) for kind in MEANINGS]
