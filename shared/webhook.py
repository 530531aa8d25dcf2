"""Graph's webhook: verify, parse, merge, store. What returns without an error is stored."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched, islice
from typing import TYPE_CHECKING

from shared import lifecycle, telemetry
from shared.apps import Apps
from shared.calls import Call, Event, Operation
from shared.clock import EVENT_SPACING, Clock
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
from shared.leases import TenantApp
from shared.notifications import Notification, OperationNotification, OtherNotification, RequestIds, parse_notifications
from shared.store import CallStore, Change, Stored, commit, retry_conflicts
from shared.wakeups import Renew, WakeUpQueue

if TYPE_CHECKING:
    from shared.inbound import Claims, TokenVerifier

AT_ONCE = 8  # calls of one body that are written side by side
IN_ONE_CHANGE = 25  # notifications: a transaction holds 100 rows, and each may write three
ANSWER_WITHIN = timedelta(seconds=20)  # then 503: Graph sends it again, which does no harm
LARGE_BODY = 256 * 1024  # bytes, which are parsed in about 20 ms
MOST_ALARMS = 20  # of one body
AFTER_THE_WRITE = timedelta(seconds=15)  # the store is given up on after ten
UNDER_WAY = {"incoming", "establishing", "ringing"}  # a call met in one of these has just begun


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a body: how many notifications are stored, of how many calls, and what was wrong with the rest."""

    notifications: int
    calls: int
    faults: tuple[str, ...]
    refused: int


@dataclass(frozen=True, slots=True)
class _Told:
    """By whom a body was told, and by which request."""

    teller: TenantApp
    ids: RequestIds


