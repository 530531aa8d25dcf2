"""Graph's webhook: verify, parse, merge, store. What returns without an error is stored."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
from shared.storage.store import CallStore, Change, Stored, retry_conflicts
from shared.storage.wakeup_queue import Renew, WakeUpQueue

if TYPE_CHECKING:
    from shared.auth.tokens import Claims, TokenVerifier

MAX_CONCURRENT_CALLS = 8  # calls of one body that are written side by side
MAX_NOTIFICATIONS_PER_CHANGE = 25  # notifications: a transaction holds 100 rows, and each may write three
RESPONSE_TIMEOUT = timedelta(seconds=20)  # then 503: Graph sends it again, which does no harm
LARGE_BODY_BYTES = 256 * 1024  # bytes, which are parsed in about 20 ms
MAX_ALARMS = 20  # of one body
RENEWAL_DELAY = timedelta(seconds=15)  # the store is given up on after ten
STARTING_STATES = {"incoming", "establishing", "ringing"}  # a call met in one of these has just begun


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of a body: how many notifications are stored, of how many calls, and what was wrong with the rest."""

    notifications: int
    calls: int
    faults: tuple[str, ...]
    refused: int


@dataclass(frozen=True, slots=True)
class _Origin:
    """By whom a body was told, and by which request."""

    sender: TenantApp
    ids: RequestIds


@dataclass(frozen=True, slots=True)
class SenderAllowList:
    """The only tenants whose calls are kept, by GUID; no one named: all."""

    tenants: frozenset[str] = frozenset()

    def check(self, claims: "Claims") -> None:
        """Raise `Forbidden` if a verified token's tenant is not among them."""
        if self.tenants and claims.tenant_id not in self.tenants:
            raise Forbidden(f"Tenant {claims.tenant_id} is not in ALLOWED_TENANT_IDS.")


