"""The pass-through of Graph's requests: what of a body goes where, and the first attempts before Graph is answered."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

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
from shared.domain.notifications import located_call_id, wants_answer
from shared.errors import RowUnreadable
from shared.relay.attempts import Transmission
from shared.relay.deliverer import Deliverer, Opened
from shared.relay.exchange import BotResponse, Incoming, IncomingRequest, is_plain
from shared.storage.changes import Claim, Committed, Outgoing
from shared.storage.delivery_codec import Barrier
from shared.storage.stored import Stored

if TYPE_CHECKING:
    from shared.relay.sender import Answer
    from shared.storage.store import CallStore

BOT_HEADERS = ("x-microsoft-bot-auth-type", "x-microsoft-bot-sdk-version")
MAX_CONCURRENT_READS = 8  # of the calls of one body
_QUESTION = b"participantjoiningnotification"
_WITHOUT_CONTENT = frozenset({204, 205, 304})  # RFC 9110: the host fails if such a response has a body


@dataclass(frozen=True, slots=True)
class _Part:
    """The notifications of one delivery. `body` is what is stored and retried. A question wants the bot's answer."""

    call_ids: tuple[str, ...]
    body: bytes = field(repr=False)
    is_question: bool = False


@dataclass(slots=True)
class Relayed:
    """One body on its way through the webhook.

    Parameters
    ----------
    parts
        What is delivered of the body to the target. Empty: nothing.
    is_whole
        True if all of the body goes to one destination.
    to_by_call
        The `to` of the registrations, if they had to be read to split the body.
    """

    claim: Claim
    incoming: Incoming
    target: RelayTarget | None
    parts: tuple[_Part, ...] = ()
    is_whole: bool = True
    to_by_call: Mapping[str, str | None] = field(default_factory=dict)
    min_sequence: int = 0
    committed: list[Committed] = field(default_factory=list)
    sequences: dict[tuple[str, ...], int] = field(default_factory=dict)

    @property
    def first_calls(self) -> frozenset[str]:
        """The first call of each part with several calls, stored first: the lanes of the others wait for its row."""
        return frozenset(part.call_ids[0] for part in self.parts if len(part.call_ids) > 1)

    @property
    def is_incomplete(self) -> bool:
        """True if a part with several calls was not stored with its first call, which another tenant took meanwhile."""
        return any(len(part.call_ids) > 1 and part.call_ids not in self.sequences for part in self.parts)

    def outgoing(self, call_id: str, before: Call | None) -> Outgoing:
        """Return what the change of a call delivers. `before` is the call as it was read."""
        deliveries: list[Delivery] = []
        barriers: list[Barrier] = []
        for part in self.parts:
            if part.call_ids[0] == call_id:
                deliveries.append(self._delivery(part, before))
            elif call_id in part.call_ids and (sequence := self.sequences.get(part.call_ids)):
                barriers.append(Barrier(call_id, part.call_ids[0], sequence, self._destination(part, before)))
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
        incoming = self.incoming
        return Delivery(
            id="",
            call_ids=part.call_ids,
            sequence=self.min_sequence,
            destination=self._destination(part, before),
            type=NOTIFICATION_TYPE,
            tenant_id=incoming.sender.tenant_id,
            app_id=incoming.sender.app_id,
            received_at=incoming.received_at,
            retry_since=incoming.received_at,
            # Until the bot has answered, a notification that wants an answer counts as not delivered.
            status=DeliveryStatus.DEAD if part.is_question else DeliveryStatus.PENDING,
            headers=incoming.request.headers,
            body=None if part.is_question else part.body,
            wants_answer=part.is_question,
        )

    def _destination(self, part: _Part, before: Call | None) -> Destination:
        """Return where a part goes. A part about several calls goes where its first call was to go when it was read."""
        assert self.target is not None  # noqa: S101 (there are parts only if there is a target)
        registered = before.relay_to if before else None
        if len(part.call_ids) > 1:
            registered = self.to_by_call[part.call_ids[0]]
        return _destination(self.target, self.incoming.request, registered)


