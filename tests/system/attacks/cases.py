"""A case of the corpus: a request, why it is tried, and how it may be answered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.system.attacks.request_builders import Build

type Kind = Literal["algorithm", "key", "claims", "time", "form", "tenant", "size", "JSON", "id", "HTTP"]


@dataclass(frozen=True)
class Case:
    """One request that is tried.

    If it is accepted (202), its notification must be stored afterwards. If not, nothing may change.

    Attributes
    ----------
    kind
        The group of the case, see `corpus.MEANINGS`.
    what
        What the request does, in a few words. Together with the kind it is unique.
    source
        The document or observation from which the idea comes.
    statuses
        The statuses that may answer it. None stands for a connection that is closed without a response.
    build
        Builds the request.
    """

    kind: Kind
    what: str
    source: str
    statuses: tuple[int | None, ...]
    build: Build

    @property
    def id(self) -> str:
        """A name for the test: ASCII, and not longer than 80 characters."""
        return f"{self.kind}: {self.what}"[:80].encode("ascii", "replace").decode()

    @property
    def must_be_accepted(self) -> bool:
        """True if the request is genuine, so that it must be stored."""
        return self.statuses == (202,)


def refused(kind: Kind, what: str, source: str, build: Build, status: int = 401) -> Case:
    """Return a case that must be refused with this status."""
    return Case(kind, what, source, (status,), build)


def all_refused(kind: Kind, source: str, builds: Mapping[str, Build], status: int = 401) -> Iterator[Case]:
    """Yield cases of one source by what they do, all refused with this status."""
    for what, build in builds.items():
        yield refused(kind, what, source, build, status)


def accepted(kind: Kind, what: str, source: str, build: Build) -> Case:
    """Return a case that must be accepted."""
    return Case(kind, what, source, (202,), build)


def all_accepted(kind: Kind, source: str, builds: Mapping[str, Build]) -> Iterator[Case]:
    """Yield cases of one source by what they do, all accepted."""
    for what, build in builds.items():
        yield accepted(kind, what, source, build)
