"""Which of two accounts of one thing stands. Every choice is by a total order, so that any order of them agrees."""

from dataclasses import replace

from shared.domain.calls import Operation, Termination, TerminationSource
from shared.domain.explanation import explanation_rank

NO_STATE = "unknown"  # of a call that was registered, and that Graph has told nothing of
ESTABLISHED = frozenset({"established", "hold", "transferring", "transferAccepted"})
_STATE_RANKS = {"incoming": 1, "establishing": 2, "ringing": 3, "redirecting": 4} | dict.fromkeys(ESTABLISHED, 5)
_STATE_RANKS |= {"terminating": 6, "terminated": 7}
FINISHED_RANK = 3
STATUS_RANKS = {"notStarted": 1, "running": 2, "completed": FINISHED_RANK, "failed": FINISHED_RANK}
_EARLY_PENALTY, _NO_CODES_RANK = 10, 20  # ranks of an end: what was told before it comes behind all that it told itself
_SOURCES = tuple(TerminationSource)  # the best first: Graph's word, then who found the call gone


def max_state(known: str, new: str) -> str:
    """The state of higher rank; among established and its kin the one just told."""
    return max(new, known, key=_state_rank)


def _state_rank(state: str) -> tuple[int, str]:
    if state == NO_STATE:
        return -1, ""
    rank = _STATE_RANKS.get(state, 0)
    return rank, "" if rank else state


def pick_stable(known: str | None, new: str | None) -> str | None:
    """Either word; of two that disagree the same one in any order."""
    return min((word for word in (known, new) if word is not None), default=None)


def better_termination(known: Termination, new: Termination) -> Termination:
    """The richer account of an end, with the better source and either `terminationReason` of both.

    Codes in the catalogue > explained by a DiagCode > generic ones > other numbers > text that is no number; then what
    was told on the way to the end, in the same order > nothing; then the lower codes.
    """
    source = min(known.source, new.source, key=_SOURCES.index)
    termination_reason = pick_stable(known.termination_reason, new.termination_reason)
    return replace(min(known, new, key=_termination_key), source=source, termination_reason=termination_reason)


def merge_operation(known: Operation, new: Operation) -> Operation:
    """The account of an operation that is further on, with the recording of whichever has one.

    Graph may tell the place while it still records (`streamWhileRecording`), and the end without it. Place and token
    stay together; they are chosen for themselves, as all orders would not agree otherwise.
    """
    recording = min(known, new, key=_recording_key)
    return replace(
        min(known, new, key=_operation_key),
        recording_location=recording.recording_location,
        recording_access_token=recording.recording_access_token,
    )


type _SortKey = tuple[tuple[bool, int, str], ...]


def _sort_key(*values: str | int | None) -> _SortKey:
    """A total order in which the lower comes first, and what is missing last."""
    return tuple(
        (value is None, value if isinstance(value, int) else 0, value if isinstance(value, str) else "")
        for value in values
    )


def _termination_key(termination: Termination) -> _SortKey:
    """The order of two ends, the richer first.

    It looks at every field but the source and the `terminationReason`, which are merged for themselves: equal keys,
    equal ends.
    """
    if termination.code is not None or termination.subcode is not None:
        rank = explanation_rank(termination.code, termination.subcode, termination.message)
    else:
        rank = _NO_CODES_RANK if termination.raw_code is None and termination.raw_subcode is None else 4
    if termination.early and rank < _NO_CODES_RANK:
        rank += _EARLY_PENALTY
    raw = (termination.raw_code, termination.raw_subcode, termination.message_truncated, termination.message)
    explained = (
        termination.reason,
        termination.category,
        termination.action,
        termination.fault_owner,
        termination.retryable,
    )
    return _sort_key(rank, termination.code, termination.subcode, *raw, *explained, termination.early)


def _operation_key(operation: Operation) -> _SortKey:
    """The order of two accounts of an operation, the later and fuller first."""
    rank = -STATUS_RANKS.get(operation.status, 0)
    codes = (operation.code, operation.subcode, operation.raw_code, operation.raw_subcode)
    return _sort_key(rank, operation.status, *codes, operation.completion_reason, operation.message)


def _recording_key(operation: Operation) -> _SortKey:
    """The order of two recordings: one that can be fetched first."""
    location, token = operation.recording_location, operation.recording_access_token
    return _sort_key(location is None, token is None, location, token)
