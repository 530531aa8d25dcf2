"""The pass-through of Graph's requests: what of a body goes where, and the first attempts before Graph is answered."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.calls import Call
from shared.domain.deliveries import (
    NOTIFICATION_TYPE,
    Delivery,
    DeliveryStatus,
    Destination,
    Lane,
    LaneKey,
    is_valid_to,
)
from shared.domain.leases import TenantApp
from shared.domain.notifications import located_call_id, wants_answer
from shared.relay.deliverer import Bearer, Deliverer, log_dead
from shared.storage.changes import Claim, Committed, Outgoing
from shared.storage.delivery_codec import Barrier
from shared.storage.stored import Stored

if TYPE_CHECKING:
    from shared.relay.sender import Answer
    from shared.storage.store import CallStore

RELAYED_HEADERS = (
    *("Content-Type", "Scenario-Id", "X-Microsoft-Skype-Chain-ID", "X-Microsoft-Skype-Message-ID"),
    "Client-Request-Id",
)
BOT_HEADERS = ("x-microsoft-bot-auth-type", "x-microsoft-bot-sdk-version")
MAX_HEADER_LENGTH = 512  # characters; Graph sends GUIDs
_QUESTION = b"participantjoiningnotification"


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """The parts of Graph's request that are passed on, besides its body.

    Parameters
    ----------
    headers
        The content type and the correlation headers.
    to
        The values of `to` in the query of the callback.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    to: tuple[str, ...] = ()

    @classmethod
    def of(cls, headers: Mapping[str, str], url: str) -> "IncomingRequest":
        """Read them from the headers and the URL of a request. Headers that no client should send are left out."""
        found = {name: headers.get(name) for name in RELAYED_HEADERS}
        kept = {name: value for name, value in found.items() if value and _is_plain(value)}
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
        return cls(kept, tuple(value for name, value in query if name == "to"))


