"""Graph's webhook: verifies, parses, merges and stores notifications. A return without an error means: stored."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import batched, islice
from typing import TYPE_CHECKING

from shared import telemetry
from shared.clock import EVENT_SPACING, Clock
from shared.config.apps import Apps
from shared.domain import lifecycle
from shared.domain.calls import Call, Event, Operation
from shared.domain.leases import TenantApp
from shared.domain.notifications import (
    Notification,
    OperationNotification,
    OtherNotification,
    ParsedBody,
    RequestIds,
    parse_notifications,
)
from shared.errors import (
    CallKeeperError,
    Forbidden,
    InvalidRequest,
    RowUnreadable,
    StoreUnavailable,
    TokenAppMismatch,
    safe_message,
    traceback_summary,
)
from shared.relay.exchange import Bearer, BotResponse, Incoming, IncomingRequest
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Outgoing
from shared.storage.store import CallStore, Change, Stored, retry_conflicts
from shared.storage.wakeup_queue import Renew

if TYPE_CHECKING:
    from shared.auth.tokens import Claims, TokenVerifier
    from shared.relay.passthrough import PassThrough, Relayed

MAX_CONCURRENT_CALLS = 8  # of one body, written at the same time
MAX_NOTIFICATIONS_PER_CHANGE = 25  # a transaction holds 100 rows, and each may write three
MAX_RELAYED_PER_CHANGE = 5  # leaves room for the events of the change, for all targets
RESPONSE_TIMEOUT = timedelta(seconds=20)  # then 503: Graph sends the body again, which does no harm
LARGE_BODY_BYTES = 256 * 1024  # parsed in about 20 ms
MAX_ALARMS = 20  # log lines about refused calls, for one body
RENEWAL_DELAY = timedelta(seconds=15)  # more than the 10 seconds that a write to the store takes at most
STARTING_STATES = {"incoming", "establishing", "ringing"}  # a call whose first notification has one of these is new


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The result of one body.

    Parameters
    ----------
    notifications, calls
        How many are stored.
    faults
        A description of each notification that cannot be read.
    refused
        How many calls belong to another tenant or app than the token.
    response
        The response of the bot that Graph gets, if the relay has one.
    """

    notifications: int
    calls: int
    faults: tuple[str, ...]
    refused: int
    response: BotResponse = field(default_factory=BotResponse)


@dataclass(frozen=True, slots=True)
class _Origin:
    """The tenant and app of the token that came with a body, Graph's ids of the request, and its way to the bot."""

    sender: TenantApp
    ids: RequestIds
    relayed: "Relayed | None" = None


@dataclass(frozen=True, slots=True)
class SenderAllowList:
    """The tenants whose notifications are accepted, as GUIDs. Empty: all."""

    tenants: frozenset[str] = frozenset()

    def check(self, claims: "Claims") -> None:
        """Raise `Forbidden` if the tenant of a verified token is not in the list."""
        if self.tenants and claims.tenant_id not in self.tenants:
            raise Forbidden(f"Tenant {claims.tenant_id} is not in ALLOWED_TENANT_IDS.")


