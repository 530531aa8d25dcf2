"""Errors of the domain as HTTP: a status, and a problem (RFC 9457) whose `type` stays the same for good."""

import math
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import azure.functions as func

from shared.errors import (
    AppMismatch,
    CallEnded,
    CallKeeperError,
    CallNotFound,
    Forbidden,
    GraphError,
    GraphNotReached,
    GraphThrottled,
    GraphUnavailable,
    IdempotencyKeyReused,
    InvalidRequest,
    OperationNotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    RecordingNotPersisted,
    RequestInProgress,
    RowUnreadable,
    SettingsInvalid,
    SigningKeysUnavailable,
    StoreUnavailable,
    TenantMismatch,
    TokenUnavailable,
    Unauthenticated,
    UnsupportedBody,
)
from shared.views import Problem, ProblemError

TYPE_PREFIX = "urn:call-keeper:problem:"  # before the name of a kind; compared as a whole, never fetched
RETRY_AFTER = timedelta(seconds=5)  # our own trouble is most often a storage hiccup


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem: the last part of its `type`, its status, its `title`."""

    name: str
    status: int
    title: str


INTERNAL_ERROR = ProblemType("unforeseen", 500, "Something nobody foresaw")
GRAPH_TIMEOUT = ProblemType("graph-no-answer", 504, "Graph gave no answer in time")
# The first kind that fits counts.
PROBLEM_TYPES: tuple[tuple[type[CallKeeperError], ProblemType], ...] = (
    (PayloadTooLarge, ProblemType("body-too-large", 413, "The body is too large")),
    (UnsupportedBody, ProblemType("unsupported-body", 415, "The body is compressed, or no JSON by its own word")),
    (InvalidRequest, ProblemType("invalid-request", 400, "The request is off")),
    (Unauthenticated, ProblemType("unauthenticated", 401, "No token, or one that does not verify")),
    (Forbidden, ProblemType("forbidden", 403, "The token may not do this")),
    (CallNotFound, ProblemType("call-not-found", 404, "The call is not on record")),
    (OperationNotFound, ProblemType("operation-not-found", 404, "The operation is not on record")),
    (CallEnded, ProblemType("call-ended", 409, "The call is over")),
    (TenantMismatch, ProblemType("tenant-differs", 409, "The call is registered for another tenant")),
    (AppMismatch, ProblemType("app-differs", 409, "The call is another bot's")),
    (RequestInProgress, ProblemType("request-in-progress", 409, "The same request is still being worked on")),
    (OutcomeUnknown, ProblemType("outcome-unknown", 409, "Nobody knows whether the recording has begun")),
    (
        RecordingNotPersisted,
        ProblemType("recording-not-noted", 409, "The recording has begun, and could not be written down"),
    ),
    (
        IdempotencyKeyReused,
        ProblemType("idempotency-key-reused", 422, "The Idempotency-Key belongs to another request"),
    ),
    (RowUnreadable, ProblemType("record-unreadable", 500, "The record cannot be read")),
    (StoreUnavailable, ProblemType("storage-unavailable", 503, "Storage is not to be had")),
    (TokenUnavailable, ProblemType("graph-token-unavailable", 503, "No token for Graph is to be had")),
    (
        SigningKeysUnavailable,
        ProblemType("signing-keys-unavailable", 503, "No keys to verify tokens with are to be had"),
    ),
    (GraphThrottled, ProblemType("graph-throttled", 503, "Graph asks to wait")),
    (GraphNotReached, ProblemType("graph-not-reached", 502, "Graph was not reached, and did nothing")),
    (GraphUnavailable, ProblemType("graph-failed", 502, "Graph is in trouble")),
    (GraphError, ProblemType("graph-refused", 502, "Graph refused")),
    (SettingsInvalid, ProblemType("settings-invalid", 500, "Settings are missing or wrong")),
    (CallKeeperError, ProblemType("unavailable", 503, "It cannot be done now")),
)


GENERIC_TYPES = {500: INTERNAL_ERROR, 503: PROBLEM_TYPES[-1][1]}  # where several kinds have one status
GENERIC_DETAILS = {
    400: "The body is not what this address takes.",
    401: "Send `Authorization: Bearer <token>`, with a token that Graph has signed for this bot.",
    403: "The token may not tell this.",
    413: "The body is too large.",
    415: "Send JSON in UTF-8, uncompressed, with Content-Type: application/json.",
}
AUTHENTICATION_DETAIL = (
    "Needed is an access token of Entra for MANAGEMENT_AUDIENCE with an app role: `Authorization: Bearer …`."
)
RETRY_LATER_DETAIL = "This cannot be taken now. Send it again later."


def problem_type_of(error: CallKeeperError) -> ProblemType:
    """What HTTP makes of an error."""
    if isinstance(error, GraphError) and error.status is None and not isinstance(error, GraphNotReached):
        return GRAPH_TIMEOUT
    return next(kind for fits, kind in PROBLEM_TYPES if isinstance(error, fits))


def problem_response(error: CallKeeperError, *, hide_details: bool = False) -> func.HttpResponse:
    """The one place where errors become HTTP. A discreet answer tells no more than its status."""
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
    """What is told of an error that nobody foresaw: nothing."""
    return _response(INTERNAL_ERROR, "An unforeseen error. It is in the log of Call Keeper.", {})


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
