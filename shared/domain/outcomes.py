"""The outcome of an operation as callers see it: Graph's status, or `lost`, and the explanation of a failure."""

from shared.domain.calls import Call, Operation
from shared.domain.explanation import LOST_OPERATION, Explanation, Facts, explain_operation

LOST = "lost"


def status_of(operation: Operation, call: Call) -> str:
    """Return Graph's status of an operation, or `lost`: its call ended before Graph reported a result."""
    return LOST if call.ended_at is not None and not operation.is_finished else operation.status


def explanation_of(operation: Operation, status: str) -> Explanation | None:
    """Return the reason of an operation with this status (`status_of`), or None if it did not fail."""
    match status:
        case "lost":
            return LOST_OPERATION
        case "failed":
            facts = Facts(operation.code, operation.subcode, message=operation.message)
            return explain_operation(facts, operation.completion_reason)
        case _:
            return None
