"""Errors of the domain as HTTP: a status, and a problem (RFC 9457) whose `type` stays the same for good."""

import math
from dataclasses import dataclass
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

TYPE = "urn:call-keeper:problem:"  # before the name of a kind; compared as a whole, never fetched
RETRY_AFTER = 5  # seconds: our own trouble is most often a storage hiccup


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: the last part of its `type`, its status, its `title`."""

    name: str
    status: int
    title: str


UNFORESEEN = Kind("unforeseen", 500, "Something nobody foresaw")
NO_ANSWER = Kind("graph-no-answer", 504, "Graph gave no answer in time")
# The first kind that fits counts.
KINDS: tuple[tuple[type[CallKeeperError], Kind], ...] = (
    (PayloadTooLarge, Kind("body-too-large", 413, "The body is too large")),
    (UnsupportedBody, Kind("unsupported-body", 415, "The body is compressed, or no JSON by its own word")),
    (InvalidRequest, Kind("invalid-request", 400, "The request is off")),
    (Unauthenticated, Kind("unauthenticated", 401, "No token, or one that does not verify")),
    (Forbidden, Kind("forbidden", 403, "The token may not do this")),
    (CallNotFound, Kind("call-not-found", 404, "The call is not on record")),
    (OperationNotFound, Kind("operation-not-found", 404, "The operation is not on record")),
    (CallEnded, Kind("call-ended", 409, "The call is over")),
    (TenantMismatch, Kind("tenant-differs", 409, "The call is registered for another tenant")),
    (AppMismatch, Kind("app-differs", 409, "The call is another bot's")),
    (RequestInProgress, Kind("request-in-progress", 409, "The same request is still being worked on")),
    (OutcomeUnknown, Kind("outcome-unknown", 409, "Nobody knows whether the recording has begun")),
    (RecordingNotPersisted, Kind("recording-not-noted", 409, "The recording has begun, and could not be written down")),
    (IdempotencyKeyReused, Kind("idempotency-key-reused", 422, "The Idempotency-Key belongs to another request")),
    (RowUnreadable, Kind("record-unreadable", 500, "The record cannot be read")),
    (StoreUnavailable, Kind("storage-unavailable", 503, "Storage is not to be had")),
    (TokenUnavailable, Kind("graph-token-unavailable", 503, "No token for Graph is to be had")),
    (SigningKeysUnavailable, Kind("signing-keys-unavailable", 503, "No keys to verify tokens with are to be had")),
    (GraphThrottled, Kind("graph-throttled", 503, "Graph asks to wait")),
    (GraphNotReached, Kind("graph-not-reached", 502, "Graph was not reached, and did nothing")),
    (GraphUnavailable, Kind("graph-failed", 502, "Graph is in trouble")),
    (GraphError, Kind("graph-refused", 502, "Graph refused")),
    (SettingsInvalid, Kind("settings-invalid", 500, "Settings are missing or wrong")),
    (CallKeeperError, Kind("unavailable", 503, "It cannot be done now")),
)


HUSHED = {500: UNFORESEEN, 503: KINDS[-1][1]}  # where several kinds have one status
DISCREET = {
    400: "The body is not what this address takes.",
    401: "Send `Authorization: Bearer <token>`, with a token that Graph has signed for this bot.",
    403: "The token may not tell this.",
    413: "The body is too large.",
    415: "Send JSON in UTF-8, uncompressed, with Content-Type: application/json.",
}
AUTHENTICATE = "Needed is an access token of Entra for MANAGEMENT_AUDIENCE with an app role: `Authorization: Bearer …`."
LATER = "This cannot be taken now. Send it again later."


def kind_of(error: CallKeeperError) -> Kind:
    """What HTTP makes of an error."""
    if isinstance(error, GraphError) and error.status is None and not isinstance(error, GraphNotReached):
        return NO_ANSWER
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


def unforeseen() -> func.HttpResponse:
    """What is told of an error that nobody foresaw: nothing."""
    return _response(UNFORESEEN, "An unforeseen error. It is in the log of Call Keeper.", {})


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