@dataclass(frozen=True, slots=True)
class BotResponse:
    """The response of the bot that Graph gets: all of it if Graph wants an answer, else only two headers."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class _Part:
    """The notifications of one delivery. `body` is what is stored and retried."""

    call_ids: tuple[str, ...]
    body: bytes = field(repr=False)
    is_question: bool = False


@dataclass(slots=True)
class Relayed:
    """One body on its way through the webhook.

    Parameters
    ----------
    first_calls
        The calls to store first: their rows have the deliveries that the lanes of other calls wait for.
    """

    claim: Claim
    bearer: Bearer
    body: bytes = field(repr=False)
    target: RelayTarget | None
    request: IncomingRequest
    sender: TenantApp
    received_at: datetime
    parts: tuple[_Part, ...] = ()
    is_whole: bool = True
    to_by_call: Mapping[str, str | None] = field(default_factory=dict)
    min_sequence: int = 0
    committed: list[Committed] = field(default_factory=list)
    sequences: dict[tuple[str, ...], int] = field(default_factory=dict)

    @property
    def first_calls(self) -> frozenset[str]:
        """The first call of each part with several calls."""
        return frozenset(part.call_ids[0] for part in self.parts if len(part.call_ids) > 1)

    def outgoing(self, call_id: str, before: Call | None) -> Outgoing:
        """Return what the change of a call delivers. `before` is the call as it was read."""
        deliveries: list[Delivery] = []
        barriers: list[Barrier] = []
        for part in self.parts:
            if part.call_ids[0] == call_id:
                deliveries.append(self._delivery(part, before))
            elif call_id in part.call_ids and (sequence := self.sequences.get(part.call_ids)):
                destination = self._destination(call_id, before)
                barriers.append(Barrier(call_id, part.call_ids[0], sequence, destination))
        return Outgoing(tuple(deliveries), tuple(barriers), self.claim)

    def record(self, committed: Committed) -> None:
        """Remember what a change of one of the calls delivers."""
        self.committed.append(committed)
        for stored in committed.deliveries:
            self.sequences[stored.value.call_ids] = stored.value.sequence

    def body_of(self, delivery: Delivery) -> bytes:
        """Return what the first attempt of a delivery sends. Its row has none if it is too large, or a question."""
        key = (delivery.call_ids, delivery.wants_answer)
        return next(part.body for part in self.parts if (part.call_ids, part.is_question) == key)

    def _delivery(self, part: _Part, before: Call | None) -> Delivery:
        return Delivery(
            id="",
            call_ids=part.call_ids,
            sequence=self.min_sequence,
            destination=self._destination(part.call_ids[0], before),
            type=NOTIFICATION_TYPE,
            tenant_id=self.sender.tenant_id,
            app_id=self.sender.app_id,
            received_at=self.received_at,
            retry_since=self.received_at,
            # Until the bot has answered, a notification that wants an answer counts as not delivered.
            status=DeliveryStatus.DEAD if part.is_question else DeliveryStatus.PENDING,
            headers=self.request.headers,
            body=None if part.is_question else part.body,
            wants_answer=part.is_question,
        )

    def _destination(self, call_id: str, before: Call | None) -> Destination:
        assert self.target is not None  # noqa: S101 (there are parts only if there is a target)
        registered = before.relay_to if before else self.to_by_call.get(call_id)
        return _destination(self.target, self.request, registered)


@dataclass(frozen=True)
class PassThrough:
    """Passes Graph's requests on to bots."""

    deliverer: Deliverer
    targets: RelayTargets
    store: "CallStore"
    budget: timedelta
    sync_budget: timedelta

    async def prepare(  # noqa: PLR0913 (the facts of one request)
        self,
        body: bytes,
        request: IncomingRequest,
        bearer: Bearer,
        sender: TenantApp,
        call_ids: Iterable[str],
        now: datetime,
    ) -> Relayed:
        """Decide how a body is delivered. A body about one call costs no request to the store."""
        ids = tuple(call_ids)
        target = self.targets.graph_target(sender.app_id)
        relayed = Relayed(self.deliverer.claim(), bearer, body, target, request, sender, now)
        if target is None or not ids:
            return relayed
        has_question = _QUESTION in body.lower()
        if len(ids) == 1 and not has_question:
            relayed.parts = (_Part(ids, body),)
            return relayed
        calls = {call_id: await self._read(call_id) for call_id in ids}
        accepted = tuple(call_id for call_id in ids if _is_accepted(calls[call_id], sender))
        relayed.to_by_call = {call_id: call.relay_to if call else None for call_id, call in calls.items()}
        relayed.min_sequence = max(((call.relay_sequence or 0) + 1 for call in calls.values() if call), default=0)
        where = {_destination(target, request, relayed.to_by_call[call_id]) for call_id in accepted}
        relayed.is_whole = len(where) == 1 and accepted == ids
        if relayed.is_whole and not has_question:
            relayed.parts = (_Part(ids, body),)
        else:
            relayed.parts = tuple(_split(body, accepted, is_whole=relayed.is_whole))
        return relayed

    async def finish(self, relayed: Relayed) -> BotResponse:
        """Make the first attempts of what is stored, and return what Graph gets of the bot's answer."""
        await self.deliverer.notice_overdue(lane for each in relayed.committed for lane in each.appended)
        opened = {key: lane for each in relayed.committed for key, lane in each.opened.items()}
        deliveries = [stored for each in relayed.committed for stored in each.deliveries]
        asked = [stored for stored in deliveries if stored.value.wants_answer]
        for stored in deliveries:
            if stored not in asked:  # the others were not asked yet, so that they are not dead for good
                log_dead(stored.value)
        beside = [stored for stored in deliveries if stored.value.type == NOTIFICATION_TYPE and stored not in asked]
        together = asked[:1] if asked and relayed.is_whole and _is_ready(beside, opened) else []
        if together:
            work = [self._ask_all(relayed, together[0], beside, opened)]
            rest = [stored for stored in deliveries if stored not in (*asked, *beside)]
        else:
            work = [self._ask_alone(relayed, stored) for stored in asked]
            rest = [stored for stored in deliveries if stored not in asked]
        firsts = [self._attempt(relayed, stored, rest, opened) for stored in _first_of_lanes(rest)]
        results = await asyncio.gather(*work, *firsts)
        return _response(relayed, results[: len(work)], results[len(work) :])

    async def _ask_all(
        self,
        relayed: Relayed,
        asked: Stored[Delivery],
        beside: list[Stored[Delivery]],
        opened: Mapping[LaneKey, Stored[Lane]],
    ) -> "Answer | None":
        """Send a whole body that has a question. Its other notifications are delivered by the same answer."""
        others = [(stored, _lanes(stored.value, opened)) for stored in beside]
        first = await self.deliverer.ask(asked, relayed.body, relayed.bearer, self.sync_budget, beside=others)
        return first.answer

    async def _ask_alone(self, relayed: Relayed, stored: Stored[Delivery]) -> "Answer | None":
        body = relayed.body_of(stored.value)
        return (await self.deliverer.ask(stored, body, relayed.bearer, self.sync_budget)).answer

    async def _attempt(
        self,
        relayed: Relayed,
        stored: Stored[Delivery],
        deliveries: list[Stored[Delivery]],
        opened: Mapping[LaneKey, Stored[Lane]],
    ) -> "Answer | None":
        delivery = stored.value
        if not _is_ready([stored], opened):
            return None  # a delivery before is pending in one of its lanes: its worker goes on with this one
        is_alone = sum(other.value.lane == delivery.lane for other in deliveries) == 1
        lanes = _lanes(delivery, opened)
        if delivery.type != NOTIFICATION_TYPE:
            await self.deliverer.attempt_first(stored, lanes, None, None, self.budget, is_alone=is_alone)
            return None
        body = relayed.body_of(stored.value)
        first = await self.deliverer.attempt_first(stored, lanes, body, relayed.bearer, self.budget, is_alone=is_alone)
        return first.answer

    async def _read(self, call_id: str) -> Call | None:
        stored = await self.store.get(call_id)
        return stored.value if stored else None


