"""Graph: whether it is within reach, lets the app manage calls, and agrees with the clock."""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from doctor.check import check, fine
from doctor.checks_token import check_credential_is_here
from doctor.finding import CannotCheck, Fault, Finding, Mark
from doctor.patient import Patient, now
from doctor.probe import NoWay, Trouble, look, proxy_hint
from shared.errors import TokenUnavailable
from shared.graph.authenticity import GraphAction, Verdict, verdict_of
from shared.graph.error_mapping import error_from_response
from shared.http_client import Response

PLACE_CALLS = {  # Graph: keepAlive page; the id of each is the same in all clouds
    "Calls.Initiate.All": "284383ee-7f6e-4e40-a2a8-e85dcb029101",
    "Calls.InitiateGroupCall.All": "4c277553-8a09-487b-8023-29ee378d8324",
    "Calls.JoinGroupCall.All": "f6b49018-60ab-4f81-83bd-22caeabfed2d",
    "Calls.JoinGroupCallAsGuest.All": "fd7ccf6b-3d28-418b-9701-cd10f5cd2fd4",
}
MOST_OFF = timedelta(seconds=60)

UNREACHABLE = Fault(
    "graph-unreachable",
    "Graph cannot be reached.",
    "Let the app reach Graph's address over https, without a proxy: Call Keeper uses none.",
)
TLS = Fault(
    "graph-tls",
    "Graph's certificate is not trusted: something on the way opens TLS, or the trusted authorities are wrong.",
    "Exempt Graph from inspection, or let SSL_CERT_FILE name a file with the inspecting authority in it.",
)
NOT_GRAPH = Fault(
    "graph-not-graph",
    "What answers at Graph's address is not Graph: a web page, a redirect, a gateway.",
    "Correct GRAPH_BASE_URL; remove it to reach the cloud's own address.",
)
REFUSED = Fault(
    "graph-token-refused",
    "Graph refuses a token that is fresh (401).",
    "See that GRAPH_CLOUD and GRAPH_BASE_URL are of the tenant's cloud: tokens are not valid across clouds.",
)
NO_CONSENT = Fault(
    "graph-no-consent",
    "Graph says that the app lacks a permission for calls (403, 7504).",
    "Add the application permission Calls.Initiate.All to the app, and have an administrator of the tenant consent. "
    "A token keeps its old roles for an hour or more.",
)
ROLE = Fault(
    "graph-role-missing",
    "The app has none of the permissions that place or join calls: Calls.Initiate.All and its kin.",
    "Grant Calls.Initiate.All, or what the bot uses, as an application permission with an administrator's consent.",
)
TENANT = Fault(
    "graph-tenant-mismatch",
    "Graph says that the token is of another tenant than the call (403, 7505).",
    "Set GRAPH_TENANT_ID to the GUID of the calls' tenant, or register calls with their own tenantId.",
)
FORBIDDEN = Fault(
    "graph-forbidden",
    "Graph refuses the app for another reason (403).",
    "Only the app that created or answered a call may manage it: see that GRAPH_APP_ID is the bot's.",
)
TROUBLE = Fault(
    "graph-trouble",
    "Graph throttles the app, or has trouble itself (429, 5xx).",
    "Wait, and try again; calls are kept through short outages.",
    Mark.WARN,
)
CLOCK = Fault(
    "clock-skewed",
    "The clock here differs from Graph's by more than a minute: tokens and leases are judged by it.",
    "Set the clock: switch time synchronisation (NTP) on.",
)

_OF_403 = {7504: NO_CONSENT, 7505: TENANT}


@check("graph", "Can Graph be reached?", UNREACHABLE, TLS)
async def graph(patient: Patient) -> AsyncIterator[Finding]:
    """Without a token, which Graph answers 401."""
    try:
        await look(patient.client, _a_call(patient))
    except NoWay as error:
        fault = TLS if error.trouble is Trouble.TLS else UNREACHABLE
        yield fault.found(f"{patient.settings.graph_root}: {error}{proxy_hint()}")


@check("permission", "May the app manage calls?", *(NOT_GRAPH, REFUSED, NO_CONSENT, ROLE, TENANT, FORBIDDEN, TROUBLE))
async def permission(patient: Patient) -> AsyncIterator[Finding]:
    """Asks for a call that does not exist: 404 is the healthy answer."""
    check_credential_is_here(patient)
    try:
        token = await patient.token()
        answer = await look(patient.client, _a_call(patient), token=token)
    except TokenUnavailable:
        raise CannotCheck("there is no token (see token-…)") from None
    except NoWay:
        raise CannotCheck("Graph cannot be reached (see graph-…)") from None
    if finding := judged(answer):
        yield finding
    elif roles_of(token).isdisjoint(PLACE_CALLS):
        yield ROLE.found("the token's roles have none of Calls.Initiate.All and its kin")
    else:
        yield fine("permission", "Graph answers 404 for a call that does not exist, as it should")


@check("clock", "Does the clock agree with Graph's?", CLOCK)
async def clock(patient: Patient) -> AsyncIterator[Finding]:
    """By the Date header of an answer; the way there and back counts to neither side."""
    before = now()
    try:
        answer = await look(patient.client, _a_call(patient))
    except NoWay:
        raise CannotCheck("Graph cannot be reached (see graph-…)") from None
    there = _date(answer)
    middle = before + (now() - before) / 2
    off = abs(middle - there) - timedelta(seconds=1)  # the header has whole seconds
    if off > MOST_OFF:
        direction = "behind" if there > middle else "ahead of"
        yield CLOCK.found(f"the clock is {off.total_seconds():.0f} s {direction} Graph's")


def judged(answer: Response) -> Finding | None:
    """What Graph's answer to the question for a call that does not exist means; None for the healthy one."""
    error = error_from_response(answer, now(), GraphAction.LOOK_UP)
    told = f"{answer.status}{f'/{error.subcode}' if error.subcode else ''}"
    match answer.status:
        case status if verdict_of(GraphAction.LOOK_UP, answer) is Verdict.NOT_GRAPH:
            redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
            what = f"a redirect ({status})" if redirected else f"{told} of something on the way"
            return NOT_GRAPH.found(f"{what} instead of an answer of the calls API")
        case HTTPStatus.NOT_FOUND:
            return None
        case HTTPStatus.UNAUTHORIZED:
            return REFUSED.found("Graph answers 401 to a fresh token")
        case HTTPStatus.FORBIDDEN:
            return _OF_403.get(error.subcode or 0, FORBIDDEN).found(f"Graph answers {told}")
        case status if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TROUBLE.found(f"Graph answers {told}")
        case _:
            return NOT_GRAPH.found(f"{told} instead of 404: no answer of the calls API")


def roles_of(token: str) -> frozenset[str]:
    """The `roles` of an access token, unverified; the token itself goes nowhere."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return frozenset(claims.get("roles", ()))
    except (IndexError, ValueError, AttributeError, TypeError):
        return frozenset()


def _a_call(patient: Patient) -> str:
    return f"{patient.settings.graph_root}/v1.0/communications/calls/{uuid.uuid4()}"


def _date(answer: Response) -> datetime:
    try:
        return parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        raise CannotCheck("Graph's answer has no Date") from None
