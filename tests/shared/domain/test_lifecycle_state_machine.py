"""Any order, repetition and batching of a call's notifications gives one record, and nothing brings a call back."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shared.domain.calls import Call, Operation, Status, Termination, TerminationSource
from shared.domain.explanation import explain, explanation_rank
from shared.domain.leases import RenewalFailure
from shared.domain.lifecycle import (
    Registration,
    call_gone,
    hung_up,
    notified,
    operation_notified,
    registered,
    renewal_failed,
    renewed,
)
from shared.domain.notifications import CallNotification, OperationNotification, parse_notifications
from shared.domain.precedence import ESTABLISHED, NO_STATE, better_termination, pick_stable
from shared.errors import Conflict, Forbidden
from tests.support.events import readable

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CALL = "3f6c1d20-8a44-4b0e-9d52-0b7e5a91c001"
URL = f"/communications/calls/{CALL}"
TENANT = "9c1d6b70-2f83-4f1d-8a45-bb8e6f72a501"
OTHER_TENANT = "9c1d6b70-2f83-4f1d-8a45-bb8e6f72a502"
REGISTRATION = Registration(CALL, TENANT, metadata={"room": "1"})

type Item = dict[str, object]


# Notifications as Graph writes them, in all variants


def own(path: str) -> str:
    """The same path, of our one call and one operation."""
    path = re.sub(r"(?i)(/calls/)[^/?#]+", rf"\g<1>{CALL}", path)
    return re.sub(r"(?i)(/operations/)(?!participants)[^/?#]+", r"\g<1>1", path)


def items_of_the_event_files() -> list[Item]:
    """Each item of the event files that can be read, made one of our call."""
    found = [item for file in readable() for item in json.loads(file.body).get("value", []) if isinstance(item, dict)]
    for item in found:
        item |= {name: own(item[name]) for name in ("resource", "resourceUrl") if isinstance(item.get(name), str)}
    return [item for item in found if parse_notifications(body([item])).notifications]


def body(items: Sequence[Item]) -> bytes:
    return json.dumps({"value": items}).encode()


WORDS = [
    "incoming",
    "Establishing",
    "ringing",
    "redirecting",
    "established",
    "hold",
    "transferring",
    "TransferAccepted",
]
WORDS += ["terminating", "terminated", "newWord", "anotherNewWord", "unknown"]
codes = st.sampled_from([200, "200", 480, 500, 0, None, "text", True])
subcodes = st.sampled_from([5010, "5010", 10037, 7000, 8537, 8514, 9999, 540480, 987654, 987655, 0, None, "text"])
messages = st.sampled_from(
    [None, "Over.", "Really over.", "DiagCode: 0#5002.@", "DiagCode: 480#10037.@", "DiagCode: 0#987656"]
)
results = st.none() | st.fixed_dictionaries({"code": codes, "subcode": subcodes, "message": messages})
changes = st.sampled_from(["created", "updated", "Updated", "deleted", "Deleted"])
calls = st.fixed_dictionaries(
    {"state": st.none() | st.sampled_from(WORDS), "resultInfo": results},
    optional={
        "direction": st.sampled_from(["incoming", "outgoing"]),
        "callChainId": st.sampled_from(["chain-1", "chain-2"]),
        "terminationReason": st.sampled_from(["AppTransferred", "CallTerminated", "NewReason"]),
    },
)
operations = st.fixed_dictionaries(
    {
        "status": st.sampled_from([None, "notStarted", "running", "completed", "failed", "newStatus"]),
        "resultInfo": results,
    },
    optional={
        "@odata.type": st.sampled_from(["#microsoft.graph.recordOperation", "#microsoft.graph.playPromptOperation"]),
        "clientContext": st.sampled_from(["context-1", "context-2"]),
        "completionReason": st.sampled_from(["stopToneDetected", "operationCanceled"]),
        "recordingLocation": st.sampled_from(["https://file.example.com/1", "https://file.example.com/2"]),
        "recordingAccessToken": st.sampled_from(["token-1", "token-2"]),
    },
)
generated = st.fixed_dictionaries({"changeType": changes, "resourceUrl": st.just(URL), "resourceData": calls})
RECORDED: Item = {"changeType": "deleted", "resourceUrl": f"{URL}/operations/1"}
generated_operations = st.fixed_dictionaries(
    {"changeType": changes, "resourceUrl": st.just(f"{URL}/operations/1"), "resourceData": operations}
)
EVENTS = items_of_the_event_files()
items: st.SearchStrategy[Item] = st.one_of(generated, generated, generated_operations, st.sampled_from(EVENTS))
ends: st.SearchStrategy[Item] = st.fixed_dictionaries(
    {"changeType": st.just("deleted"), "resourceUrl": st.just(URL), "resourceData": calls}
)


def test_the_event_files_give_many_notifications_of_one_call() -> None:
    sent = [notification for item in EVENTS for notification in parse_notifications(body([item])).notifications]

    assert len(sent) > 60  # enough for thousands of different orders; the files may grow
    assert {notification.call_id for notification in sent} == {CALL}


# What is on record, in whatever order it came


@dataclass(frozen=True)
class OnRecord:
    """A call and its operation, as they stand."""

    call: Call | None = None
    operation: Operation | None = None

    def posted(self, batch: Sequence[Item], at: datetime) -> "OnRecord":
        """After a POST of the webhook."""
        call, operation = self.call, self.operation
        for notification in parse_notifications(body(batch)).notifications:
            call = notified(call, notification, TENANT, at)
            if isinstance(notification, OperationNotification) and notification.operation_id == "1":
                operation = operation_notified(operation, notification, at)
        return OnRecord(call, operation)

    def settled(self) -> "OnRecord":
        """Without what the order may change: times, and the word among established and its kin."""
        call, operation = self.call, self.operation
        if call:
            shown = "established" if call.state in ESTABLISHED else call.state
            call = replace(call, state=shown, known_at=NOON, started_at=NOON, ended_at=call.ended_at and NOON)
            call = replace(call, registered_at=call.registered_at and NOON)
        if operation:
            operation = replace(operation, known_at=NOON, finished_at=operation.finished_at and NOON)
        return OnRecord(call, operation)


def at_once(sent: Sequence[Item], *, register: bool) -> OnRecord:
    record = OnRecord().posted(sent, NOON)
    return replace(record, call=registered(record.call, REGISTRATION, NOON)) if register else record


@given(data=st.data(), sent=st.lists(items, min_size=1, max_size=7), register=st.booleans())
def test_any_order_repetition_and_batching_gives_one_record(
    data: st.DataObject, sent: list[Item], register: bool
) -> None:
    again = data.draw(st.lists(st.sampled_from(sent), max_size=4), "repeated")
    order = data.draw(st.permutations(sent + again), "order")
    cuts = data.draw(st.sets(st.integers(1, len(order))), "cuts")
    batches = [order[start:stop] for start, stop in pairwise([0, *sorted(cuts | {len(order)})])]
    when = data.draw(st.integers(0, len(batches)), "registered before batch") if register else None

    record = OnRecord()
    for number, batch in enumerate([*batches, []]):
        if number == when:
            record = replace(record, call=registered(record.call, REGISTRATION, NOON + number * MINUTE))
        record = record.posted(batch, NOON + number * MINUTE)

    assert record.settled() == at_once(sent, register=register).settled()


LIFE: list[Item] = [
    {"changeType": "updated", "resourceUrl": URL, "resourceData": {"state": "establishing"}},
    {"changeType": "updated", "resourceUrl": URL, "resourceData": {"state": "established", "direction": "outgoing"}},
    {"changeType": "updated", "resourceUrl": f"{URL}/participants", "resourceData": []},
    {"changeType": "deleted", "resourceUrl": f"{URL}/operations/1", "resourceData": {"status": "completed"}},
    {"changeType": "updated", "resourceUrl": URL, "resourceData": {"state": "terminating"}},
    {"changeType": "deleted", "resourceUrl": URL, "resourceData": {"resultInfo": {"code": 200, "subcode": 5010}}},
]


def test_every_order_of_a_whole_life_gives_one_record() -> None:
    records = {json.dumps(repr(OnRecord().posted(order, NOON).settled())) for order in permutations(LIFE)}

    assert len(records) == 1


@given(sent=st.lists(items, min_size=1, max_size=6), place=st.integers(0, 6))
def test_our_own_hang_up_explains_the_end_in_any_order(sent: list[Item], place: int) -> None:
    """Graph's answer to DELETE and its notifications come in any order."""

    def hung_up_after(count: int) -> Call | None:
        record = OnRecord(registered(None, REGISTRATION, NOON)).posted(sent[:count], NOON)
        assert record.call
        record = replace(record, call=hung_up(record.call, "bot", NOON, not_found=False))
        return record.posted(sent[count:], NOON).settled().call

    one, other = hung_up_after(place), hung_up_after(0)
    assert one == other
    assert one
    assert one.termination is None or one.termination.reason == "Hung up through Call Keeper by bot."


