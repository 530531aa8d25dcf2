"""The journal: a bounded list of the requests that the simulator received, and unbounded counts of them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from simulator.faults import OperationName

_MAX_ENTRIES = 50_000


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One request and its response, without the Authorization header. `status` is None for a dropped connection."""

    at: datetime
    operation: OperationName
    method: str
    path: str
    call_id: str | None
    tenant_id: str | None
    app_id: str | None
    headers: dict[str, str]
    status: int | None
    fault_id: str | None


class Journal:
    """The last requests, newest last, and the counts of all requests per operation and status."""

    def __init__(self) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=_MAX_ENTRIES)
        self.counts: Counter[tuple[OperationName, int | None]] = Counter()

    def add(self, entry: JournalEntry) -> None:
        """Store an entry and count it."""
        self._entries.append(entry)
        self.counts[entry.operation, entry.status] += 1

    def entries(self, operation: OperationName | None, call_id: str | None, limit: int) -> list[JournalEntry]:
        """Return the newest `limit` entries of this operation and call, oldest first. None selects all."""
        matching = [
            entry
            for entry in self._entries
            if operation in {None, entry.operation} and call_id in {None, entry.call_id}
        ]
        return matching[-limit:]

    def clear(self) -> None:
        """Remove all entries and counts."""
        self._entries.clear()
        self.counts.clear()