@dataclass(frozen=True)
class Webhook:
    """Stores Graph's notifications. Repeated, late and reordered ones do no harm: see `lifecycle`."""

    store: CallStore
    verifier: "TokenVerifier"
    queue: BestEffortQueue
    clock: Clock
    allow_list: SenderAllowList
    apps: Apps = field(kw_only=True)
    relay: "PassThrough | None" = field(default=None, kw_only=True)  # None: it is off

    async def receive(
        self,
        authorization: str | None,
        body: bytes,
        ids: RequestIds | None = None,
        request: IncomingRequest | None = None,
    ) -> IngestResult:
        """Store the notifications of a body, and then make the first attempt to deliver it to its bot.

        Parameters
        ----------
        authorization
            The `Authorization` header.
        body
            The JSON body, as it came.
        ids
            Graph's ids of the request, for the event log.
        request
            The parts of the request that the relay passes on.

        Raises
        ------
        Unauthenticated, SigningKeysUnavailable
            See `TokenVerifier.verify`.
        Forbidden
            The tenant or the calling app is not served here, or all calls of the body belong to other tenants or bots.
        InvalidRequest
            No notification of the body can be read, or the body has too many.
        LegacyFormat
            The body has the old platform's format. After 204 Graph sends it again in its current format.
        StoreUnavailable
            Something is not stored, or not soon enough. Graph should send the body again; this does no harm to the
            notifications that are stored.
        """
        try:
            async with asyncio.timeout(RESPONSE_TIMEOUT.total_seconds()):
                result, relayed = await self._receive(authorization, body, ids or RequestIds(), request)
        except TimeoutError:
            raise StoreUnavailable(
                f"Not all notifications were stored within {RESPONSE_TIMEOUT.total_seconds():g} s."
            ) from None
        if self.relay is None or relayed is None:
            return result
        return replace(result, response=await self._pass_on(self.relay, relayed))

    async def _pass_on(self, relay: "PassThrough", relayed: "Relayed") -> BotResponse:
        try:
            return await relay.finish(relayed)
        except Exception as error:  # noqa: BLE001 (all is stored: an error here, even a bug, must not make Graph repeat it)
            telemetry.REQUEST_FAILED(
                route="receive_notifications", error=safe_message(error), location=traceback_summary(error)
            )
            return BotResponse()

    async def _receive(
        self, authorization: str | None, body: bytes, ids: RequestIds, request: IncomingRequest | None
    ) -> "tuple[IngestResult, Relayed | None]":
        claims = await self.verifier.verify(authorization)
        self.allow_list.check(claims)
        parsed = await _parse(body)
        sender = TenantApp(claims.tenant_id, self.apps.app_id_of_audience(claims.audience))
        by_call = _by_call(parsed.notifications)
        relayed = None
        if self.relay:
            bearer = Bearer(authorization or "", claims.expires_at)
            incoming = Incoming(body, request or IncomingRequest(), bearer, sender, self.clock.now())
            relayed = await self.relay.prepare(incoming, by_call)
        result = await self._store_by_call(by_call, _Origin(sender, ids, relayed), parsed.faults)
        if result.refused and not result.calls:
            raise Forbidden("These calls belong to another tenant, or to another app, than the token.")
        if relayed and relayed.is_incomplete:
            raise StoreUnavailable("A call changed meanwhile, so that the delivery of the body is not stored.")
        telemetry.NOTIFICATIONS_ACCEPTED(
            tenantId=claims.tenant_id,
            tokenKind=claims.kind,
            notifications=result.notifications,
            calls=result.calls,
            unreadable=len(result.faults),
        )
        return result, relayed

    async def _store_by_call(
        self, by_call: dict[str, list[Notification]], origin: _Origin, faults: tuple[str, ...]
    ) -> IngestResult:
        """Store the notifications of each call. Raise the first error only after all calls have been tried."""
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        refused: dict[str, Forbidden] = {}

        async def store_one(call_id: str) -> StoreUnavailable | None:
            async with semaphore:
                try:
                    return await self._try_to_store(call_id, by_call[call_id], origin)
                except Forbidden as error:
                    refused[call_id] = error
                    return None

        first = origin.relayed.first_calls if origin.relayed else frozenset[str]()
        errors: list[StoreUnavailable | None] = []
        try:
            for wave in (first, by_call.keys() - first):
                errors += await asyncio.gather(*(store_one(call_id) for call_id in by_call if call_id in wave))
        finally:  # after a time-out too, so that an error of another call hides no refusal
            self._log_refused(origin.sender, faults, refused)
        for error in filter(None, errors):
            raise error
        stored = [notifications for call_id, notifications in by_call.items() if call_id not in refused]
        return IngestResult(sum(map(len, stored)), len(stored), faults, len(refused))

    async def _try_to_store(
        self, call_id: str, notifications: list[Notification], origin: _Origin
    ) -> StoreUnavailable | None:
        """Store the notifications of one call. Return its error, so that the other calls are stored all the same.

        Raises
        ------
        Forbidden
            The call belongs to another tenant or app.
        """
        try:
            await self._store_call(call_id, notifications, origin)
        except Forbidden:
            raise
        except RowUnreadable as error:  # 503: Graph sends it again, and the row may be readable by then
            return StoreUnavailable(str(error))
        except StoreUnavailable as error:
            return error
        except Exception as error:  # noqa: BLE001 (the error of one call, even a bug, must not affect other calls)
            telemetry.REQUEST_FAILED(
                route="receive_notifications", error=safe_message(error), location=traceback_summary(error)
            )
            return StoreUnavailable(f"A notification of call {call_id} could not be stored.")
        return None

    def _log_refused(self, sender: TenantApp, faults: tuple[str, ...], refused: Mapping[str, CallKeeperError]) -> None:
        for fault in faults:
            telemetry.NOTIFICATIONS_REJECTED(reason="unreadable", detail=fault)
            telemetry.NOTIFICATIONS.add(outcome="unreadable")
        tenant_id, app_id = sender
        for call_id in islice(refused, MAX_ALARMS):
            telemetry.OTHER_TENANT(callId=call_id, tenantId=tenant_id, appId=app_id)
        counts = Counter(
            "otherApp" if isinstance(error, TokenAppMismatch) else "otherTenant" for error in refused.values()
        )
        for reason, count in counts.items():
            telemetry.NOTIFICATIONS_REJECTED(
                reason=reason, detail=f"{count} calls, token of {tenant_id} for app {app_id}"
            )
            telemetry.NOTIFICATIONS.add(count, outcome=reason)

    async def _store_call(self, call_id: str, notifications: list[Notification], origin: _Origin) -> None:
        size = MAX_RELAYED_PER_CHANGE if origin.relayed else MAX_NOTIFICATIONS_PER_CHANGE
        chunks = list(batched(notifications, size, strict=False))
        for number, chunk in enumerate(chunks, 1):
            before, after = await self._store_chunk(call_id, chunk, origin, is_last=number == len(chunks))
            telemetry.NOTIFICATIONS.add(len(chunk), outcome="stored")
            if after.ended_at and (not before or not before.ended_at or before.termination != after.termination):
                telemetry.log_call_ended(after)

    async def _store_chunk(
        self, call_id: str, notifications: tuple[Notification, ...], origin: _Origin, *, is_last: bool
    ) -> tuple[Call | None, Call]:
        """Store notifications of a call. The last chunk has the delivery: by then all of the call is on record."""
        at = self.clock.now()
        relayed = origin.relayed

        async def attempt() -> tuple[Call | None, Call]:
            before = await self.store.get(call_id)
            change = await self._merge(before, call_id, notifications, origin, at)
            after = change.after
            if before is None and after.ended_at is None and after.state not in STARTING_STATES:
                await self._renew_soon(call_id)
            if relayed:
                outgoing = relayed.outgoing(call_id, before.value if before else None)
                change = replace(change, outgoing=outgoing if is_last else Outgoing(claim=relayed.claim))
            committed = await self.store.commit(change)
            if relayed:
                relayed.record(committed)
            return before.value if before else None, after

        return await retry_conflicts(attempt, f"Call {call_id}")

    async def _merge(
        self,
        before: Stored[Call] | None,
        call_id: str,
        notifications: tuple[Notification, ...],
        origin: _Origin,
        at: datetime,
    ) -> Change:
        call = self.apps.with_app_id(before.value) if before else None
        operations: dict[str, tuple[Stored[Operation] | None, Operation]] = {}
        events: dict[str, Event] = {}
        for number, item in enumerate(notifications, 1):
            call = lifecycle.notified(call, item, origin.sender.tenant_id, at, origin.sender.app_id)
            if isinstance(item, OperationNotification):
                stored, known = operations.get(item.operation_id, (None, None))
                if known is None:
                    stored = await self.store.get_operation(call_id, item.operation_id)
                    known = stored.value if stored else None
                operations[item.operation_id] = stored, lifecycle.operation_notified(known, item, at)
            if not isinstance(item, OtherNotification):
                event = lifecycle.notification_event(item, at + number * EVENT_SPACING, origin.ids)
                events.setdefault(event.digest, event)
        assert call is not None  # noqa: S101 (there is at least one notification, and each gives a call)
        return Change(before, call, tuple(events.values()), tuple(operations.values()))

    async def _renew_soon(self, call_id: str) -> None:
        """Queue a renewal of a call whose first notification shows that it may be old. The next sweep may be too late.

        The message is sent before the row is written: if the process dies in between, Graph sends the notification
        again. The delay lets the row be written before the message arrives.
        If the queue does not take it, the next sweep renews the call.
        """
        await self.queue.send(Renew(call_id=call_id), RENEWAL_DELAY)


async def _parse(body: bytes) -> ParsedBody:
    """Parse a body. Raise `InvalidRequest` if none of its notifications can be read."""
    # A roster of thousands takes seconds of CPU time. In a thread it does not block other requests and sweeps.
    parsed = (
        parse_notifications(body)
        if len(body) < LARGE_BODY_BYTES
        else await asyncio.to_thread(parse_notifications, body)
    )
    if parsed.faults and not parsed.notifications:
        raise InvalidRequest("No notification in the body can be read: " + "; ".join(parsed.faults[:5]))
    return parsed


def _by_call(notifications: Iterable[Notification]) -> dict[str, list[Notification]]:
    by_call: dict[str, list[Notification]] = {}
    for item in notifications:
        by_call.setdefault(item.call_id, []).append(item)
    return by_call