@dataclass(frozen=True, slots=True)
class Admitted:
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
        admitted: Admitted,
        *,
        apps: Apps,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._queue = queue
        self._clock = clock
        self._admitted = admitted
        self._apps = apps

    async def receive(self, authorization: str | None, body: bytes, ids: RequestIds | None = None) -> Received:
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
            async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                return await self._receive(authorization, body, ids or RequestIds())
        except TimeoutError:
            raise StoreUnavailable(f"Not all was stored within {ANSWER_WITHIN.total_seconds():g} s.") from None

    async def _receive(self, authorization: str | None, body: bytes, ids: RequestIds) -> Received:
        claims = await self._verifier.verify(authorization)
        tenant_id = claims.tenant_id
        self._admitted.check(claims)
        # A roster of thousands takes seconds of CPU time: other requests, and sweeps, go on meanwhile.
        parsed = (
            parse_notifications(body) if len(body) < LARGE_BODY else await asyncio.to_thread(parse_notifications, body)
        )
        if parsed.faults and not parsed.notifications:
            raise InvalidRequest("No notification in the body can be read: " + "; ".join(parsed.faults[:5]))
        teller = TenantApp(tenant_id, self._apps.app_id_of_audience(claims.audience))
        received = await self._take(_by_call(parsed.notifications), _Told(teller, ids), parsed.faults)
        if received.refused and not received.calls:
            raise Forbidden("These calls belong to another tenant, or another app, than the token.")
        telemetry.NOTIFICATIONS_ACCEPTED(
            tenantId=tenant_id,
            tokenKind=claims.kind,
            notifications=received.notifications,
            calls=received.calls,
            faults=len(received.faults),
        )
        return received

    async def _take(self, by_call: dict[str, list[Notification]], told: _Told, faults: tuple[str, ...]) -> Received:
        slots = asyncio.Semaphore(AT_ONCE)
        refused: dict[str, Forbidden] = {}

        async def one(call_id: str) -> StoreUnavailable | None:
            async with slots:
                try:
                    await self._store_all(call_id, by_call[call_id], told)
                except Forbidden as error:
                    refused[call_id] = error
                except RowUnreadable as error:  # Graph sends it again, and the row may be readable by then
                    return StoreUnavailable(str(error))
                except StoreUnavailable as error:
                    return error
                except Exception as error:  # noqa: BLE001 (one call's trouble, a bug's too, spoils no other's)
                    telemetry.REQUEST_FAILED(
                        route="receive_notifications", error=safe_message(error), where=traceback_summary(error)
                    )
                    return StoreUnavailable(f"A notification of call {call_id} could not be stored.")
                return None

        try:
            errors = await asyncio.gather(*(one(call_id) for call_id in by_call))
        finally:  # also where time ran out: what another call meets hides no alarm
            self._tell_refused(told.teller, faults, refused)
        for error in filter(None, errors):
            raise error
        stored = [notifications for call_id, notifications in by_call.items() if call_id not in refused]
        return Received(sum(map(len, stored)), len(stored), faults, len(refused))

    def _tell_refused(self, teller: TenantApp, faults: tuple[str, ...], refused: Mapping[str, CallKeeperError]) -> None:
        for fault in faults:
            telemetry.NOTIFICATIONS_REFUSED(why="unreadable", detail=fault)
            telemetry.NOTIFICATIONS.add(outcome="unreadable")
        tenant_id, app_id = teller
        for call_id in islice(refused, MOST_ALARMS):
            telemetry.OTHER_TENANT(callId=call_id, tenantId=tenant_id, appId=app_id)
        others = Counter(
            "otherApp" if isinstance(error, TokenAppMismatch) else "otherTenant" for error in refused.values()
        )
        for why, count in others.items():
            telemetry.NOTIFICATIONS_REFUSED(why=why, detail=f"{count} calls, token of {tenant_id} for app {app_id}")
            telemetry.NOTIFICATIONS.add(count, outcome=why)

    async def _store_all(self, call_id: str, notifications: list[Notification], told: _Told) -> None:
        for chunk in batched(notifications, IN_ONE_CHANGE, strict=False):
            before, after = await self._store_chunk(call_id, chunk, told)
            telemetry.NOTIFICATIONS.add(len(chunk), outcome="stored")
            if after.ended_at and (not before or not before.ended_at or before.termination != after.termination):
                telemetry.tell_end(after)

    async def _store_chunk(
        self, call_id: str, notifications: tuple[Notification, ...], told: _Told
    ) -> tuple[Call | None, Call]:
        at = self._clock.now()

        async def attempt() -> tuple[Call | None, Call]:
            before = await self._store.get(call_id)
            change = await self._merge(before, call_id, notifications, told, at)
            after = change.after
            if before is None and after.ended_at is None and after.state not in UNDER_WAY:
                await self._renew_soon(call_id)
            await commit(self._store, change)
            return before.value if before else None, after

        return await retry_conflicts(attempt, f"Call {call_id}")

    async def _merge(
        self,
        before: Stored[Call] | None,
        call_id: str,
        notifications: tuple[Notification, ...],
        told: _Told,
        at: datetime,
    ) -> Change:
        call = self._apps.with_app_id(before.value) if before else None
        operations: dict[str, tuple[Stored[Operation] | None, Operation]] = {}
        story: dict[str, Event] = {}
        for number, item in enumerate(notifications, 1):
            call = lifecycle.notified(call, item, told.teller.tenant_id, at, told.teller.app_id)
            if isinstance(item, OperationNotification):
                stored, known = operations.get(item.operation_id, (None, None))
                if known is None:
                    stored = await self._store.get_operation(call_id, item.operation_id)
                    known = stored.value if stored else None
                operations[item.operation_id] = stored, lifecycle.operation_notified(known, item, at)
            if not isinstance(item, OtherNotification):
                event = lifecycle.notification_event(item, at + number * EVENT_SPACING, told.ids)
                story.setdefault(event.digest, event)
        assert call is not None  # noqa: S101 (there is at least one notification, and each gives a call)
        return Change(before, call, tuple(story.values()), tuple(operations.values()))

    async def _renew_soon(self, call_id: str) -> None:
        """A call first met in the middle may be old: renew it soon, not at the next sweep.

        The message before the row: should we die in between, Graph tells again. It comes when the row is written.
        """
        try:
            await self._queue.send(Renew(call_id=call_id), AFTER_THE_WRITE)
        except StoreUnavailable as error:  # the next sweep renews it
            telemetry.QUEUE_FAILED(kind="renew", error=str(error))


def _by_call(notifications: Iterable[Notification]) -> dict[str, list[Notification]]:
    by_call: dict[str, list[Notification]] = {}
    for item in notifications:
        by_call.setdefault(item.call_id, []).append(item)
    return by_call
