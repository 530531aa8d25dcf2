"""The clock that all parts get passed in, so that tests step it instead of waiting."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

EVENT_SPACING = timedelta(microseconds=1)  # between lines of an event log that are written at once: keeps their order


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds, in real time."""
        await asyncio.sleep(seconds)
