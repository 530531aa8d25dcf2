"""The relay's checker: holds deliveries to the promises of docs/reliability.md, at each write and each request."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.domain.calls import Call, Status, Termination
from shared.domain.deliveries import (
    MAX_KEPT_ATTEMPTS,
    NOTIFICATION_TYPE,
    Delivery,
    DeliveryStatus,
    DestinationState,
    LaneKey,
)
from shared.relay import attempts, breaker
from shared.relay.exchange import MIN_BEARER_LIFE, BotResponse
from shared.relay.judgement import SLOW_DOWN
from shared.relay.lanes import CLAIM
from shared.storage.delivery_codec import is_barrier, to_delivery, to_destination_state
from shared.storage.row_codec import to_call
from shared.storage.rows import WATERMARK_ROW
from shared.storage.table import Create, Delete, Write
from soak.checker import Findings
from soak.fault_schedule import APP_ID, FaultSchedule
from soak.graph_posts import Post, is_bearer_of_graph, request_id
from soak.intervals import HOUR, MINUTE, Intervals, extended, union
from soak.process import START
from soak.relay_faults import RelayProfile
from soak.virtual_bots import TARGETS, Sending, own_token

CACHE_TTL = 30.0  # seconds for which a process may not know the state of a destination
CLAIMED_BEFORE = 5.0  # seconds before an attempt is sent, if the tables answer: then its lane was claimed
DRAIN_TIME = 2 * MINUTE  # for which a worker goes on with a lane on what it knew at first
LATEST = 40 * MINUTE  # after the last fault: the longest wait between two attempts, twice, and the work itself
MAX_TWICE = 0.01  # of the deliveries of a run without faults, the share that may arrive twice
# Seconds: a probe ends before its claim does, if clocks differ by less than the difference.
PROBE_TIMEOUT, LATE_TIMEOUT = breaker.PROBE_TIMEOUT.total_seconds(), attempts.LATE_TIMEOUT.total_seconds()
MIN_REFUSALS, MAX_REFUSALS = 3, 5  # attempts of a delivery that the bot refuses
_GONE = 410


@dataclass(slots=True, eq=False)
class Tracked:
    """A delivery: its row, and what became of it in truth. Times in seconds since the start of the run."""

    number: int
    row: Delivery
    created: float
    serials: frozenset[int]
    post: Post | None  # None: an event
    digest: bytes | None  # of its body; None: it is not stored
    arrivals: int = 0
    refusals: int = 0
    accepted: float | None = None
    opened: float = 0.0  # when it became pending, for the last time

    @property
    def sent(self) -> float:
        """When Graph sent it; for an event, when its change was stored."""
        return self.post.sent if self.post else self.created

    @property
    def acknowledged(self) -> float | None:
        """When Graph got its 202; for an event, when its change was stored. None: never."""
        return self.post.acknowledged if self.post else self.created

    @property
    def is_waited_for(self) -> bool:
        """True if later deliveries of its lanes must wait for it."""
        return self.accepted is None and self.row.status is DeliveryStatus.PENDING and not self.row.wants_answer

    def precedes(self, later: "Tracked") -> bool:
        """True if it was acknowledged before Graph sent the other one. Of two events, the sequence decides."""
        if self.post is None and later.post is None:
            return self.row.sequence < later.row.sequence
        return self.acknowledged is not None and self.acknowledged < later.sent


@dataclass(slots=True)
class _Expected:
    """An event that must be published, once to each target."""

    call_id: str
    type: str
    since: float
    targets: set[str]


@dataclass
class RelayChecker:
    """Sees each row of the relay as it is written, each request to a bot, and each request of Graph.

    Parameters
    ----------
    findings
        Gets the violations and counts.
    schedule
        The faults of the run.
    now
        Returns the seconds since the start of the run.
    trace
        Adds a line to the trace of the run.
    """

    findings: Findings
    schedule: FaultSchedule
    now: Callable[[], float]
    trace: Callable[..., None]
    _deliveries: dict[str, Tracked] = field(default_factory=dict)
    _by_row: dict[str, Tracked] = field(default_factory=dict)
    _by_post: dict[int, list[Tracked]] = field(default_factory=lambda: defaultdict(list))
    _waiting: dict[LaneKey, dict[Tracked, None]] = field(default_factory=lambda: defaultdict(dict))
    _posts: dict[str, Post] = field(default_factory=dict)
    _calls: dict[str, Call] = field(default_factory=dict)
    _expected: list[_Expected] = field(default_factory=list)
    _published: dict[tuple[str, str, str], int] = field(default_factory=Counter)
    _revisions: dict[tuple[str, str], int] = field(default_factory=Counter)
    _destinations: dict[str, tuple[DestinationState, float]] = field(default_factory=dict)
    _blocked_since: dict[tuple[str, str], float] = field(default_factory=dict)
    _under_way: dict[Sending, None] = field(default_factory=dict)

    # Graph

    def on_post(self, post: Post) -> None:
        """Record that Graph sends a request."""
        self._posts[request_id(post.number)] = post

    def on_acknowledged(self, post: Post, response: BotResponse) -> None:
        """Check that all of an acknowledged request is in the outbox."""
        post.acknowledged = self.now()
        self.findings.counts["posts acknowledged"] += 1
        self.findings.counts["answers of bots"] += response.status is not None
        stored = frozenset[int]().union(*(each.serials for each in self._by_post[post.number]))
        if stored != post.serials:
            self._add_violation(
                f"acknowledged, and not in the outbox: {sorted(post.serials - stored)}",
                f"post {post.number} {post.calls}",
            )

    # Rows

    def on_write(self, writes: Sequence[Write]) -> None:
        """Check a transaction that has taken effect."""
        self._forget_purged(writes)
        for write in writes:
            kind = write.key.partition("|")[0]
            if kind == "delivery":
                self._on_delivery(write)
            elif kind == "destination":
                self._on_destination(write)
            elif kind in {"active", "ended"} and write.key != WATERMARK_ROW and not isinstance(write, Delete):
                self._on_call(to_call({**write.cells, "RowKey": write.key}))

    def _forget_purged(self, writes: Sequence[Write]) -> None:
        """Forget a call whose row is deleted and not written: if it is reported again, its events begin anew."""
        keys = [write.key.partition("|")[::2] for write in writes if isinstance(write, Delete)]
        written = {write.key.partition("|")[2] for write in writes if not isinstance(write, Delete)}
        for kind, call_id in keys:
            if kind in {"active", "ended"} and call_id not in written:
                self._calls.pop(call_id, None)
                for target in TARGETS.all:
                    self._revisions.pop((call_id, target.name), None)

    def _on_delivery(self, write: Write) -> None:
        known = self._by_row.get(write.key)
        if isinstance(write, Delete):
            if known and known.row.status is DeliveryStatus.PENDING:
                self._add_violation("deleted while it was pending", self._name(known))
            return
        if is_barrier(write.cells):
            return
        row = to_delivery({**write.cells, "RowKey": write.key})
        if is_bearer_of_graph(str(dict(row.headers))) or "own/" in str(dict(row.headers)):
            self._add_violation("a token is stored", row.call_id)
        if known is None:
            self._track(write, row)
        else:
            self._update(known, row)

    def _track(self, write: Write, row: Delivery) -> None:
        if not isinstance(write, Create):
            self._add_violation("a delivery is written that was not created", row.call_id)
        post = self._posts.get(row.headers.get("Client-Request-Id", "")) if row.type == NOTIFICATION_TYPE else None
        serials = frozenset[int]()
        if row.wants_answer and post:
            items = json.loads(post.body)["value"]
            serials = frozenset(
                item["serial"] for item in items if "Joining" in str(item) and row.call_id in item["resourceUrl"]
            )
        elif post and row.body:
            serials = frozenset(item["serial"] for item in json.loads(row.body)["value"])
        digest = None if row.body is None else hashlib.sha256(row.body).digest()
        tracked = Tracked(len(self._deliveries) + 1, row, self.now(), serials, post, digest, opened=self.now())
        self._deliveries[row.id] = self._by_row[write.key] = tracked
        if post:
            self._by_post[post.number].append(tracked)
        else:
            self._on_event(tracked)
        if row.status is DeliveryStatus.PENDING:
            self._wait(tracked)
        elif not row.wants_answer:
            self._check_status(tracked)
        self.findings.counts["deliveries"] += 1
        self.trace("outbox", "stores", self._name(tracked), row.status)

    def _update(self, tracked: Tracked, row: Delivery) -> None:
        before, tracked.row = tracked.row, row
        if before.status is row.status:
            return
        self.trace("outbox", "notes", self._name(tracked), row.status)
        self.findings.counts[f"deliveries {row.status}"] += 1
        if row.status is DeliveryStatus.PENDING:
            tracked.opened = self.now()
            self._wait(tracked)
            return
        for lane in self._lanes(tracked):
            self._waiting[lane].pop(tracked, None)
        self._check_status(tracked)

    def _check_status(self, tracked: Tracked) -> None:
        """Check the reason why a delivery is pending no more."""
        row, name = tracked.row, self._name(tracked)
        if row.status is DeliveryStatus.DELIVERED and tracked.accepted is None and not row.wants_answer:
            self._add_violation("delivered on record, and no bot took it", name)
        if row.status is DeliveryStatus.DISABLED and not self._was_gone(row):
            self._add_violation("disabled, and the bot did not answer 410", name)
        if row.status is DeliveryStatus.DEAD and not row.wants_answer:
            self._check_death(tracked)

    def _check_death(self, tracked: Tracked) -> None:
        row, name = tracked.row, self._name(tracked)
        last = row.attempts[-1] if row.attempts else None
        error = last.error if last else "none"
        self.findings.counts[f"dead: {error or 'refused'}"] += 1
        if error is None:
            refused = [each for each in row.attempts if each.status and 300 <= each.status < 500]
            refused = [each for each in refused if each.status not in {*SLOW_DOWN, _GONE}]
            # An attempt whose clock is behind that of the receipt does not count, so there may be more.
            most = MAX_REFUSALS if self._skew < MINUTE / 2 else MAX_KEPT_ATTEMPTS
            if not (MIN_REFUSALS <= len(refused) <= most and len(refused) <= tracked.refusals):
                self._add_violation(f"given up after {len(refused)} refusals", name)
        elif error == "expired":
            if self.now() - _seconds(row.retry_since) < 24 * HOUR - 2 * self._skew:
                self._add_violation("given up before its time", name)
        elif error != "noTo" or row.destination.to is not None:
            self._add_violation(f"given up without a reason: {error}", name)

    def _on_destination(self, write: Write) -> None:
        name = write.key.removeprefix("destination|").rstrip("|").replace("|", "/")
        if isinstance(write, Delete):
            self._destinations.pop(name, None)
            self.trace("outbox", "clears", name)
            for obstacle in ("gone", "open"):
                self._blocked_since.pop((name, obstacle), None)
            return
        state = to_destination_state({**write.cells, "RowKey": write.key})
        self._destinations[name] = state, self.now()
        self.trace("outbox", "marks", name, state.disabled_at, state.rests_until, state.opens_at)
        for obstacle, since in (("gone", state.disabled_at), ("open", state.opens_at)):
            if since is None:
                self._blocked_since.pop((name, obstacle), None)
            elif (name, obstacle) not in self._blocked_since:
                self._blocked_since[name, obstacle] = self.now()
                self.findings.counts[f"destinations {obstacle}"] += 1

    # Events

    def _on_call(self, after: Call) -> None:
        before = self._calls.get(after.id)
        self._calls[after.id] = after
        if after.ever_established and not (before and before.ever_established):
            self._expect(after, "call.established")
        if _is_at_risk(after) and not (before and _is_at_risk(before)):
            self._expect(after, "call.at_risk")
        if after.status is Status.ENDED and after.termination and _end(before) != _end(after):
            self._expect(after, "call.ended")

    def _expect(self, call: Call, event_type: str) -> None:
        targets = {target.name for target in TARGETS.events_targets(APP_ID, event_type)}
        self._expected.append(_Expected(call.id, event_type, self.now(), targets))

    def _on_event(self, tracked: Tracked) -> None:
        row, body = tracked.row, json.loads(tracked.row.body or b"{}")
        if row.type == NOTIFICATION_TYPE or body.get("id") != row.id or body["data"]["callId"] != row.call_id:
            self._add_violation("an event without its id or its call", self._name(tracked))
            return
        target = row.destination.target
        self._published[row.call_id, row.type, target] += 1
        if row.type == "call.ended":
            self._revisions[row.call_id, target] += 1
            if body["data"]["revision"] != self._revisions[row.call_id, target]:
                self._add_violation(f"revision {body['data']['revision']} is not the next one", self._name(tracked))

    def _check_events(self) -> None:
        wanted: Counter[tuple[str, str, str]] = Counter(
            (each.call_id, each.type, target) for each in self._expected for target in each.targets
        )
        for key, count in wanted.items():
            if self._published[key] != count:
                self._add_violation(f"published {self._published[key]} times, not {count}", " ".join(key))
        self.findings.counts["events"] += sum(wanted.values())

    # Requests to bots

    def on_send(self, sending: Sending) -> None:
        """Check a request that a process sends: its token, and whether its destination may be asked."""
        self._under_way[sending] = None
        self.findings.counts["attempts"] += 1
        tracked = self._deliveries.get(sending.headers.get("webhook-id", ""))
        if tracked is None:
            self._add_violation("a request without a delivery", sending.destination)
            return
        self._check_token(tracked, sending)
        self._check_claim(tracked, sending)
        if self._is_blocked_for_long(sending.destination, "gone") and not tracked.row.is_replay:
            self._add_violation("asked although it is switched off", f"{sending.destination} {self._name(tracked)}")
        if self._is_blocked_for_long(sending.destination, "open"):
            self.findings.counts["probes"] += 1
            others = [each for each in self._under_way if each.destination == sending.destination]
            if sum(each.process.alive for each in others) > 1 and 2 * self._skew < PROBE_TIMEOUT - LATE_TIMEOUT:
                self._add_violation("two probes at a time", sending.destination)

    def _check_token(self, tracked: Tracked, sending: Sending) -> None:
        row, authorization = tracked.row, sending.headers.get("Authorization", "")
        target = TARGETS.get(row.destination.target)
        if is_bearer_of_graph(authorization):
            post = tracked.post
            if post is None or authorization != post.bearer:
                self._add_violation("carries the bearer of another request", self._name(tracked))
            elif post.expires - self.now() < MIN_BEARER_LIFE.total_seconds() - self._skew:
                left = post.expires - self.now()
                self._add_violation(f"carries a bearer that lives for {left:.0f} s", self._name(tracked))
            elif post.acknowledged is not None:
                self._add_violation("carries Graph's bearer after the answer to Graph", self._name(tracked))
            self.findings.counts["passed through"] += 1
        elif authorization != f"Bearer {own_token(row.tenant_id, APP_ID, target.audience if target else None)}":
            self._add_violation("carries no token of ours for its target", self._name(tracked))

    def _check_claim(self, tracked: Tracked, sending: Sending) -> None:
        """Check that no other living process has an attempt of the same lane under way whose claim must still hold."""
        if tracked.row.wants_answer:
            return
        for other in self._under_way:
            theirs = self._deliveries.get(other.headers["webhook-id"])
            if other is sending or theirs is None or theirs.row.wants_answer or not other.process.alive:
                continue
            age = self.now() - other.sent
            must_hold = age < CLAIM.total_seconds() - CLAIMED_BEFORE - 2 * self._skew
            if theirs.row.lane == tracked.row.lane and must_hold and self._tables_answered(other.sent - CLAIMED_BEFORE):
                self._add_violation(f"two processes attempt {self._name(theirs)}", self._name(tracked))

    def on_sent(self, sending: Sending) -> None:
        """Record that the sender waits no more."""
        self._under_way.pop(sending, None)

    def is_first_arrival(self, sending: Sending) -> bool:
        """True if no attempt of the delivery arrived before."""
        tracked = self._deliveries.get(sending.headers.get("webhook-id", ""))
        return tracked is not None and tracked.arrivals == 0

    def on_arrival(self, sending: Sending, status: int | None) -> None:
        """Check a request that arrives at a bot."""
        tracked = self._deliveries.get(sending.headers.get("webhook-id", ""))
        if tracked is None:
            return
        self.trace(sending.destination, "receives", self._name(tracked), status)
        self._check_content(tracked, sending)
        for each in self._contained(tracked, sending):
            self._arrive(each, status)

    def _contained(self, tracked: Tracked, sending: Sending) -> list[Tracked]:
        """Return the deliveries that a request brings: more than one if it asks a question for several."""
        if not tracked.row.wants_answer or tracked.post is None or sending.body != tracked.post.body:
            return [tracked]
        return self._by_post[tracked.post.number]

    def _check_content(self, tracked: Tracked, sending: Sending) -> None:
        row, post = tracked.row, tracked.post
        expected = _name_of(row)
        if sending.destination != expected:
            self._add_violation(f"arrives at {sending.destination}", self._name(tracked))
        if tracked.digest not in {None, hashlib.sha256(sending.body).digest()}:
            self._add_violation("arrives with other bytes", self._name(tracked))
        if post and tracked.serials == post.serials and sending.body != post.body:
            self._add_violation("arrives with other bytes than Graph's", self._name(tracked))
        if post and sending.headers.get("Client-Request-Id") != request_id(post.number):
            self._add_violation("arrives without Graph's headers", self._name(tracked))

    def _arrive(self, tracked: Tracked, status: int | None) -> None:
        self.findings.counts["arrivals"] += 1
        tracked.arrivals += 1
        self._check_order(tracked)
        if tracked.row.wants_answer and tracked.arrivals > 1:
            self._add_violation("a question is asked again", self._name(tracked))
        if status is not None and (200 <= status < 300):
            self._accept(tracked)
        elif status is not None and 300 <= status < 500 and status not in {*SLOW_DOWN, _GONE}:
            tracked.refusals += 1

    def _accept(self, tracked: Tracked) -> None:
        if tracked.accepted is None:
            tracked.accepted = self.now()
            destination = _name_of(tracked.row)
            if tracked.row.status is DeliveryStatus.PENDING:
                self.findings.latencies.append((destination, tracked.accepted - tracked.sent))
        for lane in self._lanes(tracked):
            self._waiting[lane].pop(tracked, None)

    def _check_order(self, tracked: Tracked) -> None:
        if tracked.row.wants_answer:
            return
        for lane in self._lanes(tracked):
            for earlier in self._waiting[lane]:
                if earlier is not tracked and earlier.is_waited_for and earlier.precedes(tracked):
                    self._add_violation(f"arrives before {self._name(earlier)}", self._name(tracked))

    # The end of a run

    def check_final_state(self) -> None:
        """Check, an hour after the last fault, that nothing is held back."""
        self._check_events()
        for tracked in self._deliveries.values():
            row = tracked.row
            is_late = row.status is DeliveryStatus.PENDING and self.now() - tracked.opened > LATEST
            if is_late and not self._is_dead(row):
                self._add_violation("still pending", self._name(tracked))
            if row.status is DeliveryStatus.DISABLED and not self._is_blocked(row, "gone"):
                self._add_violation("disabled, although its destination is enabled", self._name(tracked))
        twice = sum(each.arrivals > 1 for each in self._deliveries.values())
        self.findings.counts["arrived twice"] += twice
        if self.schedule.count_faults() == 0 and twice > MAX_TWICE * len(self._deliveries):
            self._add_violation("too many arrive twice", f"{twice} of {len(self._deliveries)}")

    # Facts

    @property
    def _profile(self) -> RelayProfile:
        assert self.schedule.relay is not None  # noqa: S101 - this checker exists only with the relay
        return self.schedule.relay.profile

    @property
    def _skew(self) -> float:
        return self.schedule.profile.max_clock_offset

    def _is_dead(self, row: Delivery) -> bool:
        destination = _name_of(row)
        return any(name == destination for name, _ in self._profile.dead)

    def _was_gone(self, row: Delivery) -> bool:
        """True if the destination has answered 410 lately. Processes may learn late that it is enabled."""
        assert self.schedule.relay is not None  # noqa: S101 - as above
        destination = _name_of(row)
        spans = self.schedule.relay.destinations.get(destination, Intervals())
        return any(each.mode == "gone" and each.start <= self.now() for each in spans)

    def _is_blocked(self, row: Delivery, obstacle: str) -> bool:
        return (_name_of(row), obstacle) in self._blocked_since

    def _is_blocked_for_long(self, destination: str, obstacle: str) -> bool:
        """True if each process must know it by now: it could read the tables for long enough."""
        since = self._blocked_since.get((destination, obstacle))
        if since is None:
            return False
        wait = CACHE_TTL + DRAIN_TIME + 2 * self._skew
        return self.now() - since > wait and self._tables_answered(self.now() - wait)

    def _tables_answered(self, since: float) -> bool:
        bad = union(extended(self.schedule.storage, after=15.0))
        return not any(each.start < self.now() and each.end > since for each in bad)

    def _wait(self, tracked: Tracked) -> None:
        if tracked.row.wants_answer:
            return
        for lane in self._lanes(tracked):
            self._waiting[lane][tracked] = None

    @staticmethod
    def _lanes(tracked: Tracked) -> tuple[LaneKey, ...]:
        return tuple(LaneKey(call_id, tracked.row.destination) for call_id in tracked.row.call_ids)

    @staticmethod
    def _name(tracked: Tracked) -> str:
        return f"{tracked.row.call_id} delivery {tracked.number} ({tracked.row.type})"

    def _add_violation(self, what: str, subject: str) -> None:
        at = START + timedelta(seconds=self.now())
        self.findings.violations.append(f"{at:%d %H:%M:%S} {subject}: {what}")
        self.trace("CHECKER", "violation", subject, what)


def _name_of(row: Delivery) -> str:
    """Return the name of the destination of a delivery."""
    return "/".join(part for part in row.destination if part)


def _is_at_risk(call: Call) -> bool:
    return call.failing is not None and call.failing.at_risk


def _end(call: Call | None) -> Termination | None:
    """Return the end of a call, as far as a receiver sees it."""
    if call is None or call.ended_at is None or call.termination is None:
        return None
    return replace(call.termination, message=None, message_truncated=False, early=False)


def _seconds(moment: datetime) -> float:
    return (moment - START).total_seconds()
