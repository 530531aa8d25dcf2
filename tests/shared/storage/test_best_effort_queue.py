"""The queue for callers that go on without it: its circuit breaker, and what is put back."""

from datetime import timedelta

import pytest

from shared.domain.leases import Timing
from shared.errors import StoreUnavailable
from shared.storage.best_effort_queue import MAX_PUT_BACKS, BestEffortQueue
from shared.storage.wakeup_queue import Renew, SweepShard, WakeUp
from tests.support.virtual import VirtualClock, VirtualQueue

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
MESSAGE = Renew(call_id="call")


class CountingQueue(VirtualQueue):
    """Counts the messages that it was asked to take."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.attempts = 0

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> None:
        self.attempts += 1
        await super().send(message, delay)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def queue(clock: VirtualClock) -> CountingQueue:
    return CountingQueue(clock)


@pytest.fixture
def best_effort(queue: CountingQueue, clock: VirtualClock) -> BestEffortQueue:
    return BestEffortQueue(queue, clock, Timing())


class TestSend:
    async def test_reports_what_the_queue_took(self, best_effort: BestEffortQueue, queue: CountingQueue) -> None:
        assert await best_effort.send(MESSAGE, MINUTE)
        assert queue.waiting() == [(MINUTE, MESSAGE)]

    async def test_logs_a_failure_and_does_not_raise(
        self, best_effort: BestEffortQueue, queue: CountingQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue.broken = True
        assert not await best_effort.send(MESSAGE)
        assert "queue.send.failed" in caplog.text


class TestCircuitBreaker:
    @pytest.mark.parametrize(
        ("later", "attempts"),
        [
            pytest.param(29 * SECOND, 1, id="open for less than 30 s"),
            pytest.param(30 * SECOND, 2, id="closed after 30 s"),
        ],
    )
    async def test_opens_for_half_a_minute(
        self,
        later: timedelta,
        attempts: int,
        best_effort: BestEffortQueue,
        queue: CountingQueue,
        clock: VirtualClock,
    ) -> None:
        queue.broken = True
        await best_effort.send(MESSAGE)
        queue.broken = False
        await clock.advance(later)
        assert await best_effort.send(MESSAGE) is (attempts == 2)
        assert queue.attempts == attempts

    async def test_counts_from_the_failure_not_from_the_send(
        self, best_effort: BestEffortQueue, queue: CountingQueue, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def time_out(*_: object) -> None:
            await clock.sleep(10)
            raise StoreUnavailable("no answer (test)")

        with monkeypatch.context() as patch:
            patch.setattr(queue, "send", time_out)
            await clock.run(best_effort.send(MESSAGE))  # fails after 10 s, so the breaker is open until 10 + 30 s
        await clock.advance(29 * SECOND)
        assert not await best_effort.send(MESSAGE)
        await clock.advance(SECOND)
        assert await best_effort.send(MESSAGE)

    async def test_does_not_hold_back_what_must_not_be_lost(
        self, best_effort: BestEffortQueue, queue: CountingQueue
    ) -> None:
        queue.broken = True
        await best_effort.send(MESSAGE)
        with pytest.raises(StoreUnavailable):
            await best_effort.send_or_raise(MESSAGE, MINUTE)
        with pytest.raises(StoreUnavailable):
            await best_effort.put_back(MESSAGE)
        queue.broken = False
        await best_effort.send_or_raise(MESSAGE, MINUTE)
        assert queue.waiting() == [(MINUTE, MESSAGE)]


class TestPutBack:
    async def test_waits_longer_each_time(self, best_effort: BestEffortQueue, queue: CountingQueue) -> None:
        message, delays = SweepShard(shard=3), []
        for _ in range(MAX_PUT_BACKS):
            await best_effort.put_back(message)
            [(delay, again)] = queue.waiting()
            assert isinstance(again, SweepShard)
            delays.append(delay)
            message = again
            queue.messages.clear()
        assert delays == [minutes * MINUTE for minutes in (1, 2, 4, *[8] * 11)]

    async def test_ends_after_the_maximum(
        self, best_effort: BestEffortQueue, queue: CountingQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        await best_effort.put_back(MESSAGE.model_copy(update={"put_back": MAX_PUT_BACKS}))
        assert not queue.messages
        assert "put back too often" in caplog.text
