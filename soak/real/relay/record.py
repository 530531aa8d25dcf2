"""The record of what Graph sent and what the bot received, and the violations that their comparison shows."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, pairwise

from soak.real.relay.validator import Proof, Verdict

MIN_BEARER_LIFE = timedelta(seconds=30)  # that Graph's token has left when it is sent on


@dataclass(slots=True, eq=False)
class Sent:
    """A notification, with the number of times that Graph sent it. Graph repeats it until it is acknowledged."""

    call_id: str
    number: int
    digest: str
    tenant: str
    form: str
    bearer: str = field(repr=False)
    sends: int = 0
    is_under_way: bool = False  # a request with it is open
    is_acknowledged: bool = False


@dataclass(slots=True, eq=False)
class Arrival:
    """A request that the bot received. `arrived` and `accepted` are places in the order of all that happened to it."""

    delivery_id: str
    digest: str
    verdict: Verdict
    arrived: int
    accepted: int | None = None  # None: it was not answered with 2xx


@dataclass
class Record:
    """All notifications and all arrivals of a run."""

    sent: dict[str, Sent] = field(default_factory=dict)  # by the SHA-256 of the body
    arrivals: list[Arrival] = field(default_factory=list)
    own_tokens: set[str] = field(default_factory=set, repr=False)
    unexpected: list[str] = field(default_factory=list)  # answers of the webhook that nothing explains
    tick: Callable[[], int] = field(default_factory=lambda: count().__next__)

    @property
    def accepted(self) -> set[str]:
        """The digests of the bodies that the bot has accepted."""
        return {arrival.digest for arrival in self.arrivals if arrival.accepted is not None}

    def is_under_way(self) -> bool:
        """True if a request with a notification is open that the bot has not accepted yet."""
        accepted = self.accepted
        return any(sent.is_under_way for digest, sent in self.sent.items() if digest not in accepted)

    def missing(self) -> list[Sent]:
        """Return the acknowledged notifications that the bot has not accepted."""
        accepted = self.accepted
        return [sent for digest, sent in self.sent.items() if sent.is_acknowledged and digest not in accepted]

    def violations(self, budget: timedelta) -> list[str]:
        """Return a line for each violation. `budget` is the time of a first attempt."""
        return [
            *self.unexpected,
            *(f"lost: {_name(sent)} was acknowledged, and the bot did not accept it" for sent in self.missing()),
            *self._wrong_requests(budget),
            *self._wrong_ids(),
            *self._wrong_order(),
        ]

    def _wrong_requests(self, budget: timedelta) -> Iterator[str]:
        for arrival in self.arrivals:
            sent, verdict = self.sent.get(arrival.digest), arrival.verdict
            if sent is None:
                yield f"changed: {arrival.delivery_id} has a body that Graph did not send"
            elif verdict.fault:
                yield f"refused: {_name(sent)} came with a token that the bot refuses: {verdict.fault}"
            elif verdict.proof is Proof.GRAPH and verdict.left < MIN_BEARER_LIFE - budget:
                yield f"late bearer: {_name(sent)} came with Graph's token {verdict.left} before its end"

    def _wrong_ids(self) -> Iterator[str]:
        digests, ids = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for arrival in self.arrivals:
            digests[arrival.delivery_id].add(arrival.digest)
            ids[arrival.digest].add(arrival.delivery_id)
        for delivery_id, found in digests.items():
            if len(found) > 1 or not delivery_id:
                yield f"id: {delivery_id!r} came with {len(found)} bodies"
        for digest, found in ids.items():
            sent = self.sent.get(digest)
            if sent and len(found) > sent.sends:
                yield f"id: {_name(sent)} was sent {sent.sends} times, and came with {len(found)} ids"

    def _wrong_order(self) -> Iterator[str]:
        """Yield the notifications that came first before the one before was accepted."""
        first: dict[str, int] = {}
        accepted: dict[str, int] = {}
        for arrival in self.arrivals:
            first.setdefault(arrival.digest, arrival.arrived)
        for arrival in self.arrivals:
            if arrival.accepted is not None:
                accepted[arrival.digest] = min(arrival.accepted, accepted.get(arrival.digest, arrival.accepted))
        for calls in self._by_call().values():
            for before, after in pairwise(calls):
                if after.digest in first and first[after.digest] < accepted.get(before.digest, first[after.digest] + 1):
                    yield f"order: {_name(after)} came before {_name(before)} was accepted"

    def _by_call(self) -> dict[str, Sequence[Sent]]:
        found = defaultdict[str, list[Sent]](list)
        for sent in self.sent.values():
            found[sent.call_id].append(sent)
        return {call_id: sorted(each, key=lambda sent: sent.number) for call_id, each in found.items()}


def _name(sent: Sent) -> str:
    return f"notification {sent.number} ({sent.form}) of call {sent.call_id}"
