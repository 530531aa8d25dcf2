"""Renews one call: sends a keepAlive, interprets Graph's answer, and stores everything but plain success."""

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
    TokenUnavailable,
)
from shared.keeping.backoff import Backoff, TenantBackoff
from shared.keeping.concurrency import ConcurrencyLimiter
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import CallStore, shard_of, update
from shared.storage.wakeup_queue import Renew

if TYPE_CHECKING:
    from shared.graph.client import GraphCall

# Failures after which an expired call is not looked up at Graph: its tenant has to wait.
REASONS_NOT_ASKED = {"throttled", "postponed"}
DEFAULT_RETRY_AFTER = timedelta(seconds=2)  # for a 429 without Retry-After


class KeepAliveClient(Protocol):
    """The part of Graph's calls API that the keeper uses."""

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None) -> None:
        """Renew the call's lease. Raises `GraphError` or `TokenUnavailable`."""
        ...

    async def get(self, call_id: str, tenant_id: str, app_id: str | None) -> "GraphCall":
        """Return the call's state. Raises as `keep_alive` does."""
        ...


class Outcome(StrEnum):
    """The result of one keepAlive."""

    RENEWED = "renewed"
    ENDED = "ended"
    FAILING = "failing"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class FailureReason:
    """The reason why a keepAlive did not succeed, for the call's row and the log."""

    reason: str
    status: int | None = None
    subcode: int | None = None
    request_id: str | None = None
    retry_after: timedelta = timedelta()


