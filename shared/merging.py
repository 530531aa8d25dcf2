"""Which of two accounts of one thing stands. Every choice is by a total order, so that any order of them agrees."""

from dataclasses import replace

from shared.calls import Operation, Source, Termination
from shared.termination import NOT_TOLD, UNKNOWN, catalogue

NO_STATE = "unknown"  # of a call that was registered, and that Graph has told nothing of
ESTABLISHED = frozenset({"established", "hold", "transferring", "transferAccepted"})
_STATE_RANK = {"incoming": 1, "establishing": 2, "ringing": 3, "redirecting": 4} | dict.fromkeys(ESTABLISHED, 5)
_STATE_RANK |= {"terminating": 6, "terminated": 7}
FINISHED = 3
STATUS_RANK = {"notStarted": 1, "running": 2, "completed": FINISHED, "failed": FINISHED}
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
    """The richer account of an end, and the better source of both.

    In the catalogue > other numbers > text that is no number, or a `terminationReason` > nothing; then the lower codes.
    What the end itself told goes before what was told on the way to it, unless it told nothing.
    """
    source = min(known.source, told.source, key=_SOURCES.index)
    return replace(min(known, told, key=_poverty), source=source)


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
    """The order of two ends, the richer first. It looks at every field but the source: equal keys, equal ends."""
    if catalogue().is_known(end.code, end.subcode):
        rank = 0
    elif end.code is not None or end.subcode is not None:
        rank = 1
    else:
        rank = 6 if end.raw_code is None and end.raw_subcode is None and end.reason == NOT_TOLD else 2
    rank += 3 if end.early else 0
    remaining = (end.category == UNKNOWN, end.raw_code, end.raw_subcode, end.message_truncated, end.message)
    return _key(rank, end.code, end.subcode, *remaining, end.reason, end.category)


def _progress(operation: Operation) -> _Key:
    """The order of two accounts of an operation, the later and fuller first."""
    rank = -STATUS_RANK.get(operation.status, 0)
    codes = (operation.code, operation.subcode, operation.raw_code, operation.raw_subcode)
    return _key(rank, operation.status, *codes, operation.completion_reason, operation.message)


def _wholeness(operation: Operation) -> _Key:
    """The order of two recordings: one that can be fetched first."""
    place, token = operation.recording_location, operation.recording_access_token
    return _key(place is None, token is None, place, token)
