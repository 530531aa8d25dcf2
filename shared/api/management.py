"""The management requests that change something: register, hang up, record. `records` has those that read."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, Self

from shared import telemetry
from shared.api.records import CallWithWatermark, Records
from shared.api.requests import check_metadata
from shared.clock import EVENT_SPACING, Clock
from shared.config.apps import Apps, BotApp
from shared.domain import lifecycle
from shared.domain.calls import Call, Event, Operation, Status
from shared.domain.leases import Timing
from shared.domain.lifecycle import Registration
from shared.domain.scopes import Scope
from shared.errors import (
    CallEnded,
    CallKeeperError,
    CallNotFound,
    Forbidden,
    GraphCallNotFound,
    GraphError,
    GraphNotReached,
    GraphUnavailable,
    InvalidRequest,
    OutcomeUnknown,
    RecordingNotPersisted,
    StoreUnavailable,
)
from shared.keeping.renewer import Renewer
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import CallStore, Change, retry_conflicts, shard_of, update
from shared.storage.wakeup_queue import Renew

if TYPE_CHECKING:
    from shared.domain.notifications import OperationNotification
    from shared.graph.recording import RecordRequest


class CallControlClient(Protocol):
    """The part of Graph's calls API that management uses."""

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None) -> None:
        """End the call. In a group call, end the bot's leg of it."""
        ...

    async def record(
        self, call_id: str, tenant_id: str, request: "RecordRequest", app_id: str | None
    ) -> "OperationNotification":
        """Start a recording."""
        ...


