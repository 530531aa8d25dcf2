"""Parsing of Graph's notifications, and of the operations in Graph's answers.

The payloads vary (commsNotification page; captures of bots): codes as number or text, `subcode` or `subCode`,
`resourceUrl` or the older `resource`, `/communications` or `/app`, ids in two forms, one entity or a list of them.
Participants, names, tones and chats are not read, so they never get into these types.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from urllib.parse import unquote

from shared.domain.calls import canonical_id
from shared.domain.explanation import COMPLETION_REASONS
from shared.errors import CallKeeperError, InvalidRequest, PayloadTooLarge
from shared.untrusted_json import (
    MAX_WORD_LENGTH,
    Json,
    JsonObject,
    bounded_text,
    exact_text,
    get_ignoring_case,
    graph_spelling,
    parse_code,
    parse_object,
    sanitize,
)

MAX_CONTEXT_LENGTH = 256  # characters; recordResponse page: clientContext
MAX_REQUEST_ID_LENGTH = 128  # characters; Graph sends GUIDs
SCENARIO_ID, CHAIN_ID = "Scenario-Id", "X-Microsoft-Skype-Chain-ID"  # headers seen in logs of Microsoft's SDK
MAX_NOTIFICATIONS = 1000  # in one body; Graph sends one, or a few
MAX_FAULTS = 20  # reported for one body; more would flood the log
_DIAG_CODE = re.compile(r"DiagCode:\s*[0-9]+#([0-9]{1,10})", re.ASCII | re.IGNORECASE)
_HOST = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//[^/]*", re.IGNORECASE)
_LEGACY_FIELDS = {
    "id",
    "type",
    "state",
    "states",
    "callstate",
    "appid",
    "appstate",
    "participants",
    "links",
    "threadid",
}
_TOO_MANY = f"The body has more than {MAX_NOTIFICATIONS} notifications."

type Notification = CallNotification | OperationNotification | OtherNotification


class LegacyFormat(CallKeeperError):
    """The body has the format of the old Skype platform. After a 204 the platform sends it again in Graph's format."""


@dataclass(frozen=True, slots=True)
class ResultInfo:
    """Graph's resultInfo. Codes that are not numbers are text in `raw_code` and `raw_subcode`."""

    code: int | None = None
    subcode: int | None = None
    raw_code: str | None = None
    raw_subcode: str | None = None
    message: str | None = None
    message_truncated: bool = False


@dataclass(frozen=True, slots=True)
class CallNotification:
    """A notification of the call itself. `state` is in Graph's camelCase; an unknown state is kept."""

    call_id: str
    deleted: bool
    state: str | None = None
    result: ResultInfo | None = None
    termination_reason: str | None = None
    direction: str | None = None
    call_chain_id: str | None = None


@dataclass(frozen=True, slots=True)
class OperationNotification:
    """An operation of the call, e.g. a recording. `deleted` reports the operation's end, not the call's."""

    call_id: str
    operation_id: str
    kind: str
    deleted: bool
    status: str | None = None
    result: ResultInfo | None = None
    client_context: str | None = None
    completion_reason: str | None = None
    recording_location: str | None = field(default=None, repr=False)
    recording_access_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OtherNotification:
    """A notification of another resource of the call, such as participants. It shows that the call is active."""

    call_id: str
    resource: str
    change_type: str


@dataclass(frozen=True, slots=True)
class RequestIds:
    """Graph's ids of a request with notifications: `Scenario-Id` and `X-Microsoft-Skype-Chain-ID`."""

    scenario_id: str | None = None
    chain_id: str | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> "RequestIds":
        """Read the ids from the headers, as bounded text that storage accepts."""
        return cls(*(bounded_text(headers.get(name), MAX_REQUEST_ID_LENGTH) for name in (SCENARIO_ID, CHAIN_ID)))


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """The content of a body. `faults` has the index of each bad item and what is wrong, without its content."""

    notifications: tuple[Notification, ...]
    faults: tuple[str, ...]


