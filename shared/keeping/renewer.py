"""Renewing one call: what Graph's answer to a keepAlive means, and what is written down of it."""

import zlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from shared import telemetry
from shared.clock import Clock
from shared.domain import lifecycle
from shared.domain.calls import Call, Event, TerminationSource
from shared.domain.leases import Lease, RenewalFailure, TenantApp, Timing, Watermark, credible
from shared.domain.notifications import ResultInfo
from shared.errors import (
    GraphCallNotFound,
    GraphError,
    GraphForbidden,
    GraphRejected,
    GraphThrottled,
    StoreUnavailable,
    TokenUnavailable,
)
from shared.keeping.backoff import Backoff, TenantBackoff
from shared.keeping.concurrency import ConcurrencyLimiter
from shared.storage.store import CallStore, shard_of, update
from shared.storage.wakeup_queue import Renew, WakeUp, WakeUpQueue

if TYPE_CHECKING:
    from shared.graph.client import GraphCall

MAX_PUT_BACK = 14  # 1, 2, 4, 8, 8, … minutes
REASONS_NOT_ASKED = {"throttled", "postponed"}  # failures of which Graph itself was not asked, and shall not be
DEFAULT_RETRY_AFTER = timedelta(seconds=2)  # a 429 without Retry-After


class KeepAliveClient(Protocol):
    """The part of Graph's calls API that the keeper uses."""

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None) -> None:
        """Renew the lease."""
        ...

    async def get(self, call_id: str, tenant_id: str, app_id: str | None) -> "GraphCall":
        """Look the call up."""
        ...


class Outcome(StrEnum):
    """What became of one keepAlive."""

    RENEWED = "renewed"
    ENDED = "ended"
    FAILING = "failing"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Why a keepAlive did not succeed, in words for the record and the log."""

    reason: str
    status: int | None = None
    subcode: int | None = None
    request_id: str | None = None
    retry_after: timedelta = timedelta()


def classify_failure(error: Exception) -> FailureReason:
    """Tell our trouble and Graph's apart. None of them ends a call."""
    match error:
        case GraphThrottled():
            reason = "throttled"
        case GraphForbidden():
            reason = "forbidden"
        case GraphCallNotFound():
            reason = "notFoundYet"
        case GraphRejected():
            reason = "rejected"
        case GraphError():
            reason = "unavailable"
        case TokenUnavailable():
            reason = "noToken"
        case _:
            reason = "internalError"
    if isinstance(error, GraphError):
        wait = timedelta(seconds=error.retry_after or 0)
        return FailureReason(reason, error.status, error.subcode, error.request_id, wait)
    return FailureReason(reason)


