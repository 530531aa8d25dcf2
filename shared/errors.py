"""The errors that are raised on purpose. `functions/problems.py` maps each to an HTTP answer.

CallKeeperError
├── InvalidRequest         the request is not valid: says what is wrong, and what to send instead
│   ├── PayloadTooLarge
│   └── UnsupportedBody    compressed, or its content type is not JSON
├── Unauthenticated        no token, or one that does not verify
├── Forbidden              the token is valid, but does not permit this
│   └── TokenAppMismatch   the call belongs to another bot of this deployment
├── NotFound
│   ├── CallNotFound
│   ├── OperationNotFound
│   ├── DeliveryNotFound
│   └── TargetNotFound     RELAY_TARGETS does not name it
├── Conflict               the request contradicts what is recorded
│   ├── CallEnded
│   ├── TenantMismatch
│   ├── AppMismatch
│   ├── RequestInProgress  a request with the same Idempotency-Key is not finished
│   ├── OutcomeUnknown     a recording may have begun: the request must not be repeated
│   ├── RecordingNotPersisted  Graph started the recording, but the store did not accept it
│   ├── DeliveryNotReplayable  it is not dead or disabled, or its body is gone
│   └── LaterDeliveryDelivered  the bot has received a later delivery of the same call
├── IdempotencyKeyReused   the same Idempotency-Key with another request
├── Unavailable            a dependency failed: try again
│   ├── StoreUnavailable
│   │   └── RowUnreadable  a row is damaged, or a newer version wrote it
│   ├── TokenUnavailable   no Graph token for a tenant
│   └── SigningKeysUnavailable  no keys to verify a token with
├── SettingsInvalid        names the settings that are missing or wrong
├── StoreConflict          another writer changed the row first: read, merge, write again
└── GraphError             a request to Graph did not succeed
    ├── GraphCallNotFound  404, or 400/8528: the call is over
    ├── GraphForbidden     403: the app or the tenant is wrong
    ├── GraphRejected      another 4xx
    ├── GraphThrottled     429
    └── GraphUnavailable   5xx, timeout, broken connection, or an answer without proof that Graph sent it
        └── GraphNotReached  no connection, or something else answered: Graph did nothing
"""

import traceback
from pathlib import Path

MAX_FRAMES = 5  # frames of a traceback in the log


class CallKeeperError(Exception):
    """The root of all errors raised on purpose. The message may be shown to a caller: it holds no secret."""


class InvalidRequest(CallKeeperError):
    """The request is not valid. `errors` has the JSON pointer (or parameter name) and the detail of each fault."""

    def __init__(self, detail: str, errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.errors = errors


class PayloadTooLarge(InvalidRequest):
    """The body is larger than the route accepts."""


class UnsupportedBody(InvalidRequest):
    """The body is compressed, or its content type is not JSON in UTF-8."""


class Unauthenticated(CallKeeperError):
    """There is no token, or its verification failed."""


class Forbidden(CallKeeperError):
    """The token is valid, but does not permit this."""


class TokenAppMismatch(Forbidden):
    """The token's audience is one bot of this deployment, but the call belongs to another."""


class NotFound(CallKeeperError):
    """The resource does not exist."""


class CallNotFound(NotFound):
    """No call with this id is on record."""

    def __init__(self, call_id: str) -> None:
        super().__init__(f"No call {call_id} is on record. Register it with PUT /api/calls/{call_id}.")


class OperationNotFound(NotFound):
    """The call has no operation with this id on record."""

    def __init__(self, call_id: str, operation_id: str) -> None:
        super().__init__(
            f"Call {call_id} has no operation {operation_id} on record. "
            f"Use an id from GET /api/calls/{call_id}/operations."
        )


class DeliveryNotFound(NotFound):
    """No delivery with this id is on record."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(f"No delivery {delivery_id} is on record. Use an id from GET /api/deliveries.")


class TargetNotFound(NotFound):
    """RELAY_TARGETS has no target with this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"RELAY_TARGETS has no target {name}. Use the name of one of its entries.")


class Conflict(CallKeeperError):
    """The request contradicts what is recorded."""


class CallEnded(Conflict):
    """The call is on record as ended."""


class TenantMismatch(Conflict):
    """The call is registered for another tenant."""


class AppMismatch(Conflict):
    """The call belongs to another bot of this deployment."""


class RequestInProgress(Conflict):
    """An earlier request with this Idempotency-Key is not finished."""


class OutcomeUnknown(Conflict):
    """A recording may have begun, so the request must not be repeated. Graph's answer, if any, is the cause."""


class RecordingNotPersisted(Conflict):
    """Graph started the recording, but the store did not accept it. A repeated request would start a second one."""


class DeliveryNotReplayable(Conflict):
    """The delivery is not dead or disabled, or nothing is left that could be sent."""


class LaterDeliveryDelivered(Conflict):
    """A later delivery of the same call to the same destination was delivered."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(
            f"A later delivery of the same call was delivered to the destination of {delivery_id}. A bot that keeps no "
            'order would go back to the older state. To replay it all the same, send {"force": true}.'
        )


class IdempotencyKeyReused(CallKeeperError):
    """The Idempotency-Key was used with another request."""


class Unavailable(CallKeeperError):
    """A dependency failed: the same request may succeed later."""


class StoreUnavailable(Unavailable):
    """A request to Table Storage or Queue Storage failed."""


class RowUnreadable(StoreUnavailable):
    """A row of Table Storage is damaged, or a newer version of Call Keeper wrote it."""

    def __init__(self, row_key: str) -> None:
        super().__init__(
            f"The row {row_key} of Table Storage cannot be read: it is damaged, or a newer version wrote it. "
            "See docs/runbook.md#row-unreadable."
        )


class TokenUnavailable(Unavailable):
    """No token for Graph, or for a bot, could be obtained for a tenant."""


class SigningKeysUnavailable(Unavailable):
    """The signing keys that could verify a token are not loaded."""


class SettingsInvalid(CallKeeperError):
    """Settings are missing or wrong; the message names them, without their values.

    `faults` has pairs: the name of a setting, and what is wrong with it.
    """

    def __init__(self, detail: str, faults: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.faults = faults


class StoreConflict(CallKeeperError):
    """Another writer changed the row after it was read."""


class GraphError(CallKeeperError):
    """A request to Graph did not succeed.

    Parameters
    ----------
    detail
        What happened, without secrets.
    status
        The HTTP status. None if there was no answer.
    subcode
        The code of Graph or of the calling service in the body (8522, 7504, …), if it is a number.
    request_id
        Graph's `request-id`, for a support case.
    retry_after
        The seconds that Graph asks to wait.
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
    """The call is over: 404, or 400 with 8528."""


class GraphForbidden(GraphError):
    """403: the app lacks a permission (7504), or the token is for another tenant (7505) or app (7507)."""


class GraphRejected(GraphError):
    """Another 4xx: Graph refuses this request, and would refuse it again."""


class GraphThrottled(GraphError):
    """429: send nothing for the tenant for `retry_after` seconds."""


class GraphUnavailable(GraphError):
    """5xx, timeout, broken connection, or an answer without proof that Graph sent it. Graph may have done it."""


class GraphNotReached(GraphUnavailable):
    """There was no connection, or something on the way answered instead of Graph: Graph did nothing."""


def safe_message(error: BaseException) -> str:
    """Return the message of an error of ours. Return only the class name of others: their text may hold secrets."""
    return str(error) if isinstance(error, CallKeeperError) else type(error).__name__


def traceback_summary(error: BaseException) -> str:
    """Return file, line and function of the last 5 frames, innermost last. The error's text may hold secrets."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
