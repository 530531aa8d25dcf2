"""Which of two accounts of one thing stands. Every choice is by a total order, so that any order of them agrees."""

from dataclasses import replace

from shared.calls import Operation, Source, Termination
from shared.explaining import certainty

NO_STATE = "unknown"  # of a call that was registered, and that Graph has told nothing of
ESTABLISHED = frozenset({"established", "hold", "transferring", "transferAccepted"})
_STATE_RANK = {"incoming": 1, "establishing": 2, "ringing": 3, "redirecting": 4} | dict.fromkeys(ESTABLISHED, 5)
_STATE_RANK |= {"terminating": 6, "terminated": 7}
FINISHED = 3
STATUS_RANK = {"notStarted": 1, "running": 2, "completed": FINISHED, "failed": FINISHED}
_EARLY, _NOTHING = 10, 20  # ranks of an end: what was told before it comes behind all that it told itself
_SOURCES = tuple(Source)  # the best first: Graph's word, then who found the call gone


def later(known: str, told: str) -> str:
    """The state of higher rank; among established and its kin the one just told."""
    return max(told, known, key=_standing)


def _standing(state: str) -> tuple[int, str]:
    if state == NO_STATE:
        return -1, ""
    rank = _STATE_RANK.get(state, 0)
    return rank, "" if rank else state


def settled(known: str | None, told: str | None) -> str | None:
    """Either word; of two that disagree the same one in any order."""
    return min((word for word in (known, told) if word is not None), default=None)


def richer(known: Termination, told: Termination) -> Termination:
    """The richer account of an end, with the better source and either `terminationReason` of both.

    Codes in the catalogue > explained by a DiagCode > generic ones > other numbers > text that is no number; then what
    was told on the way to the end, in the same order > nothing; then the lower codes.
    """
    source = min(known.source, told.source, key=_SOURCES.index)
    word = settled(known.termination_reason, told.termination_reason)
    return replace(min(known, told, key=_poverty), source=source, termination_reason=word)


def fuller(known: Operation, told: Operation) -> Operation:
    """The account of an operation that is further on, with the recording of whichever has one.

    Graph may tell the place while it still records (`streamWhileRecording`), and the end without it. Place and token
    stay together; they are chosen for themselves, as all orders would not agree otherwise.
    """
    recording = min(known, told, key=_wholeness)
    return replace(
        min(known, told, key=_progress),
        recording_location=recording.recording_location,
        recording_access_token=recording.recording_access_token,
    )


type _Key = tuple[tuple[bool, int, str], ...]


def _key(*values: str | int | None) -> _Key:
    """A total order in which the lower comes first, and what is missing last."""
    return tuple(
        (value is None, value if isinstance(value, int) else 0, value if isinstance(value, str) else "")
        for value in values
    )


def _poverty(end: Termination) -> _Key:
    """The order of two ends, the richer first.

    It looks at every field but the source and the `terminationReason`, which are merged for themselves: equal keys,
    equal ends.
    """
    if end.code is not None or end.subcode is not None:
        rank = certainty(end.code, end.subcode, end.message)
    else:
        rank = _NOTHING if end.raw_code is None and end.raw_subcode is None else 4
    if end.early and rank < _NOTHING:
        rank += _EARLY
    told = (end.raw_code, end.raw_subcode, end.message_truncated, end.message)
    meant = (end.reason, end.category, end.action, end.fault_owner, end.retryable)
    return _key(rank, end.code, end.subcode, *told, *meant, end.early)


def _progress(operation: Operation) -> _Key:
    """The order of two accounts of an operation, the later and fuller first."""
    rank = -STATUS_RANK.get(operation.status, 0)
    codes = (operation.code, operation.subcode, operation.raw_code, operation.raw_subcode)
    return _key(rank, operation.status, *codes, operation.completion_reason, operation.message)


def _wholeness(operation: Operation) -> _Key:
    """The order of two recordings: one that can be fetched first."""
    place, token = operation.recording_location, operation.recording_access_token
    return _key(place is None, token is None, place, token)
