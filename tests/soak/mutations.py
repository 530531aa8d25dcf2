"""Mutations of the product: each removes one safety of the keeper from the real classes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

import shared.graph.error_mapping
import shared.keeping.shard_sweep
from shared.api.webhook import Webhook
from shared.domain.leases import Lease, Progress, SweepPosition, Timing, Watermark
from shared.domain.notifications import ResultInfo
from shared.errors import StoreUnavailable
from shared.graph.verdict import GraphAction, Verdict, verdict_of
from shared.http_client import Response
from shared.keeping.backoff import TenantBackoff
from shared.keeping.counts import SweepCounts
from shared.keeping.keeper import Keeper
from shared.keeping.renewer import Renewer
from shared.keeping.shard_sweep import ShardSweeper
from shared.keeping.staleness import StalenessCheck
from shared.keeping.watchdog import Watchdog
from shared.storage import wakeup_queue
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.memory_table import MemoryTable
from shared.storage.table import Delete, Write
from shared.storage.wakeup_queue import Renew, Sweep, SweepShard, WakeUp
from soak.process import START


@dataclass(frozen=True)
class Mutation:
    """A safety, the preset that needs it, how many seeds show a violation without it, and how to remove it."""

    safety: str
    preset: str
    seeds: int
    remove: Callable[[pytest.MonkeyPatch], None]


async def nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def no_retries(patch: pytest.MonkeyPatch) -> None:
    send = BestEffortQueue.send

    async def sends(self: BestEffortQueue, message: WakeUp, delay: timedelta = timedelta()) -> bool:
        return isinstance(message, Renew) or await send(self, message, delay)

    patch.setattr(BestEffortQueue, "send", sends)


def no_switch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watchdog, "arm", nothing)


def no_notice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StalenessCheck, "run", nothing)


def no_sweep_beside(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StalenessCheck, "_start_background_sweep", lambda _self: None)


def no_put_back(patch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise StoreUnavailable("not put back (test)")

    patch.setattr(BestEffortQueue, "put_back", fails)


def watermark_first(patch: pytest.MonkeyPatch) -> None:
    renew = ShardSweeper.sweep

    async def sweep(self: ShardSweeper, shard: int, deadline: datetime, younger: timedelta | None) -> SweepCounts:
        now, there = self._clock.now(), await self._store.get_watermark(shard)
        if there and younger and now - there.sweep_started_at < younger:
            return SweepCounts(skipped=1)
        await self._store.put_watermark(shard, Watermark(now, now))
        return await renew(self, shard, deadline, None)

    patch.setattr(ShardSweeper, "sweep", sweep)


def watermark_always(patch: pytest.MonkeyPatch) -> None:
    async def writes(self: ShardSweeper, shard: int, done: Progress) -> None:
        await self._write_watermark(shard, done, None)

    patch.setattr(ShardSweeper, "_hand_over", writes)


def latest_first(patch: pytest.MonkeyPatch) -> None:
    order = shared.keeping.shard_sweep._leases_to_renew
    patch.setattr(shared.keeping.shard_sweep, "_leases_to_renew", lambda *args: order(*args)[::-1])


def no_progress(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ShardSweeper, "_find_resumable", lambda *_: None)


def order_by_id(patch: pytest.MonkeyPatch) -> None:
    def place(self: Lease, watermark: Watermark | None, timing: Timing) -> SweepPosition:
        return self.expires_at(watermark, timing), START, self.call_id

    patch.setattr(Lease, "sweep_position", place)


def no_etags(patch: pytest.MonkeyPatch) -> None:
    apply = MemoryTable._apply

    def applies(self: MemoryTable, shard: int, write: Write) -> None:
        if not isinstance(write, Delete) or write.key in self._partitions[shard].rows:
            apply(self, shard, write)

    patch.setattr(MemoryTable, "_can_apply", lambda *_: True)
    patch.setattr(MemoryTable, "_apply", applies)


def no_skew(patch: pytest.MonkeyPatch) -> None:
    skews = {
        "max_clock_skew": lambda _: timedelta(),
        "watermark_blind_window": lambda self: self.minute,
        "not_found_grace": lambda self: 6 * self.minute,
    }
    for name, seconds in skews.items():  # a property takes precedence over a cached value of the instance
        patch.setattr(Timing, name, property(seconds))


def no_renewal_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timing, "renew_at_once_below", property(lambda _: timedelta()))


def no_renewal_without_a_start(patch: pytest.MonkeyPatch) -> None:
    send = BestEffortQueue.send

    async def sends(self: BestEffortQueue, message: WakeUp, delay: timedelta = timedelta()) -> bool:
        if isinstance(message, Renew) and message.retry_at is None:
            return True
        return await send(self, message, delay)

    patch.setattr(BestEffortQueue, "send", sends)


def no_renewal_soon(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Webhook, "_renew_soon", nothing)


def no_wait_after_429(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TenantBackoff, "record_throttle", lambda *_: None)


def no_wait_for_silence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TenantBackoff, "record_timeout", lambda *_: None)


def fan_out_all(patch: pytest.MonkeyPatch) -> None:
    async def fans_out(self: Keeper, shards: list[int]) -> set[int]:
        if not await self._is_over_fan_out_threshold(shards[0]):
            return set()
        return {shard for shard in shards if await self._queue.send(SweepShard(shard=shard))}

    patch.setattr(Keeper, "_fan_out", fans_out)


def no_successor(patch: pytest.MonkeyPatch) -> None:
    see = Keeper._sweep_if_stale

    async def sees(self: Keeper, message: Sweep, began: datetime | None) -> None:
        with suppress(StoreUnavailable):
            await see(self, message, began)

    patch.setattr(Keeper, "_sweep_if_stale", sees)


def all_written(patch: pytest.MonkeyPatch) -> None:
    write = ShardSweeper._write_watermark

    async def writes(self: ShardSweeper, shard: int, done: Progress, etag: str | None) -> None:
        await write(self, shard, replace(done, unwritten=frozenset()), etag)

    patch.setattr(ShardSweeper, "_write_watermark", writes)


def kept_for_seven_days(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wakeup_queue, "MESSAGE_LIFETIME", timedelta(days=7))


def never_seen_to(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watchdog, "is_superfluous", lambda *_: False)


def first_404(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timing, "not_found_grace", property(lambda _: timedelta()))


def no_look_up(patch: pytest.MonkeyPatch) -> None:
    async def finds_nothing(_self: Renewer, _lease: Lease) -> ResultInfo:
        return ResultInfo()

    patch.setattr(Renewer, "_look_up", finds_nothing)


def any_answer(patch: pytest.MonkeyPatch) -> None:
    def believed(verb: GraphAction, answer: Response) -> Verdict:
        return Verdict.REFUSED if answer.status < 500 else verdict_of(verb, answer)

    patch.setattr(shared.graph.error_mapping, "verdict_of", believed)


MUTATIONS = (
    Mutation("retries", "graph-down-at-ticks", 2, no_retries),
    Mutation("the watchdog", "watchdog-only", 2, no_switch),
    Mutation("the check for stale sweeps after a request", "requests-only", 2, no_notice),
    Mutation("the sweep in the process of a request", "no-timer-no-queue", 1, no_sweep_beside),
    Mutation("messages put back during an outage", "storage-outages", 2, no_put_back),
    Mutation("a watermark that is written after the sweep", "graph-down-at-ticks", 2, watermark_first),
    Mutation("a watermark only for a complete sweep", "large-shard-no-queue", 1, watermark_always),
    Mutation("the earliest deadline first", "large-shard", 1, latest_first),
    Mutation("the row with the position of a sweep", "large-shard-no-queue", 1, no_progress),
    Mutation("the same order in each sweep", "large-shard-no-queue", 2, order_by_id),
    Mutation("the ETag condition", "write-races", 1, no_etags),
    Mutation("the minutes for clocks that differ", "late-registration", 4, no_skew),
    Mutation("the immediate renewal of a late registration", "late-registration", 1, no_renewal_at_once),
    Mutation("the immediate renewal if the start is missing", "late-registration", 4, no_renewal_without_a_start),
    Mutation("the immediate renewal after a late first notification", "unregistered", 1, no_renewal_soon),
    Mutation("the wait that Graph asks for", "throttled", 1, no_wait_after_429),
    Mutation("the wait after time-outs", "graph-timeouts", 1, no_wait_for_silence),
    Mutation("the timer's own sweep of stale shards", "fan-out-queue-stalled", 1, fan_out_all),
    Mutation("the lifetime of a message", "fan-out-queue-stalled", 1, kept_for_seven_days),
    Mutation("the watchdog message that stays until its successor is sent", "flaky-queue", 4, no_successor),
    Mutation("the exceptions of a watermark", "flaky-tables", 2, all_written),
    Mutation("one chain of watchdog messages", "duplicate-messages", 1, never_seen_to),
    Mutation("the second request after an early 404", "early-not-found", 2, first_404),
    Mutation("the look-up before a call with an expired lease is ended", "lost-answers", 1, no_look_up),
    Mutation("the proof that Graph itself answered", "write-races", 1, any_answer),
)