@dataclass(frozen=True)
class PassThrough:
    """Passes Graph's requests on to bots."""

    deliverer: Deliverer
    targets: RelayTargets
    store: "CallStore"
    budget: timedelta
    sync_budget: timedelta

    async def prepare(self, incoming: Incoming, call_ids: Iterable[str]) -> Relayed:
        """Decide how a body is delivered. A body about one call costs no request to the store.

        Raises
        ------
        StoreUnavailable
            The body is about several calls, or wants an answer, and the calls cannot be read.
        """
        ids = tuple(call_ids)
        target = self.targets.graph_target(incoming.sender.app_id)
        relayed = Relayed(self.deliverer.claim(), incoming, target)
        if target is None or not ids or incoming.request.is_from_relay:
            return relayed
        may_have_question = _QUESTION in incoming.body.lower()
        if len(ids) == 1 and not may_have_question:
            relayed.parts = (_Part(ids, incoming.body),)
            return relayed
        calls = await self._read(ids)
        accepted = tuple(call_id for call_id in ids if call_id in calls and self._accepts(calls[call_id], incoming))
        relayed.to_by_call = {call_id: call.relay_to if call else None for call_id, call in calls.items()}
        relayed.min_sequence = max(((call.relay_sequence or 0) + 1 for call in calls.values() if call), default=0)
        where = {_destination(target, incoming.request, relayed.to_by_call[call_id]) for call_id in accepted}
        relayed.is_whole = len(where) == 1 and accepted == ids
        if relayed.is_whole and not may_have_question:
            relayed.parts = (_Part(ids, incoming.body),)
        else:
            relayed.parts = tuple(_split(incoming.body, accepted, is_whole=relayed.is_whole))
        return relayed

    async def finish(self, relayed: Relayed) -> BotResponse:
        """Make the first attempts of what is stored, and return what Graph gets of the bot's answer."""
        await self.deliverer.notice_overdue(lane for each in relayed.committed for lane in each.appended)
        opened = {key: lane for each in relayed.committed for key, lane in each.opened.items()}
        deliveries = [stored for each in relayed.committed for stored in each.deliveries]
        questions = [each for each in deliveries if each.value.wants_answer and not each.value.attempts]
        pending = [each for each in deliveries if each.value.status is DeliveryStatus.PENDING]
        # Deliveries behind others that are pending wait: the worker of those goes on with them.
        ready = [each for each in _first_of_lanes(pending) if _is_ready(each.value, opened)]
        firsts = [_opened(each, pending, opened) for each in ready]
        used = {lane.value.key for each in firsts for lane in each.lanes}
        await self.deliverer.leave(lane for key, lane in opened.items() if key not in used)
        beside = [each for each in firsts if each.stored.value.type == NOTIFICATION_TYPE]
        if questions and relayed.is_whole and len(beside) == len(_notifications(deliveries)):
            firsts = [each for each in firsts if each.stored.value.type != NOTIFICATION_TYPE]
            asked = [self._ask(relayed, questions[0], relayed.incoming.body, [*map(Opened, questions[1:]), *beside])]
        else:
            asked = [self._ask(relayed, each, relayed.body_of(each.value)) for each in questions]
        answers = await asyncio.gather(*asked, *(self._attempt(relayed, each) for each in firsts))
        return _response(relayed, answers[: len(asked)], answers[len(asked) :])

    async def _ask(
        self, relayed: Relayed, stored: Stored[Delivery], body: bytes, beside: Iterable[Opened] = ()
    ) -> "Answer | None":
        way = Transmission(body, relayed.incoming.bearer, self.sync_budget, reads_body=True)
        return (await self.deliverer.ask(stored, way, beside=beside)).answer

    async def _attempt(self, relayed: Relayed, opened: Opened) -> "Answer | None":
        delivery = opened.stored.value
        if delivery.type != NOTIFICATION_TYPE:
            await self.deliverer.attempt_first(opened, Transmission(timeout=self.budget))
            return None
        way = Transmission(relayed.body_of(delivery), relayed.incoming.bearer, self.budget)
        return (await self.deliverer.attempt_first(opened, way)).answer

    def _accepts(self, call: Call | None, incoming: Incoming) -> bool:
        """True if the call is not of another tenant or app than the token: `lifecycle.notified` refuses those."""
        if call is None:
            return True
        tenant_id, app_id = incoming.sender
        is_of_app = app_id is None or self.targets.app_of(call.app_id) == app_id
        return is_of_app and call.tenant_id.lower() == tenant_id.lower()

    async def _read(self, call_ids: Iterable[str]) -> dict[str, Call | None]:
        """Return the calls. One whose row cannot be read is left out: its notifications cannot be stored either."""
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_READS)
        found: dict[str, Call | None] = {}

        async def read(call_id: str) -> None:
            async with semaphore:
                try:
                    stored = await self.store.get(call_id)
                except RowUnreadable:
                    return
                found[call_id] = stored.value if stored else None

        await asyncio.gather(*map(read, call_ids))
        return found


