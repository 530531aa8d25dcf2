"""Route templates of HTTP triggers, such as `calls/{id:guid}` and `files/{*rest}`, matched as in ASP.NET."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from local.host.errors import HostError

# The supported route constraints. Microsoft Learn: "Routing in ASP.NET Core", route constraints.
_CONSTRAINTS = {
    "": r"[^/]+",
    "alpha": r"[A-Za-z]+",
    "bool": r"(?i:true|false)",
    "guid": r"\{?[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\}?",
    "int": r"-?\d{1,10}",
    "long": r"-?\d{1,19}",
}
_PARAMETER = re.compile(r"\{(?P<star>\*{0,2})(?P<name>\w+)(?::(?P<constraint>[^{}?]+))?(?P<optional>\??)\}")
_ENCODED_SLASH = re.compile(r"(%2[fF])")


@dataclass(frozen=True, slots=True)
class Route:
    """A template and its methods; no methods means all. `rank` sorts templates, the most specific first."""

    template: str
    methods: frozenset[str]
    pattern: re.Pattern[str]
    rank: tuple[int, ...]

    @classmethod
    def of(cls, template: str, methods: Iterable[str], *, function: str) -> "Route":
        """Parse a template.

        Raises
        ------
        HostError
            The route is reserved, or has a part that this host does not support.
        """
        if template.lower().startswith(("admin", "runtime")):  # Azure's host refuses these prefixes too
            raise HostError(f"function {function}: its route must not begin with admin or runtime: {template}")
        segments = [part for part in template.strip("/").split("/") if part]
        parts = [_segment(part, function) for part in segments]
        pattern = re.compile("".join(text for text, _ in parts), re.IGNORECASE)
        allowed = frozenset(method.upper() for method in methods)
        return cls(template, allowed, pattern, tuple(rank for _, rank in parts))

    def match(self, path: str, method: str) -> dict[str, str] | None:
        """Return the route's parameters, or None if it does not match this path (such as `/calls/1`) and method."""
        if self.methods and method not in self.methods:
            return None
        found = self.pattern.fullmatch(path)
        return None if found is None else {name: value for name, value in found.groupdict().items() if value}


def decoded(raw_path: str) -> str:
    """Percent-decode a path as Azure's web server does: everything but an encoded slash, which stays in its segment."""
    path = "".join(part if part.lower() == "%2f" else unquote(part) for part in _ENCODED_SLASH.split(raw_path))
    return path.rstrip("/")


def _segment(part: str, function: str) -> tuple[str, int]:
    found = _PARAMETER.fullmatch(part)
    if found is None:
        if "{" in part or "}" in part:
            raise HostError(f"function {function}: the local host does not support this part of its route: {part}")
        return "/" + re.escape(part), 0
    if found["star"]:
        return f"(?:/(?P<{found['name']}>.*))?", 3
    constraint = _CONSTRAINTS.get((found["constraint"] or "").lower())
    if constraint is None:
        raise HostError(f"function {function}: the local host does not support this constraint in its route: {part}")
    text = f"/(?P<{found['name']}>{constraint})"
    return (f"(?:{text})?" if found["optional"] else text), (1 if found["constraint"] else 2)
