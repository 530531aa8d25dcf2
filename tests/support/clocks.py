"""A clock for tests on real sockets: it stands still until the test steps it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass
class SteppedClock:
    time: datetime = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
