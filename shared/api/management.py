"""What bots and operators ask for: to register, hang up, record. What they read: see `records`."""

import copy
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, Self

from shared import telemetry
from shared.api.records import CallWithWatermark, Records
from shared.api.views import check_metadata
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
from shared.storage.store import CallStore, Change, retry_conflicts, shard_of, update
from shared.storage.wakeup_queue import Renew

if TYPE_CHECKING:
    from shared.domain.calls import StartedOperation
    from shared.graph.recording import RecordRequest


class CallControlClient(Protocol):
    """The part of Graph's calls API that management uses."""

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None) -> None:
        """End the call, or the bot's leg of it."""
        ...

    async def record(
        self, call_id: str, tenant_id: str, request: "RecordRequest", app_id: str | None
    ) -> "StartedOperation":
        """Start a recording."""
        ...


class Management:
    """The verbs of the API. Each that writes is safe to repeat."""

    def __init__(  # noqa: PLR0913 what it is composed of
        self,
        store: CallStore,
        graph: CallControlClient,
        renewer: Renewer,
        clock: Clock,
        timing: Timing,
        *,
        apps: Apps,
    ) -> None:
        self._store = store
        self._graph = graph
        self._renewer = renewer
        self._clock = clock
        self._timing = timing
        self._apps = apps
        self.records = Records(store, clock, timing)

    def scoped_to(self, scope: Scope) -> Self:
        """The same for a caller who is bound to a scope: other calls are as if they did not exist."""
        bound = copy.copy(self)
        bound.records = self.records.scoped_to(scope.with_appless_calls(self._apps.default.app_id))
        return bound

    async def register(  # noqa: PLR0913 what a bot may say of a call
        self,
        call_id: str,
        tenant_id: str | None,
        started_at: datetime | None,
        metadata: dict[str, str],
        *,
        app_id: str | None = None,
        by: str = "unknown",
    ) -> tuple[CallWithWatermark, bool]:
        """Make a call known; whether it is new. One with little left of its lease is renewed at once.

        Who asked (`by`) is in the story of the first registration. That a tombstone was another tenant's word is told.

        Raises
        ------
        InvalidRequest
            There is no tenant, the app is missing or not served here, the start lies in the future, or metadata
            outgrows its bounds by what is added.
        TenantMismatch, AppMismatch
            The call is registered for another tenant, or is another app's.
        Forbidden
            The caller is bound, and not to this tenant, or not to this app.
        CallNotFound
            The call is on record, and is none of the caller's.
        """
        now = self._clock.now()
        started_at = self._check_start(started_at, now)
        is_new = False
        replaced_tombstone: Call | None = None

        def decide(call: Call | None) -> tuple[Call, tuple[Event, ...]] | None:
            nonlocal is_new, replaced_tombstone
            is_new = call is None
            known = self._apps.with_app_id(call) if call and self.records.scope.contains(call) else None
            app = self._resolve_app(app_id, known)
            tenant = self._resolve_tenant(tenant_id or app.tenant_id)
            if call and not known:
                raise CallNotFound(call_id)
            after = lifecycle.registered(known, Registration(call_id, tenant, started_at, metadata, app.app_id), now)
            _check_merged_metadata(call, after)
            replaced_tombstone = call if call and call.ended_at and after.ended_at is None else None
            first = call is None or call.registered_at is None
            detail = {"tenantId": after.tenant_id, "appId": after.app_id, "requestedBy": by}
            event = Event("registered", now + EVENT_SPACING, detail)  # after the line of becoming known
            return after, (event,) if first else ()

        if started_at is None and await self._store.get(call_id) is None:
            # It may be of any age, and little left of its lease. Before the row: should we die in between, the bot asks
            # again, and where the row is written there is nothing more to leave.
            await self._renewer.send(Renew(call_id=call_id), self._timing.minute)
        call = await update(self._store, call_id, decide)
        assert call is not None  # noqa: S101 (a registration always leaves a call)
        if replaced_tombstone:
            telemetry.OTHER_TENANT(
                callId=call_id, tenantId=replaced_tombstone.tenant_id, appId=replaced_tombstone.app_id
            )
        telemetry.REGISTERED(callId=call_id, tenantId=call.tenant_id, appId=call.app_id, status=call.status)
        return await self._renew_if_late(call), is_new

    async def hang_up(self, call_id: str, by: str) -> CallWithWatermark:
        """End a call at Graph. That it is gone already is a success too; the end comes by notification, or by a 404.

        Who asks is written down before Graph is asked, and what came of it after.

        Raises
        ------
        CallNotFound, GraphError, TokenUnavailable
            Where Graph's answer is lost (time-out), the call may be hung up or not: repeat it.
        """
        call = (await self.records.get_stored(call_id)).value
        if call.status is Status.ENDED:
            return CallWithWatermark(call, None)
        asked_at, detail = self._clock.now(), {"requestedBy": by}
        await self._record_request(call_id, Event("hangupRequested", asked_at, detail))
        event = Event("hangupAnswered", asked_at + EVENT_SPACING, detail)  # after the line of the request
        try:
            await self._graph.hang_up(call_id, call.tenant_id, call.app_id)
            was_gone = False
        except GraphCallNotFound:
            was_gone = True
        except CallKeeperError as error:
            await self._record_failure(call_id, event, error)
            if _outcome_of(error) == "unknown":  # Graph may have hung up all the same, and its notification be lost
                await self._renewer.send(Renew(call_id=call_id), self._timing.minute)
            raise
        now = self._clock.now()
        event = _with_detail(event, now, outcome="notFound" if was_gone else "accepted")

        def decide(call: Call | None) -> tuple[Call, tuple[Event, ...]] | None:
            # One that ended meanwhile gets the line too.
            return (lifecycle.hung_up(call, by, now, was_gone), (event,)) if call else None

        after = await update(self._store, call_id, decide)
        if (
            after and after.termination and not was_gone
        ):  # the end was on record before Graph's answer: it is this one's
            telemetry.log_call_ended(after)
        telemetry.CALL_HUNG_UP(callId=call_id, tenantId=call.tenant_id, notFound=was_gone)
        # Should the notification be lost, this finds the call gone, long before the next sweep would.
        await self._renewer.send(Renew(call_id=call_id), self._timing.minute)
        return CallWithWatermark(after or call, await self.records.get_watermark(shard_of(call_id)))

    async def record(self, call_id: str, request: "RecordRequest", by: str) -> tuple[Call, Operation]:
        """Record a participant's answer. Who asks is written down before Graph is asked.

        Raises
        ------
        CallNotFound, GraphError, TokenUnavailable
            See `hang_up`. That Graph does not know the call is its refusal, not the end: the end is not on record, and
            a call that is seconds old may become known to Graph.
        CallEnded
            The call has ended.
        OutcomeUnknown
            Graph's answer is lost, or is trouble (5xx): it may have been started.
        RecordingNotPersisted
            It was started, but could not be written down; its notification will make it known.
        """
        call = (await self.records.get_stored(call_id)).value
        if call.status is Status.ENDED:
            raise CallEnded(f"Call {call_id} has ended: nothing can be recorded any more.")
        asked_at, detail = self._clock.now(), {"requestedBy": by}
        await self._record_request(call_id, Event("recordRequested", asked_at, detail))
        event = Event("recordAnswered", asked_at + EVENT_SPACING, detail)  # after the line of the request
        started = await self._start_recording(call, request, event)
        try:
            operation = await self._store_recording(call_id, started, by, event)
        except (StoreUnavailable, CallNotFound) as error:
            raise RecordingNotPersisted(
                f"Recording {started.id} has begun, but could not be written down. Do not ask for it again: "
                "its notification makes it known."
            ) from error
        telemetry.RECORDING_STARTED(
            callId=call_id, tenantId=call.tenant_id, operationId=operation.id, status=operation.status
        )
        return call, operation

    async def _start_recording(self, call: Call, request: "RecordRequest", event: Event) -> "StartedOperation":
        """Ask Graph to record. What fails is told in the story, and in words that say whether to ask again."""
        try:
            return await self._graph.record(call.id, call.tenant_id, request, call.app_id)
        except CallKeeperError as error:
            await self._record_failure(call.id, event, error)
            match error:
                case GraphCallNotFound():
                    await self._renewer.send(Renew(call_id=call.id))  # it finds out whether the call is over
                    raise self._explain_not_found(call, error) from error
                case GraphNotReached():
                    raise
                case GraphUnavailable():
                    raise OutcomeUnknown(
                        f"{error} The recording may have begun, so do not ask for it again at once: read the call's "
                        "operations. If it is not among them after a minute, ask with a new Idempotency-Key."
                    ) from error
            raise

    def _explain_not_found(self, call: Call, error: GraphCallNotFound) -> GraphCallNotFound:
        """Graph's 404 to a recording, in words that fit the age of the call."""
        is_young = self._clock.now() - call.started_at < self._timing.not_found_grace
        advice = (
            "The call is so young that Graph may not know it yet: ask again in a few seconds."
            if is_young
            else "Whether the call is over is found out within seconds: read the call."
        )
        return GraphCallNotFound(
            f"{error} {advice}", status=error.status, subcode=error.subcode, request_id=error.request_id
        )

    async def _record_request(self, call_id: str, event: Event) -> None:
        """Write into the story that somebody asks, before it is done: so it is there whatever comes in between."""
        if await self._add_event(call_id, event) is None:
            raise CallNotFound(call_id)

    async def _record_failure(self, call_id: str, event: Event, error: CallKeeperError) -> None:
        """Write into the story that it did not succeed, if the store takes it: the line of the request is there."""
        status = error.status if isinstance(error, GraphError) else None
        with suppress(StoreUnavailable):
            await self._add_event(
                call_id, _with_detail(event, self._clock.now(), outcome=_outcome_of(error), status=status)
            )

    async def _add_event(self, call_id: str, event: Event) -> Call | None:
        return await update(self._store, call_id, lambda call: (call, (event,)) if call else None)

    async def _store_recording(self, call_id: str, started: "StartedOperation", by: str, event: Event) -> Operation:
        now = self._clock.now()
        event = _with_detail(event, now, outcome="accepted", operationId=started.id)

        async def attempt() -> Operation:
            stored = await self.records.get_stored(call_id)
            before = await self._store.get_operation(call_id, started.id)
            operation = lifecycle.operation_requested(before.value if before else None, call_id, started, by, now)
            await self._store.commit(Change(stored, stored.value, (event,), ((before, operation),)))
            return operation

        return await retry_conflicts(attempt, f"Call {call_id}")

    async def _renew_if_late(self, call: Call) -> CallWithWatermark:
        """Renew a call that was registered late; what becomes of it is on record either way."""
        watermark = await self.records.get_watermark(shard_of(call.id))
        left = call.lease.expires_at(watermark, self._timing) - self._clock.now()
        if call.status is Status.ENDED or call.failing or left >= self._timing.renew_at_once_below:
            return CallWithWatermark(call, watermark)
        await self._renewer.renew(call.lease, watermark, swept=False)
        return await self.records.read_call(call.id)

    def _resolve_app(self, app_id: str | None, known: Call | None) -> BotApp:
        """The bot whose call it is. Among several it is not guessed: Graph may call a call of another app unknown."""
        app_id = app_id or (known.app_id if known else None)
        if app_id is None and self._apps.has_several:
            raise InvalidRequest("Several bots are served here: send appId, the bot's.", (("/appId", "required"),))
        app = self._apps.get(app_id)
        if app is None:
            raise InvalidRequest(f"App {app_id} is not served here: see GRAPH_APPS.", (("/appId", "not served"),))
        if not self.records.scope.covers_app(app.app_id):
            raise Forbidden("This caller may not register calls of this app: see MANAGEMENT_CALLERS.")
        return app

    def _resolve_tenant(self, tenant_id: str | None) -> str:
        if not tenant_id:
            raise InvalidRequest(
                "The call's tenant is missing: send tenantId, or set GRAPH_TENANT_ID.",
                (("/tenantId", "required"),),
            )
        if not self.records.scope.covers_tenant(tenant_id):
            raise Forbidden("This caller may not register calls of this tenant: see MANAGEMENT_CALLERS.")
        return tenant_id.lower()

    def _check_start(self, started_at: datetime | None, now: datetime) -> datetime | None:
        if started_at is not None and started_at - now > self._timing.max_clock_skew:
            raise InvalidRequest(
                "startedAt lies in the future. Send the time at which the call began, with its offset.",
                (("/startedAt", "in the future"),),
            )
        return started_at


def _with_detail(event: Event, now: datetime, **detail: str | int | None) -> Event:
    """The event, no earlier than it was meant, with what there is of further detail."""
    more = {name: value for name, value in detail.items() if value is not None}
    return replace(event, at=max(event.at, now), detail={**event.detail, **more})


def _outcome_of(error: CallKeeperError) -> str:
    """What is known of a request to Graph that did not succeed."""
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
    """Registering again adds metadata: without an end, were its bounds those of one request."""
    if before is None or len(after.metadata) == len(before.metadata):
        return
    try:
        check_metadata(after.metadata)
    except ValueError as error:
        raise InvalidRequest(f"With what is on record already: {error}.", (("/metadata", str(error)),)) from None
