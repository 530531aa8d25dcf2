"""The choice between two records of one thing, by a total order: the order of arrival does not matter."""

from dataclasses import replace

from shared.domain.calls import Operation, Termination, TerminationSource
from shared.domain.explanation import explanation_rank

NO_STATE = "unknown"  # a registered call that Graph has not reported yet
ESTABLISHED = frozenset({"established", "hold", "transferring", "transferAccepted"})
_STATE_RANKS = {"incoming": 1, "establishing": 2, "ringing": 3, "redirecting": 4} | dict.fromkeys(ESTABLISHED, 5)
_STATE_RANKS |= {"terminating": 6, "terminated": 7}
FINISHED_RANK = 3
STATUS_RANKS = {"notStarted": 1, "running": 2, "completed": FINISHED_RANK, "failed": FINISHED_RANK}
_EARLY_PENALTY, _NO_CODES_RANK = (
    10,
    20,
)  # ranks of an end: reasons given before the end come after those of the end itself
_SOURCES = tuple(TerminationSource)  # the best first: Graph's notification, then the request that met the 404


def max_state(known: str, new: str) -> str:
    """Return the state of higher rank; of two established states the new one."""
    return max(new, known, key=_state_rank)


def _state_rank(state: str) -> tuple[int, str]:
    if state == NO_STATE:
        return -1, ""
    rank = _STATE_RANKS.get(state, 0)
    return rank, "" if rank else state


def pick_stable(known: str | None, new: str | None) -> str | None:
    """Return the known or the new word. Of two different ones, return the same in either order."""
    return min((word for word in (known, new) if word is not None), default=None)


def better_termination(known: Termination, new: Termination) -> Termination:
    """Return the better explained of two ends, with the better source and the `terminationReason` of either.

    The order: codes in the catalogue, a DiagCode, generic codes, other numbers, text that is not a number; then reasons
    that were given before the end, in the same order; then no reason. Of equal ranks the lower codes win.
    """
    source = min(known.source, new.source, key=_SOURCES.index)
    termination_reason = pick_stable(known.termination_reason, new.termination_reason)
    return replace(min(known, new, key=_termination_key), source=source, termination_reason=termination_reason)


def merge_operation(known: Operation, new: Operation) -> Operation:
    """Return the later state of an operation, with the recording of either.

    Graph may report the location while it still records (`streamWhileRecording`), and the end without it. Location and
    token stay together. They are chosen separately from the rest, so that every order of arrival gives the same result.
    """
    recording = min(known, new, key=_recording_key)
    return replace(
        min(known, new, key=_operation_key),
        recording_location=recording.recording_location,
        recording_access_token=recording.recording_access_token,
    )


type _SortKey = tuple[tuple[bool, int, str], ...]


def _sort_key(*values: str | int | None) -> _SortKey:
    """Return a key of a total order: lower values first, missing ones last."""
    return tuple(
        (value is None, value if isinstance(value, int) else 0, value if isinstance(value, str) else "")
        for value in values
    )


def _termination_key(termination: Termination) -> _SortKey:
    """Return the key that sorts the better explained end first.

    It has every field but the source and the `terminationReason`, which are merged separately. So equal keys mean equal
    ends.
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
    """Return the key that sorts the later and more complete state of an operation first."""
    rank = -STATUS_RANKS.get(operation.status, 0)
    codes = (operation.code, operation.subcode, operation.raw_code, operation.raw_subcode)
    return _sort_key(rank, operation.status, *codes, operation.completion_reason, operation.message)


def _recording_key(operation: Operation) -> _SortKey:
    """Return the key that sorts a recording that can be fetched first."""
    location, token = operation.recording_location, operation.recording_access_token
    return _sort_key(location is None, token is None, location, token)