def _is_ready(deliveries: Iterable[Stored[Delivery]], opened: Mapping[LaneKey, Stored[Lane]]) -> bool:
    """True if this request opened all lanes of the pending deliveries."""
    return all(
        LaneKey(call_id, stored.value.destination) in opened
        for stored in deliveries
        for call_id in stored.value.call_ids
    )


def _lanes(delivery: Delivery, opened: Mapping[LaneKey, Stored[Lane]]) -> list[Stored[Lane]]:
    return [opened[LaneKey(call_id, delivery.destination)] for call_id in delivery.call_ids]


def _first_of_lanes(deliveries: Iterable[Stored[Delivery]]) -> list[Stored[Delivery]]:
    pending = [stored for stored in deliveries if stored.value.status is DeliveryStatus.PENDING]
    return list({stored.value.lane: stored for stored in reversed(pending)}.values())


def _destination(target: RelayTarget, request: IncomingRequest, registered: str | None) -> Destination:
    """Return the destination of a call. The `to` of the callback wins; one that is doubled or does not fit is none."""
    if not target.wants_to:
        return Destination(target.name, None)
    if not request.to:
        return Destination(target.name, registered)
    fits = len(request.to) == 1 and is_valid_to(request.to[0])
    return Destination(target.name, request.to[0] if fits else None)


def _is_accepted(call: Call | None, sender: TenantApp) -> bool:
    """True if the call is not of another tenant or app than the token: `lifecycle.notified` refuses those."""
    if call is None:
        return True
    is_of_app = sender.app_id is None or call.app_id in {None, sender.app_id}
    return is_of_app and call.tenant_id.lower() == sender.tenant_id.lower()


def _split(body: bytes, call_ids: tuple[str, ...], *, is_whole: bool) -> Iterable[_Part]:
    """Yield the parts of a body: the questions of each call alone, and the other notifications.

    These stay together if the whole body goes to one destination, else there is a part for each call.
    """
    envelope = json.loads(body.decode("utf-8-sig"))
    name = next(key for key in envelope if key.lower() == "value")
    items = [(located_call_id(item), item) for item in envelope[name]]

    def part(ids: tuple[str, ...], *, is_question: bool) -> _Part | None:
        chosen = [item for call_id, item in items if call_id in ids and wants_answer(item) is is_question]
        text = json.dumps({**envelope, name: chosen}, ensure_ascii=False, separators=(",", ":"))
        found = tuple(call_id for call_id in ids if any(call_id == of for of, item in items if item in chosen))
        return _Part(found, text.encode(), is_question) if chosen else None

    for call_id in call_ids:
        if question := part((call_id,), is_question=True):
            yield question
    for group in [call_ids] if is_whole else [(call_id,) for call_id in call_ids]:
        if rest := part(group, is_question=False):
            yield rest


def _response(relayed: Relayed, answers: "Iterable[Answer | None]", others: "Iterable[Answer | None]") -> BotResponse:
    first = next((answer for answer in answers if answer), None)
    told = [answer for answer in (first, *others) if answer]
    headers = {name: told[0].headers[name] for name in BOT_HEADERS if len(told) == 1 and name in told[0].headers}
    if not relayed.is_whole:
        headers = {}
    if first is None:
        return BotResponse(headers=headers)
    kind = first.headers.get("Content-Type")
    return BotResponse(first.status, headers | ({"Content-Type": kind} if kind else {}), first.body)


def _is_plain(value: str) -> bool:
    return len(value) <= MAX_HEADER_LENGTH and value.isascii() and value.isprintable()