@pytest.mark.parametrize("first", EVENTS[::3], ids=lambda item: str(item.get("resourceUrl"))[-20:])
def test_every_pair_of_events_agrees_in_both_orders(first: Item) -> None:
    for second in EVENTS:
        one = OnRecord().posted([first], NOON).posted([second], NOON + MINUTE)
        two = OnRecord().posted([second], NOON).posted([first, first], NOON + MINUTE)
        assert one.settled() == two.settled()


# The merge of two ends is a semilattice


def terminations(sent: Iterable[Item]) -> list[Termination]:
    found = [
        notified(None, note, TENANT, NOON).termination
        for item in sent
        for note in parse_notifications(body([item])).notifications
    ]
    return [termination for termination in found if termination]


found_gone = st.sampled_from(list(TerminationSource)[1:]).map(
    lambda source: Termination(source, explain(None, None).reason, "unknown")
)
any_end = st.one_of(ends.map(lambda item: terminations([item])[0]), found_gone)


@given(any_end, any_end, any_end)
def test_the_merge_of_ends_is_commutative_associative_and_idempotent(
    one: Termination, two: Termination, three: Termination
) -> None:
    assert better_termination(one, two) == better_termination(two, one)
    assert better_termination(better_termination(one, two), three) == better_termination(
        one, better_termination(two, three)
    )
    assert better_termination(one, one) == one
    assert better_termination(better_termination(one, two), two) == better_termination(one, two)


