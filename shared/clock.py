"""Time as the domain sees it: injected, so that tests step it instead of waiting."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

EVENT_SPACING = timedelta(microseconds=1)  # sets the lines of a story that are written at one moment in their order


class Clock(Protocol):
    """What tells the time and waits."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait, in real time."""
        await asyncio.sleep(seconds)