@dataclass(frozen=True)
class Management:
    """Registers calls, hangs them up and records, for one caller. Registering and hanging up are safe to repeat.

    Parameters
    ----------
    records
        The reading side, with the scope of the caller.
    apps
        The bots of this deployment.
    """

    store: CallStore
    graph: CallControlClient
    renewer: Renewer
    clock: Clock
    timing: Timing
    queue: BestEffortQueue = field(kw_only=True)
    records: Records = field(kw_only=True)
    apps: Apps = field(kw_only=True)

    def scoped_to(self, scope: Scope) -> Self:
        """Return a copy for a caller with this scope: calls outside of it are treated as absent."""
        return replace(self, records=self.records.scoped_to(scope.with_appless_calls(self.apps.default.app_id)))

    async def register(  # noqa: PLR0913 what a bot may say of a call
        self,
        call_id: str,
        tenant_id: str | None,
        started_at: datetime | None,
        metadata: dict[str, str],
        *,
        app_id: str | None = None,
        to: str | None = None,
        by: str = "unknown",
    ) -> tuple[CallWithWatermark, bool]:
        """Put a call on record. If little of its lease is left, it is renewed before this returns.

        Parameters
        ----------
        tenant_id, app_id
            The call's. None: the setting for the tenant, and the only bot of this deployment.
        started_at
            The start of the call, or its last renewal by the bot. None: unknown.
        to
            The bot's instance, for the relay.
        by
            The caller's name. The first registration writes it into the event log.

        Returns
        -------
        The call, and True if it was not on record before.

        Raises
        ------
        InvalidRequest
            There is no tenant, the app is missing or not served here, the start is in the future, or the metadata on
            record and the added metadata together exceed the limits.
        TenantMismatch, AppMismatch
            The call is registered for another tenant, or belongs to another app.
        Forbidden
            The scope of the caller does not cover this tenant or this app.
        CallNotFound
            The call is on record, but outside the scope of the caller.
        """
        now = self.clock.now()
        requested = Registration(call_id, tenant_id or "", self._check_start(started_at, now), metadata, app_id, to)
        before: Call | None = None

        def decide(call: Call | None) -> tuple[Call, tuple[Event, ...]]:
            nonlocal before
            before = call
            return self._registered(call, requested, by, now)

        if started_at is None and await self.store.get(call_id) is None:
            # The call may be old, with little of its lease left. The message is sent before the row is written: if the
            # process dies in between, the bot repeats the request. A repetition finds a written row and sends nothing.
            await self.queue.send(Renew(call_id=call_id), self.timing.minute)
        call = await update(self.store, call_id, decide)
        assert call is not None  # noqa: S101 (a registration always leaves a call)
        _log_registration(before, call)
        return await self._renew_if_late(call), before is None

    def _registered(
        self, call: Call | None, requested: Registration, by: str, now: datetime
    ) -> tuple[Call, tuple[Event, ...]]:
        """Return the call as the registration leaves it, and the event of a first registration."""
        known = self.apps.with_app_id(call) if call and self.records.scope.contains(call) else None
        app = self._resolve_app(requested.app_id, known)
        tenant_id = self._resolve_tenant(requested.tenant_id or app.tenant_id)
        if call and not known:
            raise CallNotFound(requested.call_id)
        after = lifecycle.registered(known, replace(requested, tenant_id=tenant_id, app_id=app.app_id), now)
        _check_merged_metadata(call, after)
        if call and call.registered_at is not None:
            return after, ()
        detail = {"tenantId": after.tenant_id, "appId": after.app_id, "requestedBy": by}
        return after, (Event("registered", now + EVENT_SPACING, detail),)  # after the event "firstSeen"

    async def hang_up(self, call_id: str, by: str) -> CallWithWatermark:
        """End a call at Graph. A call that Graph no longer knows is a success too.

        The event log has the request before Graph is asked, and the outcome afterwards. The end itself comes by
        notification, or by a keepAlive that Graph answers with 404.

        Raises
        ------
        CallNotFound, GraphError, TokenUnavailable
            If Graph's answer is lost (time-out), the call may be hung up or not. Repeating the request is safe.
        """
        call = (await self.records.get_stored(call_id)).value
        if call.status is Status.ENDED:
            return CallWithWatermark(call, None)
        asked_at, detail = self.clock.now(), {"requestedBy": by}
        await self._log_request(call_id, Event("hangupRequested", asked_at, detail))
        event = Event("hangupAnswered", asked_at + EVENT_SPACING, detail)  # after the event of the request
        was_gone = await self._delete_at_graph(call, event)
        now = self.clock.now()
        event = _with_detail(event, now, outcome="notFound" if was_gone else "accepted")

        def decide(call: Call | None) -> tuple[Call, tuple[Event, ...]] | None:
            # A call that ended in the meantime gets the event too.
            return (lifecycle.hung_up(call, by, now, was_gone), (event,)) if call else None

        after = await update(self.store, call_id, decide)
        if after and after.termination and not was_gone:
            # The end was stored before Graph's answer came. The accepted hang-up is now its reason, so log it again.
            telemetry.log_call_ended(after)
        telemetry.CALL_HUNG_UP(callId=call_id, tenantId=call.tenant_id, notFound=was_gone)
        # If the notification is lost, this keepAlive finds the call gone, long before the next sweep.
        await self.queue.send(Renew(call_id=call_id), self.timing.minute)
        return CallWithWatermark(after or call, await self.records.get_watermark(shard_of(call_id)))

    async def _delete_at_graph(self, call: Call, event: Event) -> bool:
        """Send Graph's DELETE. Return True if Graph no longer knew the call. A failure goes into the event log."""
        try:
            await self.graph.hang_up(call.id, call.tenant_id, call.app_id)
        except GraphCallNotFound:
            return True
        except CallKeeperError as error:
            await self._log_failure(call.id, event, error)
            if _outcome_of(error) == "unknown":  # Graph may have hung up all the same, and its notification be lost
                await self.queue.send(Renew(call_id=call.id), self.timing.minute)
            raise
        return False

    async def record(self, call_id: str, request: "RecordRequest", by: str) -> tuple[Call, Operation]:
        """Record a participant's answer. The event log has the request before Graph is asked.

        Returns
        -------
        The call and the operation.

        Raises
        ------
        CallNotFound, GraphError, TokenUnavailable
            As for `hang_up`. If Graph does not know the call, that is a refusal, not the end: a call that is seconds
            old may become known to Graph, and the end of an older one is not on record yet.
        CallEnded
            The call has ended.
        OutcomeUnknown
            Graph's answer is lost or a 5xx, so the recording may have started.
        RecordingNotPersisted
            The recording started, but the store did not take it. Graph's notification will make it known.
        """
        call = (await self.records.get_stored(call_id)).value
        if call.status is Status.ENDED:
            raise CallEnded(f"Call {call_id} has ended. It cannot be recorded any more.")
        asked_at, detail = self.clock.now(), {"requestedBy": by}
        await self._log_request(call_id, Event("recordRequested", asked_at, detail))
        event = Event("recordAnswered", asked_at + EVENT_SPACING, detail)  # after the event of the request
        started = await self._start_recording(call, request, event)
        try:
            operation = await self._store_recording(call_id, started, by, event)
        except (StoreUnavailable, CallNotFound) as error:
            raise RecordingNotPersisted(
                f"Recording {started.operation_id} has started, but could not be stored. Do not repeat the request: "
                "Graph's notification makes the recording known."
            ) from error
        telemetry.RECORDING_STARTED(
            callId=call_id, tenantId=call.tenant_id, operationId=operation.id, status=operation.status
        )
        return call, operation

    async def _start_recording(self, call: Call, request: "RecordRequest", event: Event) -> "OperationNotification":
        """Ask Graph to record. A failure goes into the event log; its message says if repeating is safe."""
        try:
            return await self.graph.record(call.id, call.tenant_id, request, call.app_id)
        except CallKeeperError as error:
            await self._log_failure(call.id, event, error)
            match error:
                case GraphCallNotFound():
                    await self.queue.send(Renew(call_id=call.id))  # its keepAlive shows if the call has ended
                    raise self._explain_not_found(call, error) from error
                case GraphNotReached():
                    raise
                case GraphUnavailable():
                    raise OutcomeUnknown(
                        f"{error} The recording may have started, so do not repeat the request at once. Read the "
                        "call's operations. If it is not among them after a minute, use a new Idempotency-Key."
                    ) from error
            raise

    def _explain_not_found(self, call: Call, error: GraphCallNotFound) -> GraphCallNotFound:
        """Return Graph's 404 with advice that fits the age of the call."""
        is_young = self.clock.now() - call.started_at < self.timing.not_found_grace
        advice = (
            "The call is so young that Graph may not know it yet. Repeat the request in a few seconds."
            if is_young
            else "Read the call: within seconds its record shows whether it has ended."
        )
        return GraphCallNotFound(
            f"{error} {advice}", status=error.status, subcode=error.subcode, request_id=error.request_id
        )

    async def _log_request(self, call_id: str, event: Event) -> None:
        """Add the event of a request before the request is carried out, so that a crash in between does not hide it."""
        if await self._add_event(call_id, event) is None:
            raise CallNotFound(call_id)

    async def _log_failure(self, call_id: str, event: Event, error: CallKeeperError) -> None:
        """Add the event of a failure. If the store does not take it, the event of the request still is there."""
        status = error.status if isinstance(error, GraphError) else None
        with suppress(StoreUnavailable):
            await self._add_event(
                call_id, _with_detail(event, self.clock.now(), outcome=_outcome_of(error), status=status)
            )

    async def _add_event(self, call_id: str, event: Event) -> Call | None:
        return await update(self.store, call_id, lambda call: (call, (event,)) if call else None)

    async def _store_recording(
        self, call_id: str, started: "OperationNotification", by: str, event: Event
    ) -> Operation:
        now = self.clock.now()
        event = _with_detail(event, now, outcome="accepted", operationId=started.operation_id)

        async def attempt() -> Operation:
            stored = await self.records.get_stored(call_id)
            before = await self.store.get_operation(call_id, started.operation_id)
            operation = lifecycle.operation_requested(before.value if before else None, started, by, now)
            await self.store.commit(Change(stored, stored.value, (event,), ((before, operation),)))
            return operation

        return await retry_conflicts(attempt, f"Call {call_id}")

    async def _renew_if_late(self, call: Call) -> CallWithWatermark:
        """Renew a call that was registered late. The record has the outcome, success or failure."""
        watermark = await self.records.get_watermark(shard_of(call.id))
        left = call.lease.expires_at(watermark, self.timing) - self.clock.now()
        if call.status is Status.ENDED or call.failing or left >= self.timing.renew_at_once_below:
            return CallWithWatermark(call, watermark)
        await self.renewer.renew_now(call.lease, watermark)
        return await self.records.read_call(call.id)

    def _resolve_app(self, app_id: str | None, known: Call | None) -> BotApp:
        """Return the bot of the call. With several bots it is not guessed: Graph answers 404 for another app's call."""
        app_id = app_id or (known.app_id if known else None)
        if app_id is None and self.apps.has_several:
            raise InvalidRequest(
                "This deployment serves several bots. Send appId, the bot's client id.", (("/appId", "required"),)
            )
        app = self.apps.get(app_id)
        if app is None:
            raise InvalidRequest(f"App {app_id} is not served here. See GRAPH_APPS.", (("/appId", "not served"),))
        if not self.records.scope.covers_app(app.app_id):
            raise Forbidden("This caller may not register calls of this app. See MANAGEMENT_CALLERS.")
        return app

    def _resolve_tenant(self, tenant_id: str | None) -> str:
        if not tenant_id:
            raise InvalidRequest(
                "The call's tenant is missing. Send tenantId, or set GRAPH_TENANT_ID.",
                (("/tenantId", "required"),),
            )
        if not self.records.scope.covers_tenant(tenant_id):
            raise Forbidden("This caller may not register calls of this tenant. See MANAGEMENT_CALLERS.")
        return tenant_id.lower()

    def _check_start(self, started_at: datetime | None, now: datetime) -> datetime | None:
        if started_at is not None and started_at - now > self.timing.max_clock_skew:
            raise InvalidRequest(
                "startedAt is in the future. Send the time at which the call began, with its offset.",
                (("/startedAt", "in the future"),),
            )
        return started_at