def _is_precise(end: Termination) -> bool:
    return explanation_rank(end.code, end.subcode, None) == 0


@given(any_end, any_end)
def test_a_merge_never_loses_what_is_in_the_catalogue(one: Termination, two: Termination) -> None:
    merged = better_termination(one, two)
    known = [end for end in (one, two) if _is_precise(end)]

    assume(known)
    assert (merged.code, merged.subcode) in {(end.code, end.subcode) for end in known}


@given(generated_operations, generated_operations, generated_operations)
@example(*({**RECORDED, "resourceData": {"status": "completed", "recordingLocation": place}} for place in "132"))
def test_the_merge_of_operations_agrees_in_any_order_and_grouping(one: Item, two: Item, three: Item) -> None:
    orders = permutations([one, two, three])
    records = [OnRecord().posted(order, NOON).settled() for order in orders]

    assert all(record == records[0] for record in records)


@given(st.none() | st.text(max_size=3), st.none() | st.text(max_size=3))
def test_of_two_words_the_same_one_stays_in_any_order(one: str | None, two: str | None) -> None:
    assert pick_stable(one, two) == pick_stable(two, one)
    assert pick_stable(one, two) in {one, two}
    assert (pick_stable(one, two) is None) == (one is None and two is None)


GONE: Item = {"changeType": "deleted", "resourceUrl": URL}


@given(ends, st.lists(items, max_size=6))
@example(GONE, [{**GONE, "changeType": "updated", "resourceData": {"state": "established"}}])
def test_once_ended_a_call_stays_ended_at_the_time_of_the_first_evidence(end: Item, later: list[Item]) -> None:
    record = OnRecord().posted([end], NOON).posted(later, NOON + MINUTE)

    assert record.call
    assert (record.call.status, record.call.state, record.call.ended_at) == (Status.ENDED, "terminated", NOON)


# Everything that can happen to a call, against a model of what must hold