class Webhook:
    """Takes Graph's notifications. Doubled, late and disordered ones are harmless; see `lifecycle`."""

    def __init__(  # noqa: PLR0913 what it is composed of
        self,
        store: CallStore,
        verifier: "TokenVerifier",
        queue: WakeUpQueue,
        clock: Clock,
        allow_list: SenderAllowList,
        *,
        apps: Apps,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._queue = queue
        self._clock = clock
        self._allow_list = allow_list
        self._apps = apps

    async def receive(self, authorization: str | None, body: bytes, ids: RequestIds | None = None) -> IngestResult:
        """Store what a body tells. `ids` are Graph's ids of the request.

        Raises
        ------
        Unauthenticated, SigningKeysUnavailable
            See `TokenVerifier.verify`.
        Forbidden
            The tenant or the calling app is not served here, or all notifications are of other tenants' or bots' calls.
        InvalidRequest
            Nothing of the body can be read, or it holds too much.
        LegacyFormat
            It is the old platform's format: asked with 204, Graph sends it again in its own.
        StoreUnavailable
            Something is not stored, or not soon enough: Graph should send it again, which does no harm to the rest.
        """
        try:
            async with asyncio.timeout(RESPONSE_TIMEOUT.total_seconds()):
                return await self._receive(authorization, body, ids or RequestIds())
        except TimeoutError:
            raise StoreUnavailable(f"Not all was stored within {RESPONSE_TIMEOUT.total_seconds():g} s.") from None

    async def _receive(self, authorization: str | None, body: bytes, ids: RequestIds) -> IngestResult:
        claims = await self._verifier.verify(authorization)
        tenant_id = claims.tenant_id
        self._allow_list.check(claims)
        # A roster of thousands takes seconds of CPU time: other requests, and sweeps, go on meanwhile.
        parsed = (
            parse_notifications(body)
            if len(body) < LARGE_BODY_BYTES
            else await asyncio.to_thread(parse_notifications, body)
        )
        if parsed.faults and not parsed.notifications:
            raise InvalidRequest("No notification in the body can be read: " + "; ".join(parsed.faults[:5]))
        sender = TenantApp(tenant_id, self._apps.app_id_of_audience(claims.audience))
        result = await self._store_by_call(_by_call(parsed.notifications), _Origin(sender, ids), parsed.faults)
        if result.refused and not result.calls:
            raise Forbidden("These calls belong to another tenant, or another app, than the token.")
        telemetry.NOTIFICATIONS_ACCEPTED(
            tenantId=tenant_id,
            tokenKind=claims.kind,
            notifications=result.notifications,
            calls=result.calls,
            unreadable=len(result.faults),
        )
        return result

    async def _store_by_call(
        self, by_call: dict[str, list[Notification]], origin: _Origin, faults: tuple[str, ...]
    ) -> IngestResult:
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        refused: dict[str, Forbidden] = {}

        async def store_one(call_id: str) -> StoreUnavailable | None:
            async with semaphore:
                try:
                    await self._store_call(call_id, by_call[call_id], origin)
                except Forbidden as error:
                    refused[call_id] = error
                except RowUnreadable as error:  # Graph sends it again, and the row may be readable by then
                    return StoreUnavailable(str(error))
                except StoreUnavailable as error:
                    return error
                except Exception as error:  # noqa: BLE001 (one call's trouble, a bug's too, spoils no other's)
                    telemetry.REQUEST_FAILED(
                        route="receive_notifications", error=safe_message(error), location=traceback_summary(error)
                    )
                    return StoreUnavailable(f"A notification of call {call_id} could not be stored.")
                return None

        try:
            errors = await asyncio.gather(*(store_one(call_id) for call_id in by_call))
        finally:  # also where time ran out: what another call meets hides no alarm
            self._log_refused(origin.sender, faults, refused)
        for error in filter(None, errors):
            raise error
        stored = [notifications for call_id, notifications in by_call.items() if call_id not in refused]
        return IngestResult(sum(map(len, stored)), len(stored), faults, len(refused))

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
        for chunk in batched(notifications, MAX_NOTIFICATIONS_PER_CHANGE, strict=False):
            before, after = await self._store_chunk(call_id, chunk, origin)
            telemetry.NOTIFICATIONS.add(len(chunk), outcome="stored")
            if after.ended_at and (not before or not before.ended_at or before.termination != after.termination):
                telemetry.log_call_ended(after)

    async def _store_chunk(
        self, call_id: str, notifications: tuple[Notification, ...], origin: _Origin
    ) -> tuple[Call | None, Call]:
        at = self._clock.now()

        async def attempt() -> tuple[Call | None, Call]:
            before = await self._store.get(call_id)
            change = await self._merge(before, call_id, notifications, origin, at)
            after = change.after
            if before is None and after.ended_at is None and after.state not in STARTING_STATES:
                await self._renew_soon(call_id)
            await self._store.commit(change)
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
        call = self._apps.with_app_id(before.value) if before else None
        operations: dict[str, tuple[Stored[Operation] | None, Operation]] = {}
        events: dict[str, Event] = {}
        for number, item in enumerate(notifications, 1):
            call = lifecycle.notified(call, item, origin.sender.tenant_id, at, origin.sender.app_id)
            if isinstance(item, OperationNotification):
                stored, known = operations.get(item.operation_id, (None, None))
                if known is None:
                    stored = await self._store.get_operation(call_id, item.operation_id)
                    known = stored.value if stored else None
                operations[item.operation_id] = stored, lifecycle.operation_notified(known, item, at)
            if not isinstance(item, OtherNotification):
                event = lifecycle.notification_event(item, at + number * EVENT_SPACING, origin.ids)
                events.setdefault(event.digest, event)
        assert call is not None  # noqa: S101 (there is at least one notification, and each gives a call)
        return Change(before, call, tuple(events.values()), tuple(operations.values()))

    async def _renew_soon(self, call_id: str) -> None:
        """A call first met in the middle may be old: renew it soon, not at the next sweep.

        The message before the row: should we die in between, Graph tells again. It comes when the row is written.
        """
        try:
            await self._queue.send(Renew(call_id=call_id), RENEWAL_DELAY)
        except StoreUnavailable as error:  # the next sweep renews it
            telemetry.QUEUE_FAILED(kind="renew", error=str(error))


def _by_call(notifications: Iterable[Notification]) -> dict[str, list[Notification]]:
    by_call: dict[str, list[Notification]] = {}
    for item in notifications:
        by_call.setdefault(item.call_id, []).append(item)
    return by_call