class Renewer:
    """Sends keepAlive for one call and writes down what is not plain success.

    A renewal of a healthy call in a sweep writes nothing: the shard's watermark, written last, proves it.
    """

    def __init__(  # noqa: PLR0913 what it is composed of
        self,
        store: CallStore,
        graph: KeepAliveClient,
        queue: WakeUpQueue,
        clock: Clock,
        timing: Timing,
        *,
        concurrency: int = 32,
    ) -> None:
        self._store = store
        self._graph = graph
        self._queue = queue
        self._clock = clock
        self._timing = timing
        self.limiter = ConcurrencyLimiter(concurrency)  # of the process, however many sweeps and retries there are
        self._queue_away_until: datetime | None = None
        self.backoff = TenantBackoff(clock, timing)

    async def renew(self, lease: Lease, watermark: Watermark | None, *, swept: bool) -> Outcome:
        """Renew once.

        Parameters
        ----------
        swept
            A sweep asks: its watermark will prove the renewal, it deals with throttling itself, and has taken a slot.
        """
        if swept:
            return await self._renew(lease, watermark, swept=True)
        async with self.limiter.beside_sweeps:
            if backoff := self.backoff.current(lease.tenant_app):
                return await self.record_failure(lease, watermark, self.reason_not_asked(backoff))
            return await self._renew(lease, watermark, swept=False)

    async def _renew(self, lease: Lease, watermark: Watermark | None, *, swept: bool) -> Outcome:
        try:
            asked_at = self._clock.now()  # Graph's lease begins when it gets the request: not before this
            await self._graph.keep_alive(lease.call_id, lease.tenant_id, lease.app_id)
        except GraphThrottled as error:
            self._record_throttle(lease.tenant_app, error)
            if swept:
                return Outcome.THROTTLED
            return await self.record_failure(lease, watermark, classify_failure(error))
        except GraphCallNotFound as error:
            grace_left = lease.started_at + self._timing.not_found_grace - self._clock.now()
            if grace_left > timedelta() and not lease.hung_up:
                return await self.record_failure(
                    lease, watermark, replace(classify_failure(error), retry_after=grace_left)
                )
            return await self._end_call(lease, TerminationSource.KEEP_ALIVE_NOT_FOUND)
        except Exception as error:  # noqa: BLE001 (whatever it was, it is no word of Graph's that the call is over)
            failure = classify_failure(error)
            if failure.status is None:  # no answer: it may have hung. An answer, be it a refusal, comes quickly
                self.backoff.record_timeout(lease.tenant_app)
            return await self.record_failure(lease, watermark, failure)
        self.backoff.record_success(lease.tenant_app)
        if not swept or lease.failing:
            await update(self._store, lease.call_id, lambda call: _with_renewal(call, asked_at, lease.failing))
        return Outcome.RENEWED

    def reason_not_asked(self, backoff: Backoff | None) -> FailureReason:
        """What keeps a call from being renewed whose tenant has to wait."""
        if backoff is None:
            return FailureReason("postponed")
        return FailureReason(backoff.reason, backoff.status, retry_after=backoff.until - self._clock.now())

    async def record_failure(self, lease: Lease, watermark: Watermark | None, failure: FailureReason) -> Outcome:
        """Write down that a keepAlive failed, and see to its retry. After a whole lease without success, look it up."""
        now = self._clock.now()
        last_renewal = lease.last_renewal(watermark, self._timing)
        attempts = lease.failing.attempts + 1 if lease.failing else 1
        self._log_failure(lease, failure, attempts, now - last_renewal)
        is_expired = now - last_renewal >= self._timing.lease and failure.reason not in REASONS_NOT_ASKED
        if is_expired and (result := await self._look_up(lease)):
            return await self._end_call(lease, TerminationSource.LOOKUP_NOT_FOUND, result)
        left = last_renewal + self._timing.lease - now
        under_way = lease.failing.retry_at if lease.failing and lease.failing.retry_at > now else None
        delay_attempts = (
            1 if failure.reason == "notFoundYet" else attempts
        )  # over, most likely: known as soon as it counts
        retry_at = under_way or await self._schedule_retry(lease, delay_attempts, left, failure.retry_after)
        failing = RenewalFailure(now, attempts, retry_at, failure.reason, failure.status, failure.subcode)
        await update(
            self._store, lease.call_id, lambda call: _with_failure(call, failing, last_renewal, new_retry=not under_way)
        )
        return Outcome.FAILING

    async def retry(self, message: Renew) -> Outcome | None:
        """Do what a message asks for. None: there was nothing to do, the call is over or the message a leftover."""
        stored = await self._store.get(message.call_id)
        if stored is None or stored.value.ended_at is not None:
            return None
        lease = stored.value.lease
        if message.retry_at is not None:
            if lease.failing is None or lease.failing.retry_at != message.retry_at:
                return None
            # This message is that retry, whatever this machine's clock says: none is under way any more.
            retry_at = min(message.retry_at, self._clock.now())
            lease = replace(lease, failing=replace(lease.failing, retry_at=retry_at))
        if backoff := self.backoff.current(lease.tenant_app):
            await self._queue.send(message, backoff.until - self._clock.now() + self._jitter(lease.call_id))
            return None
        return await self.renew(lease, await self._watermark(lease.call_id), swept=False)

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> bool:
        """Leave a wake-up; whether it was taken. If not, that is told, and the next sweep does the work.

        A queue that did not take one is not asked again for half a minute: each time takes seconds.
        """
        now = self._clock.now()
        if self._queue_away_until and now < self._queue_away_until:
            return False
        try:
            await self._queue.send(message, delay)
        except StoreUnavailable as error:
            self._queue_away_until = self._clock.now() + self._timing.minute / 2
            telemetry.QUEUE_FAILED(kind=message.kind, error=str(error))
            return False
        return True

    async def put_back(self, message: WakeUp) -> None:
        """Leave a message once more, for later, and later each time; after an hour and a half the sweeps must do.

        Raises
        ------
        StoreUnavailable
            The queue did not take it.
        """
        if message.put_back >= MAX_PUT_BACK:
            telemetry.QUEUE_FAILED(kind=message.kind, error="put back too often; the sweeps see to it")
            return
        again = message.model_copy(update={"put_back": message.put_back + 1})
        await self._queue.send(again, self._timing.retry_delay(again.put_back, self._timing.lease))

    async def _watermark(self, call_id: str) -> Watermark | None:
        return credible(await self._store.get_watermark(shard_of(call_id)), self._clock.now(), self._timing)

    def _record_throttle(self, tenant_app: TenantApp, error: GraphThrottled) -> None:
        wait = timedelta(seconds=error.retry_after) if error.retry_after is not None else DEFAULT_RETRY_AFTER
        self.backoff.record_throttle(tenant_app, wait)
        telemetry.THROTTLED(tenantId=tenant_app.tenant_id, retryAfterSeconds=wait.total_seconds())

    async def _schedule_retry(self, lease: Lease, attempts: int, left: timedelta, retry_after: timedelta) -> datetime:
        """Leave the next message of the call's one chain; when it comes."""
        now = self._clock.now()
        delay = max(self._timing.retry_delay(attempts, left), retry_after and retry_after + self._jitter(lease.call_id))
        await self.send(Renew(call_id=lease.call_id, retry_at=now + delay), delay)
        return now + delay

    def _jitter(self, call_id: str) -> timedelta:
        """Up to half a minute, by the call: a throttled tenant's retries must not come all at once."""
        return self._timing.minute / 2 * (zlib.crc32(call_id.encode()) / 2**32)

    async def _look_up(self, lease: Lease) -> ResultInfo | None:
        """Whether Graph says that the call is over: the result it tells then, an empty one if it knows no such call."""
        try:
            found = await self._graph.get(lease.call_id, lease.tenant_id, lease.app_id)
        except GraphCallNotFound:
            return ResultInfo()
        except Exception:  # noqa: BLE001 (as in `renew`: it is no word of Graph's that the call is over)
            return None
        return (found.result or ResultInfo()) if found.state == "terminated" else None

    async def _end_call(self, lease: Lease, source: TerminationSource, result: ResultInfo | None = None) -> Outcome:
        now = self._clock.now()
        ended = False

        def decide(call: Call | None) -> tuple[Call, tuple[Event, ...]] | None:
            nonlocal ended
            decision = _ended(call, source, now, result)
            ended = decision is not None
            return decision

        call = await update(self._store, lease.call_id, decide)
        if call and ended:
            telemetry.log_call_ended(call)
        return Outcome.ENDED

    def _log_failure(self, lease: Lease, failure: FailureReason, attempts: int, since: timedelta) -> None:
        is_at_risk = since >= self._timing.at_risk_after
        for log in (telemetry.CALL_FAILING, telemetry.CALL_AT_RISK) if is_at_risk else (telemetry.CALL_FAILING,):
            log(
                callId=lease.call_id,
                tenantId=lease.tenant_id,
                reason=failure.reason,
                status=failure.status,
                subcode=failure.subcode,
                requestId=failure.request_id,
                attempts=attempts,
                minutesSinceRenewal=round(since / timedelta(minutes=1), 1),
            )
        if failure.reason == "forbidden":
            telemetry.FORBIDDEN(
                tenantId=lease.tenant_id, status=403, subcode=failure.subcode, requestId=failure.request_id
            )