def parse_notifications(body: bytes) -> ParsedBody:
    """Parse a body. A bad item becomes a fault, and the good ones are still returned.

    Raises
    ------
    LegacyFormat
        The body is an object without `value` and `@odata.type`, with two or more fields of the old platform.
    InvalidRequest
        The body is anything else that is not a JSON object with a list `value`.
    PayloadTooLarge
        There are more than 1000 notifications. Equal ones in a row count once.
    """
    envelope = parse_object(body)
    items = get_ignoring_case(envelope, "value")
    if not isinstance(items, list):
        names = {name.lower() for name in envelope}
        if not names & {"value", "@odata.type"} and len(names & _LEGACY_FIELDS) > 1:
            raise LegacyFormat("This is the old platform's format. Send it in Graph's format.")
        raise InvalidRequest("The body has no list `value`. Send Graph's commsNotifications.", (("/value", "no list"),))
    if len(items) > MAX_NOTIFICATIONS:
        raise PayloadTooLarge(_TOO_MANY)
    notifications: list[Notification] = []
    faults: list[str] = []
    for index, item in enumerate(items):
        try:
            found = _parse_item(item)
        except InvalidRequest as fault:
            faults.append(f"value[{index}]: {fault}")
        else:
            notifications += found
        if len(notifications) > MAX_NOTIFICATIONS:
            raise PayloadTooLarge(_TOO_MANY)
    if len(faults) > MAX_FAULTS:
        faults[MAX_FAULTS:] = [f"and {len(faults) - MAX_FAULTS} more"]
    return ParsedBody(tuple(notification for notification, _ in groupby(notifications)), tuple(faults))


def located_call_id(item: Json) -> str | None:
    """Return the id of the call that an item of a body is about, in canonical form; None if it cannot be read."""
    if not isinstance(item, dict):
        return None
    try:
        return _locate_call(item)[0]
    except InvalidRequest:
        return None


def wants_answer(item: Json) -> bool:
    """True if Graph wants the bot's decision in the response: a participant joins a call that a policy records.

    participantJoiningNotification page.
    """
    if not isinstance(item, dict):
        return False
    entities = _entities(get_ignoring_case(item, "resourceData"))
    return any(_entity_type(entity).lower() == "participantjoiningnotification" for entity in entities)


def _parse_item(item: Json) -> Iterable[Notification]:
    if not isinstance(item, dict):
        raise InvalidRequest("It is not an object.")
    call_id, rest = _locate_call(item)
    change_type = (bounded_text(get_ignoring_case(item, "changeType"), MAX_WORD_LENGTH) or "").lower()
    deleted = change_type == "deleted"
    entities = _entities(get_ignoring_case(item, "resourceData"))
    if (not rest or rest[0].lower() == "operations") and len(
        entities
    ) > MAX_NOTIFICATIONS:  # a roster may have more entities
        raise InvalidRequest(f"It has more than {MAX_NOTIFICATIONS} entities.")
    if not rest:
        return [_parse_call_entity(call_id, entity, change_type) for entity in entities]
    resource = graph_spelling(rest[0]) or ""
    if resource == "operations":
        operations = [(operation_id, entity) for entity in entities if (operation_id := _operation_id(rest, entity))]
        if operations:
            return [parse_operation(call_id, known, entity, deleted=deleted) for known, entity in operations]
    return [OtherNotification(call_id, resource, change_type)]


def _locate_call(item: JsonObject) -> tuple[str, list[str]]:
    """Return the canonical id of the call, and the path segments after it."""
    for name in ("resourceUrl", "resource"):
        path = _HOST.sub("", sanitize(get_ignoring_case(item, name)))
        segments = [unquote(part) for part in re.split("[?#]", path)[0].split("/") if part]
        calls = next((index for index, part in enumerate(segments) if part.lower() == "calls"), len(segments))
        if calls + 1 < len(segments):
            return canonical_id(segments[calls + 1]), segments[calls + 2 :]
    raise InvalidRequest("There is no call id in resourceUrl or resource.")


def _entities(data: Json) -> list[JsonObject]:
    """Return the entities of a resourceData. Equal ones in a row count once. Without any there is an empty one."""
    several = [entity for entity, _ in groupby(data)] if isinstance(data, list) else [data]
    return [entity for entity in several if isinstance(entity, dict)] or [{}]