class LifeOfACall(RuleBasedStateMachine):
    """All that the domain can do to a record, in any order. The model knows little, and that for certain."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.call: Call | None = None
        self.registered = False
        self.established = False
        self.ended_at: datetime | None = None
        self.notified_ends: list[Termination] = []
        self.notified_early = False  # a reason came while the call was terminating
        self.found_gone = False
        self.hung_up_by: str | None = None
        self.accepted_at: datetime | None = None
        self.seen: list[Item] = []

    @property
    def known(self) -> Call:
        assert self.call
        return self.call

    def end(self, at: datetime | None = None) -> None:
        self.ended_at = self.ended_at or at or self.now

    @initialize(item=items, register=st.booleans())
    def becomes_known(self, item: Item, register: bool) -> None:
        if register:
            self.register(None, {})
        else:
            self.notify([item])

    @rule(minutes=st.integers(1, 90))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule(batch=st.lists(items, min_size=1, max_size=3))
    def notify(self, batch: list[Item]) -> None:
        self.seen += batch
        for notification in parse_notifications(body(batch)).notifications:
            self.call = notified(self.call, notification, TENANT, self.now)
            if not isinstance(notification, CallNotification):
                continue
            self.established |= notification.state in ESTABLISHED
            alone = notified(None, notification, TENANT, self.now).termination
            if notification.deleted or notification.state == "terminated":
                self.end()
                assert alone
                self.notified_ends.append(alone)
            else:
                self.notified_early |= alone is not None

    @rule()
    def everything_is_told_again(self) -> None:
        before = OnRecord(self.call).settled()
        self.call = OnRecord(self.call).posted(self.seen, self.now).call
        assert OnRecord(self.call).settled() == before

    @rule(
        started=st.none() | st.integers(-60, 60),
        metadata=st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")),
    )
    def register(self, started: int | None, metadata: dict[str, str]) -> None:
        before = self.call
        started_at = None if started is None else self.now + started * MINUTE
        self.call = registered(before, Registration(CALL, TENANT.upper(), started_at, metadata), self.now)
        self.registered = True
        assert self.call.started_at <= self.now
        assert set(metadata) <= set(self.call.metadata)
        assert before is None or before.metadata.items() <= self.call.metadata.items()

    @rule()
    def another_tenant_registers(self) -> None:
        claim = Registration(CALL, OTHER_TENANT)
        if self.registered:
            with pytest.raises(Conflict):
                registered(self.call, claim, self.now)
        else:
            claimed = registered(self.call, claim, self.now)  # and forget it again
            assert (claimed.tenant_id, claimed.status) == (OTHER_TENANT, Status.ACTIVE)

    @rule(item=items)
    def another_tenant_notifies(self, item: Item) -> None:
        for notification in parse_notifications(body([item])).notifications:
            with pytest.raises(Forbidden):
                notified(self.call, notification, OTHER_TENANT, self.now)

    @rule()
    def keep_alive_succeeds(self) -> None:
        self.call = renewed(self.known, self.now)
        if self.ended_at is None:
            assert (self.call.failing, self.call.renewed_at) == (None, self.now)

    @rule()
    def keep_alive_fails(self) -> None:
        before = self.known
        attempts = before.failing.attempts + 1 if before.failing else 1
        failure = RenewalFailure(self.now, attempts, self.now + MINUTE, "unavailable", 503)
        self.call = renewal_failed(before, failure, before.renewed_at or before.started_at)
        if self.call.failing:
            assert self.call.failing.attempts == attempts
            assert self.call.failing.since == (before.failing.since if before.failing else self.now)

    @rule(source=st.sampled_from(list(TerminationSource)[1:]))
    def is_found_gone(self, source: TerminationSource) -> None:
        self.call = call_gone(self.known, source, self.now)
        self.found_gone = True
        self.end(self.accepted_at)

    @rule(by=st.sampled_from(["bot", "operator"]), not_found=st.booleans())
    def hang_up(self, by: str, not_found: bool) -> None:
        self.call = hung_up(self.known, by, self.now, not_found=not_found)
        if self.ended_at is None or not not_found:
            self.hung_up_by = by if self.accepted_at is None and not not_found else self.hung_up_by or by
        if not not_found:
            self.accepted_at = self.accepted_at or self.now
        assert self.call.state == ("terminating" if self.ended_at is None else "terminated")

    @invariant()
    def the_end_is_the_first_evidence_and_final(self) -> None:
        if self.call is None:
            return
        assert self.call.ended_at == self.ended_at
        assert (self.call.status is Status.ENDED) == (self.ended_at is not None)
        assert (self.call.state == "terminated") == (self.ended_at is not None)
        assert (self.call.termination is None) == (self.ended_at is None and not self.notified_early)
        assert self.ended_at is None or self.call.failing is None

    @invariant()
    def the_best_reason_told_is_the_one_on_record(self) -> None:
        if self.call is None or self.call.termination is None:
            return
        known = {(end.code, end.subcode) for end in self.notified_ends if _is_precise(end)}
        if known:
            assert (self.call.termination.code, self.call.termination.subcode) == min(
                known, key=lambda pair: (pair[0] is None, pair[0] or 0, pair[1])
            )
        if self.accepted_at is not None:
            assert self.call.termination.reason == f"Hung up through Call Keeper by {self.hung_up_by}."
        is_notified = bool(self.notified_ends) or self.notified_early
        assert (self.call.termination.source is TerminationSource.NOTIFICATION) == is_notified
        assert is_notified or self.found_gone

    @invariant()
    def what_was_once_true_stays_true(self) -> None:
        if self.call is None:
            return
        assert self.call.tenant_id == TENANT
        assert self.call.ever_established == self.established
        assert (self.call.registered_at is not None) == self.registered
        assert (self.call.hangup.requested_by if self.call.hangup else None) == self.hung_up_by
        if self.hung_up_by:
            assert self.call.state in {"terminating", "terminated"}
        elif self.established:
            assert self.call.state in ESTABLISHED | {"terminating", "terminated"}
        assert self.call.state != NO_STATE or not self.established


LifeOfACall.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLifeOfACall = LifeOfACall.TestCase
