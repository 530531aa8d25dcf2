"""What keeps calls alive, taken away: one safety at a time, from the real classes."""

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
from shared.graph.authenticity import GraphAction, Verdict, verdict_of
from shared.http_client import Response
from shared.keeping.backoff import TenantBackoff
from shared.keeping.keeper import Keeper
from shared.keeping.renewal_pass import SweepStats
from shared.keeping.renewer import Renewer
from shared.keeping.shard_sweep import ShardSweeper
from shared.storage import wakeup_queue
from shared.storage.memory_table import MemoryTable
from shared.storage.table import Delete, Write
from shared.storage.wakeup_queue import Renew, Sweep, SweepShard, WakeUp
from soak.wire import START


@dataclass(frozen=True)
class Mutation:
    """A safety, the kind of life that needs it, in how many seeds it is missed at the latest, and how to take it."""

    safety: str
    preset: str
    seeds: int
    take: Callable[[pytest.MonkeyPatch], None]


async def nothing(*_: object, **__: object) -> None:
    """Done."""


def no_retries(patch: pytest.MonkeyPatch) -> None:
    send = Renewer.send

    async def sends(self: Renewer, message: WakeUp, delay: timedelta = timedelta()) -> bool:
        return isinstance(message, Renew) or await send(self, message, delay)

    patch.setattr(Renewer, "send", sends)


def no_switch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Keeper, "_arm_watchdog", nothing)


def no_notice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Keeper, "check_for_stale_sweeps", nothing)


def no_sweep_beside(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Keeper, "_start_background_sweep", lambda _self: None)


def no_put_back(patch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise StoreUnavailable("not put back (test)")

    patch.setattr(Renewer, "put_back", fails)


def watermark_first(patch: pytest.MonkeyPatch) -> None:
    renew = ShardSweeper.sweep

    async def sweep(self: ShardSweeper, shard: int, deadline: datetime, younger: timedelta | None) -> SweepStats:
        now, there = self._clock.now(), await self._store.get_watermark(shard)
        if there and younger and now - there.sweep_started_at < younger:
            return SweepStats(skipped=1)
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
    for name, seconds in skews.items():  # as properties: they come before what an instance has worked out already
        patch.setattr(Timing, name, property(seconds))


def no_renewal_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timing, "renew_at_once_below", property(lambda _: timedelta()))


def no_renewal_without_a_start(patch: pytest.MonkeyPatch) -> None:
    send = Renewer.send

    async def sends(self: Renewer, message: WakeUp, delay: timedelta = timedelta()) -> bool:
        if isinstance(message, Renew) and message.retry_at is None:
            return True
        return await send(self, message, delay)

    patch.setattr(Renewer, "send", sends)


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
        return {shard for shard in shards if await self._renewer.send(SweepShard(shard=shard))}

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
    patch.setattr(Keeper, "_is_already_handled", lambda *_: False)


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
    Mutation("retries", "ticks", 2, no_retries),
    Mutation("the dead man's switch", "switch", 2, no_switch),
    Mutation("requests that notice", "requests", 2, no_notice),
    Mutation("the sweep of a request's own", "alone", 1, no_sweep_beside),
    Mutation("messages put back in an outage", "outages", 2, no_put_back),
    Mutation("the watermark written last", "ticks", 2, watermark_first),
    Mutation("the watermark only when all is done", "unhanded", 1, watermark_always),
    Mutation("the earliest deadline first", "crowded", 1, latest_first),
    Mutation("the row that says how far a sweep came", "unhanded", 1, no_progress),
    Mutation("the order that stays from sweep to sweep", "unhanded", 2, order_by_id),
    Mutation("the ETag condition", "races", 1, no_etags),
    Mutation("the minutes for clocks that differ", "late", 4, no_skew),
    Mutation("the renewal of what is registered late", "late", 1, no_renewal_at_once),
    Mutation("the renewal of what is registered without its start", "late", 4, no_renewal_without_a_start),
    Mutation("the renewal of what is met in mid-life", "met", 1, no_renewal_soon),
    Mutation("the wait that Graph asks for", "throttled", 1, no_wait_after_429),
    Mutation("the wait where nobody answers", "hung", 1, no_wait_for_silence),
    Mutation("the timer's own sweep of stale shards", "stands", 1, fan_out_all),
    Mutation("the end of a message that nobody takes", "stands", 1, kept_for_seven_days),
    Mutation("the switch that stays without a successor", "flaky", 4, no_successor),
    Mutation("the calls that a watermark excepts", "unwritten", 2, all_written),
    Mutation("one chain of switches", "doubled", 1, never_seen_to),
    Mutation("a second look at an early 404", "young", 2, first_404),
    Mutation("the look-up before a silent call is ended", "lost", 1, no_look_up),
    Mutation("the proof that Graph itself answered", "races", 1, any_answer),
)