def _with_failure(
    call: Call | None, failing: RenewalFailure, last: datetime, *, new_retry: bool
) -> tuple[Call, tuple[Event, ...]] | None:
    if call is None or call.ended_at is not None:
        return None
    if not new_retry:  # the one that was under way may be done by now, and the row name the next
        if call.failing is None:
            return None
        failing = replace(failing, retry_at=call.failing.retry_at)
    after = lifecycle.renewal_failed(call, failing, last)
    if call.failing is not None:
        return after, ()
    detail = {"reason": failing.reason, "status": failing.status, "subcode": failing.subcode}
    return after, (Event("keepAliveFailing", failing.since, detail),)


def _with_renewal(
    call: Call | None, at: datetime, known: RenewalFailure | None
) -> tuple[Call, tuple[Event, ...]] | None:
    """The renewal, which mends the failure that was `known` when it was asked for.

    A later one stands, with its retry: this process may have stood still between Graph's answer and this. Else the
    watermark of the sweep that failed would claim a renewal by that sweep.
    """
    if call is None or call.ended_at is not None:
        return None
    after = lifecycle.renewed(call, at)
    if call.failing is None:
        return after, ()
    if known is None or (call.failing.since, call.failing.attempts) != (known.since, known.attempts):
        return replace(after, failing=call.failing), ()
    return after, (Event("keepAliveRecovered", at, {"attempts": call.failing.attempts}),)


def _ended(
    call: Call | None, source: TerminationSource, now: datetime, result: ResultInfo | None
) -> tuple[Call, tuple[Event, ...]] | None:
    if call is None or call.ended_at is not None:
        return None
    after = lifecycle.call_gone(call, source, now, result)
    final_source = after.termination.source if after.termination else source
    return after, (Event("ended", now, {"source": final_source}),)