def _notifications(deliveries: Iterable[Stored[Delivery]]) -> list[Stored[Delivery]]:
    """Return the deliveries of Graph's notifications that want no answer."""
    return [each for each in deliveries if each.value.type == NOTIFICATION_TYPE and not each.value.wants_answer]


def _lane_keys(delivery: Delivery) -> list[LaneKey]:
    return [LaneKey(call_id, delivery.destination) for call_id in delivery.call_ids]


def _is_ready(delivery: Delivery, opened: Mapping[LaneKey, Stored[Lane]]) -> bool:
    """True if this request opened all lanes of the delivery."""
    return all(key in opened for key in _lane_keys(delivery))


def _opened(
    stored: Stored[Delivery], pending: Iterable[Stored[Delivery]], opened: Mapping[LaneKey, Stored[Lane]]
) -> Opened:
    is_alone = sum(other.value.lane == stored.value.lane for other in pending) == 1
    return Opened(stored, [opened[key] for key in _lane_keys(stored.value)], is_alone)


def _first_of_lanes(pending: Iterable[Stored[Delivery]]) -> list[Stored[Delivery]]:
    first: dict[LaneKey, Stored[Delivery]] = {}
    for stored in pending:
        first.setdefault(stored.value.lane, stored)
    return list(first.values())


def _destination(target: RelayTarget, request: IncomingRequest, registered: str | None) -> Destination:
    """Return the destination of a call. The `to` of the callback wins; one that is doubled or does not fit is none."""
    if not target.wants_to:
        return Destination(target.name, None)
    if not request.to:
        return Destination(target.name, registered)
    fits = len(request.to) == 1 and is_valid_to(request.to[0])
    return Destination(target.name, request.to[0] if fits else None)


def _split(body: bytes, call_ids: Sequence[str], *, is_whole: bool) -> Iterator[_Part]:
    """Yield the parts of a body: the questions of each call alone, and the other notifications.

    These stay together if the whole body goes to one destination, else there is a part for each call. Without a
    question, a whole body stays as it is.
    """
    envelope = json.loads(body.decode("utf-8-sig"))
    name = next(key for key in envelope if key.lower() == "value")
    accepted = frozenset(call_ids)
    located = [(located_call_id(item) or "", item) for item in envelope[name]]
    questions: dict[str, list[object]] = {}
    others: dict[str, list[object]] = {}
    together: list[object] = []
    for call_id, item in located:
        if call_id in accepted:
            is_question = wants_answer(item)
            (questions if is_question else others).setdefault(call_id, []).append(item)
            together += [] if is_question else [item]
    if is_whole and not questions:
        yield _Part(tuple(call_ids), body)
        return

    def part(ids: Iterable[str], items: Iterable[object], *, is_question: bool) -> _Part:
        # In ASCII: half a surrogate pair, as in a name that was cut, has no UTF-8.
        text = json.dumps({**envelope, name: list(items)}, separators=(",", ":"))
        return _Part(tuple(ids), text.encode(), is_question)

    for call_id, items in questions.items():
        yield part([call_id], items, is_question=True)
    if is_whole and others:
        yield part(others, together, is_question=False)
    elif not is_whole:
        for call_id, items in others.items():
            yield part([call_id], items, is_question=False)


def _response(relayed: Relayed, answers: "Iterable[Answer | None]", others: "Iterable[Answer | None]") -> BotResponse:
    first = next((answer for answer in answers if answer), None)
    told = [answer for answer in (first, *others) if answer]
    headers = _plain_headers(told[0], BOT_HEADERS) if relayed.is_whole and len(told) == 1 else {}
    if first is None:
        return BotResponse(headers=headers)
    body = b"" if first.status in _WITHOUT_CONTENT else first.body
    return BotResponse(first.status, headers | _plain_headers(first, ("Content-Type",)), body)


def _plain_headers(answer: "Answer", names: Iterable[str]) -> dict[str, str]:
    found = {name: answer.headers.get(name) for name in names}
    return {name: value for name, value in found.items() if value and is_plain(value)}