def _operation_id(rest: list[str], entity: JsonObject) -> str | None:
    """Return the id in the path, else that of the entity: `/operations/participants` (participant-invite page)."""
    operation_id = rest[1] if len(rest) > 1 and rest[1].lower() != "participants" else None
    if operation_id is None and _entity_type(entity).lower().endswith("operation"):
        operation_id = bounded_text(get_ignoring_case(entity, "id"))
    return canonical_id(operation_id) if operation_id else None


def _entity_type(entity: JsonObject) -> str:
    return (
        graph_spelling((bounded_text(get_ignoring_case(entity, "@odata.type")) or "").rpartition(".")[2].lstrip("#"))
        or ""
    )


def _parse_call_entity(call_id: str, entity: JsonObject, change_type: str) -> Notification:
    """Parse an entity at the call's own URL. It is the call, unless its type says otherwise.

    Graph sends a participantLeftNotification to this URL, also for calls that go on.
    """
    kind = _entity_type(entity)
    if kind.lower() not in {"", "call"}:
        return OtherNotification(call_id, kind, change_type)
    return _call_notification(call_id, entity, change_type == "deleted")


def _call_notification(call_id: str, entity: JsonObject, deleted: bool) -> CallNotification:
    return CallNotification(
        call_id,
        deleted,
        state=graph_spelling(get_ignoring_case(entity, "state", "callState")),  # callState: the name of 2018
        result=parse_result_info(entity),
        termination_reason=bounded_text(get_ignoring_case(entity, "terminationReason"), MAX_WORD_LENGTH),
        direction=graph_spelling(get_ignoring_case(entity, "direction")),
        call_chain_id=bounded_text(get_ignoring_case(entity, "callChainId"), MAX_CONTEXT_LENGTH),
    )


def parse_operation(
    call_id: str, operation_id: str, entity: JsonObject, *, deleted: bool = False
) -> OperationNotification:
    """Read an operation as Graph writes it, in a notification or in its answer to a request.

    Parameters
    ----------
    call_id, operation_id
        In canonical form.
    entity
        The commsOperation. It may be empty.
    deleted
        True if the notification says that the operation is over.
    """
    result = parse_result_info(entity)
    reason_by_subcode = COMPLETION_REASONS.get(result.subcode) if result and result.subcode else None
    return OperationNotification(
        call_id,
        operation_id,
        kind=_entity_type(entity) or "commsOperation",
        deleted=deleted,
        status=graph_spelling(get_ignoring_case(entity, "status")),
        result=result,
        client_context=bounded_text(get_ignoring_case(entity, "clientContext"), MAX_CONTEXT_LENGTH),
        completion_reason=graph_spelling(get_ignoring_case(entity, "completionReason")) or reason_by_subcode,
        recording_location=exact_text(get_ignoring_case(entity, "recordingLocation", "recordResourceLocation")),
        recording_access_token=exact_text(
            get_ignoring_case(entity, "recordingAccessToken", "recordResourceAccessToken")
        ),
    )


def parse_result_info(entity: JsonObject) -> ResultInfo | None:
    """Read the `resultInfo` of a call or an operation. None if it has none, or an empty one.

    If the subcode is missing, it is taken from the DiagCode of the message.
    """
    info = get_ignoring_case(entity, "resultInfo")
    if not isinstance(info, dict):
        return None
    code, raw_code = parse_code(get_ignoring_case(info, "code"))
    subcode, raw_subcode = parse_code(get_ignoring_case(info, "subcode"))
    text = get_ignoring_case(info, "message")
    if subcode is None and raw_subcode is None and isinstance(text, str):
        diagnosis = _DIAG_CODE.search(text)
        subcode, _ = parse_code(diagnosis[1]) if diagnosis else (None, None)
    message = bounded_text(text)
    truncated = message is not None and message != sanitize(text)
    result = ResultInfo(code, subcode, raw_code, raw_subcode, message, truncated)
    return result if result != ResultInfo() else None
