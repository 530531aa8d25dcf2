"""The mapping of errors to HTTP: `PROBLEM_TYPES` gives each error its status and its problem type (RFC 9457)."""

import math
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import azure.functions as func

from shared.api.views import Problem, ProblemError
from shared.errors import (
    AppMismatch,
    CallEnded,
    CallKeeperError,
    CallNotFound,
    DeliveryNotFound,
    DeliveryNotReplayable,
    Forbidden,
    GraphError,
    GraphNotReached,
    GraphThrottled,
    GraphUnavailable,
    IdempotencyKeyReused,
    InvalidRequest,
    LaterDeliveryDelivered,
    OperationNotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    RecordingNotPersisted,
    RequestInProgress,
    RowUnreadable,
    SettingsInvalid,
    SigningKeysUnavailable,
    StoreUnavailable,
    TargetNotFound,
    TenantMismatch,
    TokenUnavailable,
    Unauthenticated,
    UnsupportedBody,
)

TYPE_PREFIX = "urn:call-keeper:problem:"  # begins each `type`, a name that clients compare and never fetch
RETRY_AFTER = timedelta(seconds=5)  # most failures of our own are short failures of storage


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A type of problem: the last part of its URN, its status and its title. None of them ever changes."""

    name: str
    status: int
    title: str


INTERNAL_ERROR = ProblemType("internal-error", 500, "Internal server error")
GRAPH_TIMEOUT = ProblemType("graph-timeout", 504, "Graph did not respond in time")
# The one table that maps errors to HTTP. The first row whose class fits an error counts, so subclasses come first.
# Only `GRAPH_TIMEOUT` is not in it: `problem_type_of` returns it for a `GraphError` without a status.
PROBLEM_TYPES: tuple[tuple[type[CallKeeperError], ProblemType], ...] = (
    (PayloadTooLarge, ProblemType("body-too-large", 413, "Request body too large")),
    (UnsupportedBody, ProblemType("unsupported-media-type", 415, "Unsupported media type")),
    (InvalidRequest, ProblemType("invalid-request", 400, "Invalid request")),
    (Unauthenticated, ProblemType("unauthenticated", 401, "Missing or invalid access token")),
    (Forbidden, ProblemType("forbidden", 403, "Forbidden")),
    (CallNotFound, ProblemType("call-not-found", 404, "Call not found")),
    (OperationNotFound, ProblemType("operation-not-found", 404, "Operation not found")),
    (DeliveryNotFound, ProblemType("delivery-not-found", 404, "Delivery not found")),
    (TargetNotFound, ProblemType("target-not-found", 404, "Target not found")),
    (CallEnded, ProblemType("call-ended", 409, "Call has ended")),
    (TenantMismatch, ProblemType("tenant-mismatch", 409, "Call belongs to another tenant")),
    (AppMismatch, ProblemType("app-mismatch", 409, "Call belongs to another bot")),
    (RequestInProgress, ProblemType("request-in-progress", 409, "Request already in progress")),
    (OutcomeUnknown, ProblemType("outcome-unknown", 409, "Outcome of the original request unknown")),
    (RecordingNotPersisted, ProblemType("recording-not-persisted", 409, "Recording started, but not saved on record")),
    (DeliveryNotReplayable, ProblemType("delivery-not-replayable", 409, "Delivery cannot be replayed")),
    (LaterDeliveryDelivered, ProblemType("later-delivery-delivered", 409, "A later delivery was delivered")),
    (IdempotencyKeyReused, ProblemType("idempotency-key-reused", 422, "Idempotency-Key reused with another request")),
    (RowUnreadable, ProblemType("record-unreadable", 500, "Stored record unreadable")),
    (StoreUnavailable, ProblemType("storage-unavailable", 503, "Storage unavailable")),
    (TokenUnavailable, ProblemType("graph-token-unavailable", 503, "Graph token unavailable")),
    (SigningKeysUnavailable, ProblemType("signing-keys-unavailable", 503, "Signing keys unavailable")),
    (GraphThrottled, ProblemType("graph-throttled", 503, "Graph throttles requests")),
    (GraphNotReached, ProblemType("graph-unreachable", 502, "Graph unreachable")),
    (GraphUnavailable, ProblemType("graph-unavailable", 502, "Graph unavailable")),
    (GraphError, ProblemType("graph-refused", 502, "Graph refused the request")),
    (SettingsInvalid, ProblemType("invalid-settings", 500, "Invalid settings")),
    (CallKeeperError, ProblemType("service-unavailable", 503, "Service unavailable")),
)

# For routes that hide details: one type for statuses that several types have, and one detail for each status.
GENERIC_TYPES = {500: INTERNAL_ERROR, 503: PROBLEM_TYPES[-1][1]}
GENERIC_DETAILS = {
    400: "The body is not a valid notification of Graph.",
    401: "Send `Authorization: Bearer <token>` with a notification token of Graph for this bot.",
    403: "The token does not allow these notifications.",
    413: "The request body is too large.",
    415: "Send JSON in UTF-8, uncompressed, with Content-Type: application/json.",
}
AUTHENTICATION_DETAIL = (
    "Send an access token of Entra for MANAGEMENT_AUDIENCE with an app role: `Authorization: Bearer …`."
)
RETRY_LATER_DETAIL = "The request cannot be processed now. Send it again later."


def problem_type_of(error: CallKeeperError) -> ProblemType:
    """Return the problem type of an error."""
    if isinstance(error, GraphError) and error.status is None and not isinstance(error, GraphNotReached):
        return GRAPH_TIMEOUT
    return next(kind for fits, kind in PROBLEM_TYPES if isinstance(error, fits))


def problem_response(error: CallKeeperError, *, hide_details: bool = False) -> func.HttpResponse:
    """Return the response of an error.

    Parameters
    ----------
    hide_details
        True: the response shows strangers only the status, with a generic type and detail.
    """
    problem_type, headers = problem_type_of(error), dict[str, str]()
    if problem_type.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RequestInProgress) or problem_type.status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after = error.retry_after if isinstance(error, GraphError) else None
        headers["Retry-After"] = str(max(math.ceil(retry_after or RETRY_AFTER.total_seconds()), 1))
    if hide_details:
        return _response(
            GENERIC_TYPES.get(problem_type.status, problem_type),
            GENERIC_DETAILS.get(problem_type.status, RETRY_LATER_DETAIL),
            headers,
        )
    detail = f"{error} {AUTHENTICATION_DETAIL}" if isinstance(error, Unauthenticated) else str(error)
    return _response(problem_type, detail, headers, error)


def internal_error() -> func.HttpResponse:
    """Return the response of an unexpected error. It does not show the error, whose text may hold secrets."""
    return _response(INTERNAL_ERROR, "Unexpected error. See the event `request.failed` in the log of Call Keeper.", {})


def _response(
    problem_type: ProblemType, detail: str, headers: dict[str, str], error: CallKeeperError | None = None
) -> func.HttpResponse:
    faults = error.errors if isinstance(error, InvalidRequest) else ()
    graph_cause = error.__cause__ if isinstance(error, OutcomeUnknown) else error
    graph_error = graph_cause if isinstance(graph_cause, GraphError) else None
    body = Problem(
        type=TYPE_PREFIX + problem_type.name,
        title=problem_type.title,
        status=problem_type.status,
        detail=detail,
        errors=[ProblemError(pointer=pointer, detail=text) for pointer, text in faults] or None,
        graph_status=graph_error.status if graph_error else None,
        graph_subcode=graph_error.subcode if graph_error else None,
        graph_request_id=graph_error.request_id if graph_error else None,
    )
    return func.HttpResponse(
        body.model_dump_json(by_alias=True, exclude_none=True),
        status_code=problem_type.status,
        headers={"Cache-Control": "no-store", **headers},
        mimetype="application/problem+json",
    )