def _log_registration(before: Call | None, after: Call) -> None:
    """Log the registration, and a warning if it replaced a tombstone that another tenant's token had caused."""
    if before and before.ended_at and after.ended_at is None:
        telemetry.OTHER_TENANT(callId=after.id, tenantId=before.tenant_id, appId=before.app_id)
    telemetry.REGISTERED(callId=after.id, tenantId=after.tenant_id, appId=after.app_id, status=after.status)


def _with_detail(event: Event, now: datetime, **detail: str | int | None) -> Event:
    """Return the event with further detail, at `now` unless its own time is later. None values are left out."""
    more = {name: value for name, value in detail.items() if value is not None}
    return replace(event, at=max(event.at, now), detail={**event.detail, **more})


def _outcome_of(error: CallKeeperError) -> str:
    """Return the outcome of a request to Graph that failed, as the event log names it."""
    match error:
        case GraphCallNotFound():
            return "notFound"
        case GraphNotReached():
            return "notSent"
        case GraphUnavailable():
            return "unknown"
        case GraphError():
            return "refused"
        case _:
            return "notSent"


def _check_merged_metadata(before: Call | None, after: Call) -> None:
    """Check the limits of metadata again, because each registration adds to what is on record."""
    if before is None or len(after.metadata) == len(before.metadata):
        return
    try:
        check_metadata(after.metadata)
    except ValueError as error:
        raise InvalidRequest(f"Together with the metadata on record: {error}.", (("/metadata", str(error)),)) from None
