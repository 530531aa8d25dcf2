"""What can go wrong, as the domain means it; HTTP learns of it in one place, `functions/problems.py`.

CallKeeperError
├── InvalidRequest         the caller's words are off: says which, and what to send instead
│   ├── PayloadTooLarge
│   └── UnsupportedBody    compressed, or no JSON by its own word
├── Unauthenticated        no token, or one that does not verify
├── Forbidden              a good token that may not do this
│   └── TokenAppMismatch   for a call of another bot of this deployment
├── NotFound
│   ├── CallNotFound
│   └── OperationNotFound
├── Conflict               the request contradicts what is recorded
│   ├── CallEnded
│   ├── TenantMismatch
│   ├── AppMismatch
│   ├── RequestInProgress  the same Idempotency-Key is being worked on
│   ├── OutcomeUnknown     a recording may have begun or not: it must not be asked for again
│   └── RecordingNotPersisted  Graph did it, but it could not be written down
├── IdempotencyKeyReused   the same Idempotency-Key, another request
├── Unavailable            our own trouble, or a dependency's: try again
│   ├── StoreUnavailable
│   │   └── RowUnreadable  a row is damaged, or a newer version wrote it
│   ├── TokenUnavailable   no Graph token for a tenant
│   └── SigningKeysUnavailable  no signing keys to verify a token with
├── SettingsInvalid        names the settings that are missing or wrong
├── StoreConflict          somebody else wrote the row first: read, merge, write again
└── GraphError             Graph answered, but not with success (or did not answer)
    ├── GraphCallNotFound  404, or 400/8528: the call is gone
    ├── GraphForbidden     403: the app or the tenant is wrong
    ├── GraphRejected      another 4xx
    ├── GraphThrottled     429
    └── GraphUnavailable   5xx, time-out, a broken connection, an answer that is not proved to be Graph's
        └── GraphNotReached  no connection, or something on the way answered: Graph did nothing
"""

import traceback
from pathlib import Path

MAX_FRAMES = 5  # of a traceback, in the log


class CallKeeperError(Exception):
    """The root of all errors raised on purpose. The message is fit for a caller: it holds no secret."""


class InvalidRequest(CallKeeperError):
    """The request is off. `errors` names each fault by a JSON pointer (or parameter name) and its detail."""

    def __init__(self, detail: str, errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.errors = errors


class PayloadTooLarge(InvalidRequest):
    """The body is larger than the route takes."""


class UnsupportedBody(InvalidRequest):
    """The body is compressed, or is by its own word something else than JSON in UTF-8."""


class Unauthenticated(CallKeeperError):
    """There is no token, or it does not verify."""


class Forbidden(CallKeeperError):
    """The token is good, but may not do this."""


class TokenAppMismatch(Forbidden):
    """The token's audience is one bot of this deployment, the call another's."""


class NotFound(CallKeeperError):
    """What was asked for is not there."""


class CallNotFound(NotFound):
    """No call of this id is on record."""

    def __init__(self, call_id: str) -> None:
        super().__init__(f"No call {call_id} is on record. Register it with PUT /api/calls/{call_id}.")


class OperationNotFound(NotFound):
    """No operation of this id is on record for the call."""

    def __init__(self, call_id: str, operation_id: str) -> None:
        super().__init__(
            f"Call {call_id} has no operation {operation_id} on record. "
            f"Take an id that GET /api/calls/{call_id}/operations shows."
        )


class Conflict(CallKeeperError):
    """The request contradicts what is recorded."""


class CallEnded(Conflict):
    """The call is on record as ended."""


class TenantMismatch(Conflict):
    """The call is registered for another tenant."""


class AppMismatch(Conflict):
    """The call is another bot's of this deployment."""


class RequestInProgress(Conflict):
    """The request that first had this Idempotency-Key is being worked on."""


class OutcomeUnknown(Conflict):
    """A recording may have begun or not, so it is not asked for again. Graph's answer, if any, is the cause."""


class RecordingNotPersisted(Conflict):
    """Graph did what was asked, but it could not be written down. To ask again would do it twice."""


class IdempotencyKeyReused(CallKeeperError):
    """The Idempotency-Key was used for another request."""


class Unavailable(CallKeeperError):
    """Our own trouble or a dependency's: the same request may succeed later."""


class StoreUnavailable(Unavailable):
    """Table Storage or Queue Storage did not take or give what it should."""


class RowUnreadable(StoreUnavailable):
    """A row of Table Storage is damaged, or a newer version of Call Keeper wrote it."""

    def __init__(self, row_key: str) -> None:
        super().__init__(
            f"The row {row_key} of Table Storage cannot be read: it is damaged, or a newer version wrote it. "
            "See docs/runbook.md#row-unreadable."
        )


class TokenUnavailable(Unavailable):
    """No Graph token could be had for a tenant."""


class SigningKeysUnavailable(Unavailable):
    """No signing keys are at hand to verify a token with."""


class SettingsInvalid(CallKeeperError):
    """Settings are missing or wrong; the message names them, without their values.

    `faults` has each setting's name with what is wrong about it.
    """

    def __init__(self, detail: str, faults: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.faults = faults


class StoreConflict(CallKeeperError):
    """Somebody else wrote the row since it was read."""


class GraphError(CallKeeperError):
    """Graph's answer was not a success.

    Parameters
    ----------
    detail
        What happened, in words, without secrets.
    status
        The HTTP status, None where there was no answer.
    subcode
        Graph's or the calling service's code in the body (8522, 7504, …), if it gave a number.
    request_id
        Graph's `request-id`, for a support case.
    retry_after
        Seconds that Graph asked to wait.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        subcode: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.subcode = subcode
        self.request_id = request_id
        self.retry_after = retry_after


class GraphCallNotFound(GraphError):
    """The call is gone: 404, or 400 with 8528."""


class GraphForbidden(GraphError):
    """403: the app lacks a permission, or the token is another tenant's (7504, 7505, 7507)."""


class GraphRejected(GraphError):
    """Another 4xx: Graph refuses this request as it stands."""


class GraphThrottled(GraphError):
    """429: wait `retry_after` seconds, the whole tenant."""


class GraphUnavailable(GraphError):
    """5xx, a time-out, a broken connection, or an answer that is not proved to be Graph's: it may have been done."""


class GraphNotReached(GraphUnavailable):
    """There was no connection, or something on the way answered in Graph's place: nothing was done."""


def safe_message(error: BaseException) -> str:
    """What may be told of an error: our own in their words, others by their kind alone, as they may hold secrets."""
    return str(error) if isinstance(error, CallKeeperError) else type(error).__name__


def traceback_summary(error: BaseException) -> str:
    """Where an error came from, innermost last: files, lines, functions; not the text, which may hold secrets."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
