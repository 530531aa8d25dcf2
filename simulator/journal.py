"""What the simulator was sent: a bounded list of requests, and counts that are never cut."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from simulator.faults import OperationName

_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One request and the answer to it; never its Authorization. `status` is None for a dropped connection."""

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
    """The requests, newest last."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self.counts: Counter[tuple[OperationName, int | None]] = Counter()

    def add(self, entry: Entry) -> None:
        """Write one down and count it."""
        self._entries.append(entry)
        self.counts[entry.operation, entry.status] += 1

    def entries(self, operation: OperationName | None, call_id: str | None, limit: int) -> list[Entry]:
        """The newest that fit, oldest of them first."""
        fitting = [
            entry
            for entry in self._entries
            if operation in {None, entry.operation} and call_id in {None, entry.call_id}
        ]
        return fitting[-limit:]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.counts.clear()