def classify_failure(error: Exception) -> FailureReason:
    """Return the reason for an error, which separates our faults from Graph's. None of them ends a call."""
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
    """Sends keepAlive for one call and stores the result, unless it is plain success.

    A successful renewal of a healthy call in a sweep writes nothing: the shard's watermark, which is written last,
    proves it.
    """

    def __init__(  # noqa: PLR0913 what it is composed of
        self,
        store: CallStore,
        graph: KeepAliveClient,
        queue: BestEffortQueue,
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
        self.limiter = ConcurrencyLimiter(concurrency)  # one for all sweeps and retries of the process
        self.backoff = TenantBackoff(clock, timing)

    async def renew_in_sweep(self, lease: Lease, watermark: Watermark | None) -> Outcome:
        """Renew a call in a sweep, which has acquired a slot.

        Success is stored only if the call was failing. A throttled call is left to the sweep, and nothing is stored.

        Raises
        ------
        StoreUnavailable
            The result could not be stored.
        """
        try:
            asked_at = await self._send_keep_alive(lease)
        except GraphThrottled:
            return Outcome.THROTTLED
        except Exception as error:  # noqa: BLE001 (no error but Graph's 404 says that the call is over)
            return await self._record_error(lease, watermark, error)
        if lease.failing:
            await self._record_renewal(lease, asked_at)
        return Outcome.RENEWED

    async def renew_now(self, lease: Lease, watermark: Watermark | None) -> Outcome:
        """Renew a call outside of sweeps, for a registration or a retry, and store the result.

        It does not wait for a sweep's slot. If the tenant has to wait, Graph is not asked and the call gets a retry.

        Raises
        ------
        StoreUnavailable
            The result could not be stored.
        """
        async with self.limiter.beside_sweeps:
            if backoff := self.backoff.current(lease.tenant_app):
                return await self.record_failure(lease, watermark, self.reason_not_asked(backoff))
            try:
                asked_at = await self._send_keep_alive(lease)
            except Exception as error:  # noqa: BLE001 (as in `renew_in_sweep`)
                return await self._record_error(lease, watermark, error)
            await self._record_renewal(lease, asked_at)
            return Outcome.RENEWED

    def reason_not_asked(self, backoff: Backoff | None) -> FailureReason:
        """Return why Graph was not asked to renew a call: its tenant's backoff, or None if that has just ended."""
        if backoff is None:
            return FailureReason("postponed")
        return FailureReason(backoff.reason, backoff.status, retry_after=backoff.until - self._clock.now())

    async def record_failure(self, lease: Lease, watermark: Watermark | None, failure: FailureReason) -> Outcome:
        """Store that a keepAlive failed, and schedule the retry unless one is scheduled.

        A call without success for a whole lease is looked up at Graph first, and ended if Graph does not know it.

        Raises
        ------
        StoreUnavailable
            The result could not be stored.
        """
        now = self._clock.now()
        last_renewal = lease.last_renewal(watermark, self._timing)
        attempts = lease.failing.attempts + 1 if lease.failing else 1
        since_renewal = now - last_renewal
        is_at_risk = since_renewal >= self._timing.at_risk_after
        _log_failure(lease, failure, attempts, since_renewal, is_at_risk=is_at_risk)
        is_expired = since_renewal >= self._timing.lease and failure.reason not in REASONS_NOT_ASKED
        if is_expired and (result := await self._look_up(lease)):
            return await self._end_call(lease, TerminationSource.LOOKUP_NOT_FOUND, result)
        left = last_renewal + self._timing.lease - now
        under_way = lease.failing.retry_at if lease.failing and lease.failing.retry_at > now else None
        # A call with an early 404 is over, most likely: it is asked again as soon as the 404 counts, at each attempt.
        delay_attempts = 1 if failure.reason == "notFoundYet" else attempts
        retry_at = under_way or await self._schedule_retry(lease, delay_attempts, left, failure.retry_after)
        failing = RenewalFailure(now, attempts, retry_at, failure.reason, failure.status, failure.subcode, is_at_risk)
        await update(
            self._store, lease.call_id, lambda call: _with_failure(call, failing, last_renewal, new_retry=not under_way)
        )
        return Outcome.FAILING

    async def retry(self, message: Renew) -> Outcome | None:
        """Renew the call that a queue message names.

        Returns
        -------
        Outcome | None
            None if nothing was done: the call is over, the message is a leftover, or the tenant has to wait, and the
            message was sent again.

        Raises
        ------
        StoreUnavailable
            The call could not be read, or the result not stored, or the message not sent again.
        """
        stored = await self._store.get(message.call_id)
        if stored is None or stored.value.ended_at is not None:
            return None
        lease = stored.value.lease
        if message.retry_at is not None:
            if lease.failing is None or lease.failing.retry_at != message.retry_at:
                return None
            # This message is the retry that the row names, even if this clock is behind: none is under way any more.
            retry_at = min(message.retry_at, self._clock.now())
            lease = replace(lease, failing=replace(lease.failing, retry_at=retry_at))
        if backoff := self.backoff.current(lease.tenant_app):
            delay = backoff.until - self._clock.now() + self._jitter(lease.call_id)
            await self._queue.send_or_raise(message, delay)
            return None
        return await self.renew_now(lease, await self._watermark(lease.call_id))

    async def _watermark(self, call_id: str) -> Watermark | None:
        return credible(await self._store.get_watermark(shard_of(call_id)), self._clock.now(), self._timing)

    async def _send_keep_alive(self, lease: Lease) -> datetime:
        """Send a keepAlive and tell the tenant's backoff what came of it.

        Returns
        -------
        datetime
            The time just before the request: Graph's lease begins when the request arrives, so not before.
        """
        asked_at = self._clock.now()
        try:
            await self._graph.keep_alive(lease.call_id, lease.tenant_id, lease.app_id)
        except GraphThrottled as error:
            self._record_throttle(lease.tenant_app, error)
            raise
        except GraphCallNotFound:
            raise
        except Exception as error:
            if classify_failure(error).status is None:  # it may have hung; an answer, even a refusal, comes quickly
                self.backoff.record_timeout(lease.tenant_app)
            raise
        self.backoff.record_success(lease.tenant_app)
        return asked_at

    async def _record_error(self, lease: Lease, watermark: Watermark | None, error: Exception) -> Outcome:
        """End the call if Graph does not know it and it is old enough; otherwise store the failure."""
        failure = classify_failure(error)
        if isinstance(error, GraphCallNotFound):
            grace_left = lease.started_at + self._timing.not_found_grace - self._clock.now()
            if grace_left <= timedelta() or lease.hung_up:
                return await self._end_call(lease, TerminationSource.KEEP_ALIVE_NOT_FOUND)
            failure = replace(failure, retry_after=grace_left)
        return await self.record_failure(lease, watermark, failure)

    async def _record_renewal(self, lease: Lease, asked_at: datetime) -> None:
        await update(self._store, lease.call_id, lambda call: _with_renewal(call, asked_at, lease.failing))

    def _record_throttle(self, tenant_app: TenantApp, error: GraphThrottled) -> None:
        wait = timedelta(seconds=error.retry_after) if error.retry_after is not None else DEFAULT_RETRY_AFTER
        self.backoff.record_throttle(tenant_app, wait)
        telemetry.THROTTLED(tenantId=tenant_app.tenant_id, retryAfterSeconds=wait.total_seconds())

    async def _schedule_retry(self, lease: Lease, attempts: int, left: timedelta, retry_after: timedelta) -> datetime:
        """Send the next message of the call's one chain of retries, and return the time when it comes."""
        now = self._clock.now()
        delay = max(self._timing.retry_delay(attempts, left), retry_after and retry_after + self._jitter(lease.call_id))
        await self._queue.send(Renew(call_id=lease.call_id, retry_at=now + delay), delay)
        return now + delay

    def _jitter(self, call_id: str) -> timedelta:
        """Return up to half a minute, the same for a call each time: a tenant's retries must not come all at once."""
        return self._timing.minute / 2 * (zlib.crc32(call_id.encode()) / 2**32)

    async def _look_up(self, lease: Lease) -> ResultInfo | None:
        """Return the result with which Graph ended the call, empty if Graph does not know it; None if it may go on."""
        try:
            found = await self._graph.get(lease.call_id, lease.tenant_id, lease.app_id)
        except GraphCallNotFound:
            return ResultInfo()
        except Exception:  # noqa: BLE001 (as in `renew_in_sweep`)
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


def _log_failure(lease: Lease, failure: FailureReason, attempts: int, since: timedelta, *, is_at_risk: bool) -> None:
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
        telemetry.FORBIDDEN(tenantId=lease.tenant_id, status=403, subcode=failure.subcode, requestId=failure.request_id)


def _with_failure(
    call: Call | None, failing: RenewalFailure, last: datetime, *, new_retry: bool
) -> tuple[Call, tuple[Event, ...]] | None:
    if call is None or call.ended_at is not None:
        return None
    if not new_retry:  # the retry that was under way may be done by now, and the row name the next one
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
    """Store a renewal, and clear the failure that was `known` when the keepAlive was sent.

    If another sweep recorded a newer failure while this process was paused between Graph's answer and this write, keep
    that failure and its retry. Clearing it would let that sweep's watermark claim a renewal that never happened.
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
