"""docs/api.md and the README agree with the routes."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func
import httpx
import pytest
from pydantic import BaseModel, JsonValue, TypeAdapter

import function_app
from functions.problems import GRAPH_TIMEOUT, INTERNAL_ERROR, PROBLEM_TYPES, TYPE_PREFIX, problem_response
from functions.routing import ROUTES, Role, Route
from shared import VERSION
from shared.api import continuation_tokens, delivery_views, views
from shared.api.validation import query_names, read_json
from shared.api.views import ExplanationView
from shared.config.settings import load_settings
from shared.domain import notifications
from shared.domain.calls import Status, TerminationSource
from shared.domain.deliveries import DeliveryStatus, parse_delivery_id, sequence_at
from shared.domain.explanation import Context, explain, explain_keep_alive
from shared.domain.scopes import UNRESTRICTED
from shared.errors import GraphError, InvalidRequest, SettingsInvalid, TokenUnavailable
from shared.graph.error_mapping import error_from_response
from shared.graph.recording import RecordRequest
from shared.http_client import Response
from shared.keeping.renewer import REASONS_NOT_ASKED, classify_failure
from shared.relay.event_models import EVENT_MODELS
from shared.storage import paging, wakeup_queue
from shared.storage.rows import delivery_status_key, recent_key, shard_of
from tests.docs.documents import Block, blocks, code, documents, is_ours, read, rows, section

API = read("docs/api.md")
HEADING = re.compile(r"^### (?P<title>(?P<method>[A-Z]+) (?P<path>/api/\S+))$", re.MULTILINE)
OURS = [block for path in documents() if is_ours(path) for block in blocks(path)]
JSON_BLOCKS = [block for block in OURS if block.language == "json"]
SHELL_BLOCKS = [block for block in OURS if block.language == "bash"]
OTHER_JSON = [block for path in documents() if not is_ours(path) for block in blocks(path) if block.language == "json"]


@dataclass(frozen=True, slots=True)
class Curl:
    method: str
    path: str
    query: dict[str, str]
    body: str | None
    typed: bool


def _curls() -> Iterator[Curl]:
    for block in SHELL_BLOCKS:
        text = re.sub(r"\\\n\s*", " ", block.body)
        for command in re.findall(r"^curl (?:'[^']*'|[^'\n])+", text, re.MULTILINE):
            words = shlex.split(command.split(" | ")[0])
            value = dict(pairwise(words))
            given = [word.replace("$KEEPER", "https://keeper").replace("$API", "https://keeper/api") for word in words]
            url = next(word for word in given if "/api/" in word)
            parts = urlsplit(url.replace("<your app>", "app"))
            yield Curl(
                value.get("-X", "GET"),
                parts.path,
                dict(parse_qsl(parts.query)),
                value.get("-d"),
                "content-type: application/json" in words,
            )


def _route_of(curl: Curl) -> Route | None:
    def fits(route: Route) -> bool:
        pattern = "".join(
            "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", route.path)
        )
        return route.method == curl.method and re.fullmatch(f"/api/{pattern}", curl.path) is not None

    found = [route for route in ROUTES if fits(route)]
    return min(found, key=lambda route: route.path.count("{")) if found else None


def _signatures() -> set[str]:
    return {f"{route.method} /api/{route.path}" for route in ROUTES}


def test_the_app_has_routes() -> None:
    assert isinstance(function_app.app, func.FunctionApp)
    assert len(ROUTES) > 10


def test_api_md_has_a_section_for_every_route_and_no_other() -> None:
    assert {found["title"] for found in HEADING.finditer(API)} == _signatures()


def test_the_readme_lists_every_route_and_no_other() -> None:
    table = [row for row in rows(section(read("README.md"), "How a bot uses it")) if len(row) == 3]
    assert {f"{code(method)[0]} {code(path)[0]}" for method, path, _ in table} == _signatures()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_section_has_the_authorization_and_statuses_of_its_route(route: Route) -> None:
    auth, role, answers, errors = rows(section(API, f"{route.method} /api/{route.path}"))[0]
    key = {"function key": func.AuthLevel.FUNCTION}.get(auth, func.AuthLevel.ANONYMOUS)
    assert key is route.auth_level
    assert (auth == "Graph's token") == (route.name == "receive_notifications")
    assert role == (f"`{route.role.value}`" if route.role else "none")
    assert answers == ", ".join(map(str, route.responses))
    assert errors == (", ".join(map(str, sorted(route.errors))) or "none")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_section_names_every_parameter_and_member(route: Route) -> None:
    documented = set(re.findall(r"`(\w+)`", section(API, f"{route.method} /api/{route.path}")))
    wanted = set(query_names(route.query))
    if route.request:
        wanted |= {field.alias or name for name, field in route.request.model_fields.items()}
    assert wanted <= documented


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_section_shows_a_request(route: Route) -> None:
    shown = [found for curl in _curls() if (found := _route_of(curl))]
    assert route in shown or route.name == "receive_notifications"  # Graph sends it: the body is shown


def test_every_status_of_an_error_is_explained() -> None:
    documented = {int(row[0]) for row in rows(section(API, "Errors")) if row[0].isdigit()}
    assert {kind.status for kind in (*(kind for _, kind in PROBLEM_TYPES), GRAPH_TIMEOUT, INTERNAL_ERROR)} == documented
    assert {status for route in ROUTES for status in route.errors} <= documented


def test_each_type_of_problem_is_listed_with_status_and_title() -> None:
    documented = {(code(row[0])[0], int(row[1]), row[2]) for row in rows(section(API, "Types of problems"))}
    kinds = {*(kind for _, kind in PROBLEM_TYPES), GRAPH_TIMEOUT, INTERNAL_ERROR}
    assert documented == {(TYPE_PREFIX + kind.name, kind.status, kind.title) for kind in kinds}


def test_every_role_is_explained() -> None:
    documented = {code(row[0])[0] for row in rows(section(API, "Who may do what"))}
    assert documented == set(Role)


def test_every_answer_of_the_webhook_is_explained() -> None:
    webhook = next(route for route in ROUTES if route.name == "receive_notifications")
    documented = {int(row[0]) for row in rows(section(API, "POST /api/notifications")) if row[0].isdigit()}
    assert documented == {*webhook.responses, *webhook.errors}


@pytest.mark.parametrize("curl", list(_curls()), ids=lambda curl: f"{curl.method} {curl.path}")
def test_a_request_in_the_documents_fits_a_route(curl: Curl) -> None:
    route = _route_of(curl)
    assert route is not None
    assert set(curl.query) <= query_names(route.query)
    if curl.body is not None:
        assert route.request is not None
        assert curl.typed
        read_json(route.request, curl.body.encode(), context="recordResponse")


def test_the_documents_have_json_to_check() -> None:
    assert len(JSON_BLOCKS) > 10


@pytest.mark.parametrize("block", JSON_BLOCKS, ids=lambda block: block.id)
def test_a_json_block_is_written_as_the_code_writes_it(block: Block) -> None:
    documented = json.loads(block.body)
    match block.kind:
        case "notifications":
            assert notifications.parse_notifications(block.body.encode()).faults == ()
        case name if name in EVENT_MODELS:
            event = EVENT_MODELS[name].model_validate(documented)
            assert json.loads(event.model_dump_json(by_alias=True)) == documented
        case "WakeUp":
            assert _as_given(wakeup_queue.parse_wake_up(block.body), documented) == documented
        case name:
            model: type[BaseModel] = getattr(delivery_views if hasattr(delivery_views, name) else views, name)
            shown = TypeAdapter(model).validate_python(documented)
            assert json.loads(shown.model_dump_json(by_alias=True, exclude_none=name == "Problem")) == documented


def test_json_blocks_of_other_documents_are_valid_json() -> None:
    for block in OTHER_JSON:
        json.loads(block.body)


def _as_given(message: wakeup_queue.WakeUp, documented: dict[str, object]) -> dict[str, object]:
    whole: dict[str, object] = json.loads(message.model_dump_json())
    return {name: whole[name] for name in documented}


def test_the_problem_shown_is_the_one_returned() -> None:
    shown = next(block for block in JSON_BLOCKS if block.kind == "Problem")
    with pytest.raises(InvalidRequest) as refused:
        read_json(RecordRequest, b'{"maxRecordDurationInSeconds": 600}', context="recordResponse")
    documented = json.loads(shown.body)
    assert documented["detail"] == str(refused.value)
    assert [(error["pointer"], error["detail"]) for error in documented["errors"]] == list(refused.value.errors)


def test_the_refusal_by_graph_shown_is_the_one_returned() -> None:
    shown = [block for block in JSON_BLOCKS if block.kind == "Problem"][1]
    headers = httpx.Headers({"request-id": json.loads(shown.body)["graphRequestId"]})
    refused = error_from_response(Response(403, headers, b'{"error": {"code": "7505"}}'), datetime.now(UTC))
    assert json.loads(problem_response(refused).get_body()) == json.loads(shown.body)


def test_the_wrong_setting_shown_has_its_message() -> None:
    sick = next(block for block in JSON_BLOCKS if block.kind == "HealthView" and "unhealthy" in block.body)
    with pytest.raises(SettingsInvalid) as refused:
        load_settings({"CALLS_STORAGE": "UseDevelopmentStorage=true", "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *"})
    assert json.loads(sick.body)["checks"]["settings"] == str(refused.value)


def test_the_ends_shown_are_explained_as_in_the_catalogue() -> None:
    by_hand = [block for block in JSON_BLOCKS if block.kind not in EVENT_MODELS]  # those are made by the code
    ends = [end for block in by_hand for end in _ends(json.loads(block.body))]
    assert len(ends) > 2
    for end in ends:
        code_, subcode = end["code"], end["subcode"]
        assert isinstance(code_, int)
        assert isinstance(subcode, int)
        message = end.get("message")
        by = re.fullmatch(r"Hung up through Call Keeper by (.+)\.", str(end["reason"]))
        why = explain(
            code_, subcode, None, str(message) if message else None, Context(hung_up_by=by[1] if by else None)
        )
        documented = (end["reason"], end["category"], end["action"], end["faultOwner"], end["retryable"])
        assert documented == (why.reason, why.category, why.action, why.fault_owner, why.retryable)


def test_the_failing_keep_alive_shown_has_its_explanation() -> None:
    shown = next(block for block in JSON_BLOCKS if block.kind == "CallView" and '"failing": {' in block.body)
    failing = json.loads(shown.body)["lease"]["failing"]
    why = explain_keep_alive(failing["reason"], failing["status"], failing["subcode"])
    assert ExplanationView.model_validate(why).model_dump(by_alias=True) == failing["explanation"]


def test_the_continuation_shown_has_the_format_of_a_real_one() -> None:
    page = json.loads(next(block for block in JSON_BLOCKS if block.kind == "CallList").body)
    last = page["value"][-1]
    key = recent_key(datetime.fromisoformat(last["termination"]["endedAt"]), last["id"])
    position, _, signature = page["continuation"].partition(".")
    assert position == paging._continuation(Status.ENDED, UNRESTRICTED, key)
    assert len(signature) == len(continuation_tokens._mac(b"", position, "function key"))


def test_the_continuation_of_deliveries_shown_has_the_format_of_a_real_one() -> None:
    pages = [json.loads(block.body) for block in JSON_BLOCKS if block.kind == "DeliveryList"]
    page = next(page for page in pages if page["continuation"])
    last = page["value"][-1]
    parsed = parse_delivery_id(last["id"])
    assert parsed == (shard_of(last["callId"]), sequence_at(datetime.fromisoformat(last["receivedAt"])))
    key = delivery_status_key(DeliveryStatus(last["status"]), parsed[1], last["callId"])
    position, _, signature = page["continuation"].partition(".")
    assert position == paging._continuation(last["status"], UNRESTRICTED, key)
    assert len(signature) == len(continuation_tokens._mac(b"", position, "function key"))


def _ends(documented: JsonValue) -> Iterator[dict[str, JsonValue]]:
    """Yield each object with a reason and a subcode, at any depth."""
    if isinstance(documented, list):
        yield from (end for item in documented for end in _ends(item))
    elif isinstance(documented, dict):
        if {"reason", "subcode", "category"} <= documented.keys():
            yield documented
        yield from (end for item in documented.values() for end in _ends(item))


def test_the_version_shown_is_this_one() -> None:
    healths = [json.loads(block.body) for block in JSON_BLOCKS if block.kind == "HealthView"]
    assert {health["version"] for health in healths} == {VERSION}


def test_each_reason_of_a_failing_keep_alive_and_source_is_listed() -> None:
    listed = section(API, "GET /api/calls/{callId}")
    (reasons,) = re.findall(r"^\| `lease\.failing\.reason` \|(.+)\|$", listed, re.MULTILINE)
    (sources,) = re.findall(r"^\| `termination\.source` \|(.+)\|$", listed, re.MULTILINE)
    errors = [kind for kind, _ in PROBLEM_TYPES if issubclass(kind, GraphError)] + GraphError.__subclasses__()
    known = {classify_failure(error("")).reason for error in {*errors, TokenUnavailable, RuntimeError}}
    assert set(re.findall("`([a-zA-Z]+)`", reasons)) == known | REASONS_NOT_ASKED
    assert set(re.findall("`([a-zA-Z]+)`", sources)) == set(TerminationSource)
