"""Errors of the domain as HTTP: a status, and a problem (RFC 9457) whose `type` never changes."""

import math
from dataclasses import dataclass
from http import HTTPStatus

import azure.functions as func

from shared.errors import (
    CallEnded,
    CallKeeperError,
    CallNotFound,
    Forbidden,
    GraphError,
    GraphNotReached,
    GraphThrottled,
    GraphUnavailable,
    InvalidRequest,
    KeyReused,
    KeysUnavailable,
    NotNoted,
    OfAnotherApp,
    OfAnotherTenant,
    OperationNotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    RequestInProgress,
    RowUnreadable,
    SettingsInvalid,
    StoreUnavailable,
    TokenUnavailable,
    Unauthenticated,
    UnsupportedBody,
)
from shared.views import Problem, ProblemError

TYPE = "urn:call-keeper:problem:"  # before the name of a kind; compared as a whole, never fetched
RETRY_AFTER = 5  # seconds: our own trouble is most often a storage hiccup


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: the last part of its `type`, its status, its `title`."""

    name: str
    status: int
    title: str


INTERNAL_ERROR = Kind("internal-error", 500, "Internal server error")
GRAPH_TIMEOUT = Kind("graph-timeout", 504, "Graph did not respond in time")
# The first kind that fits counts.
KINDS: tuple[tuple[type[CallKeeperError], Kind], ...] = (
    (PayloadTooLarge, Kind("body-too-large", 413, "Request body too large")),
    (UnsupportedBody, Kind("unsupported-media-type", 415, "Unsupported media type")),
    (InvalidRequest, Kind("invalid-request", 400, "Invalid request")),
    (Unauthenticated, Kind("unauthenticated", 401, "Missing or invalid access token")),
    (Forbidden, Kind("forbidden", 403, "Forbidden")),
    (CallNotFound, Kind("call-not-found", 404, "Call not found")),
    (OperationNotFound, Kind("operation-not-found", 404, "Operation not found")),
    (CallEnded, Kind("call-ended", 409, "Call has ended")),
    (OfAnotherTenant, Kind("tenant-mismatch", 409, "Call belongs to another tenant")),
    (OfAnotherApp, Kind("app-mismatch", 409, "Call belongs to another bot")),
    (RequestInProgress, Kind("request-in-progress", 409, "Request already in progress")),
    (OutcomeUnknown, Kind("outcome-unknown", 409, "Outcome of the original request unknown")),
    (NotNoted, Kind("recording-not-persisted", 409, "Recording started, but not saved on record")),
    (KeyReused, Kind("idempotency-key-reused", 422, "Idempotency-Key reused with another request")),
    (RowUnreadable, Kind("record-unreadable", 500, "Stored record unreadable")),
    (StoreUnavailable, Kind("storage-unavailable", 503, "Storage unavailable")),
    (TokenUnavailable, Kind("graph-token-unavailable", 503, "Graph token unavailable")),
    (KeysUnavailable, Kind("signing-keys-unavailable", 503, "Signing keys unavailable")),
    (GraphThrottled, Kind("graph-throttled", 503, "Graph throttles requests")),
    (GraphNotReached, Kind("graph-unreachable", 502, "Graph unreachable")),
    (GraphUnavailable, Kind("graph-unavailable", 502, "Graph unavailable")),
    (GraphError, Kind("graph-refused", 502, "Graph refused the request")),
    (SettingsInvalid, Kind("invalid-settings", 500, "Invalid settings")),
    (CallKeeperError, Kind("service-unavailable", 503, "Service unavailable")),
)


HUSHED = {500: INTERNAL_ERROR, 503: KINDS[-1][1]}  # where several kinds have one status
DISCREET = {
    400: "The body is not a valid notification of Graph.",
    401: "Send `Authorization: Bearer <token>` with a notification token of Graph for this bot.",
    403: "The token does not allow these notifications.",
    413: "The request body is too large.",
    415: "Send JSON in UTF-8, uncompressed, with Content-Type: application/json.",
}
AUTHENTICATE = "Send an access token of Entra for MANAGEMENT_AUDIENCE with an app role: `Authorization: Bearer …`."
LATER = "The request cannot be processed now. Send it again later."


def kind_of(error: CallKeeperError) -> Kind:
    """What HTTP makes of an error."""
    if isinstance(error, GraphError) and error.status is None and not isinstance(error, GraphNotReached):
        return GRAPH_TIMEOUT
    return next(kind for fits, kind in KINDS if isinstance(error, fits))


def problem(error: CallKeeperError, *, is_discreet: bool = False) -> func.HttpResponse:
    """The one place where errors become HTTP. A discreet answer tells no more than its status."""
    kind, headers = kind_of(error), dict[str, str]()
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RequestInProgress) or kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        asked = error.retry_after if isinstance(error, GraphError) else None
        headers["Retry-After"] = str(max(math.ceil(asked), 1) if asked else RETRY_AFTER)
    if is_discreet:
        return _response(HUSHED.get(kind.status, kind), DISCREET.get(kind.status, LATER), headers)
    detail = f"{error} {AUTHENTICATE}" if isinstance(error, Unauthenticated) else str(error)
    return _response(kind, detail, headers, error)


def internal_error() -> func.HttpResponse:
    """Return the problem of an unexpected error. It tells nothing of the error, whose text may hold secrets."""
    return _response(
        INTERNAL_ERROR, "An unexpected error. The log of Call Keeper has it, as event `request.failed`.", {}
    )


def _response(
    kind: Kind, detail: str, headers: dict[str, str], error: CallKeeperError | None = None
) -> func.HttpResponse:
    faults = error.errors if isinstance(error, InvalidRequest) else ()
    said = error.__cause__ if isinstance(error, OutcomeUnknown) else error
    graph = said if isinstance(said, GraphError) else None
    body = Problem(
        type=TYPE + kind.name,
        title=kind.title,
        status=kind.status,
        detail=detail,
        errors=[ProblemError(pointer=pointer, detail=text) for pointer, text in faults] or None,
        graph_status=graph.status if graph else None,
        graph_subcode=graph.subcode if graph else None,
        graph_request_id=graph.request_id if graph else None,
    )
    return func.HttpResponse(
        body.model_dump_json(by_alias=True, exclude_none=True),
        status_code=kind.status,
        headers={"Cache-Control": "no-store", **headers},
        mimetype="application/problem+json",
    )
