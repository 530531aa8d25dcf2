"""Checks of Graph: it can be reached, lets the app manage calls, and its clock agrees with the local one."""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from doctor.check import check, note
from doctor.checks_token import check_credential_is_here
from doctor.finding import CannotCheck, Fault, Finding, Severity
from doctor.probe import ConnectionFailed, FailureKind, fetch, proxy_hint
from doctor.target import Target, now
from shared.errors import TokenUnavailable
from shared.graph.error_mapping import error_from_response
from shared.graph.verdict import GraphAction, Verdict, verdict_of
from shared.http_client import Response

CALL_PERMISSIONS = {  # Graph: call-keepAlive page; the ids are the same in all clouds
    "Calls.Initiate.All": "284383ee-7f6e-4e40-a2a8-e85dcb029101",
    "Calls.InitiateGroupCall.All": "4c277553-8a09-487b-8023-29ee378d8324",
    "Calls.JoinGroupCall.All": "f6b49018-60ab-4f81-83bd-22caeabfed2d",
    "Calls.JoinGroupCallAsGuest.All": "fd7ccf6b-3d28-418b-9701-cd10f5cd2fd4",
}
MAX_CLOCK_SKEW = timedelta(seconds=60)

UNREACHABLE = Fault(
    "graph-unreachable",
    "Graph cannot be reached.",
    "Let the app reach Graph's address over https, without a proxy: Call Keeper uses none.",
)
TLS = Fault(
    "graph-tls",
    "Graph's certificate is not trusted: a proxy inspects TLS, or the trusted authorities are wrong.",
    "Exempt Graph from TLS inspection, or set SSL_CERT_FILE to a file that contains the proxy's authority.",
)
NOT_GRAPH = Fault(
    "graph-not-graph",
    "The server at Graph's address is not Graph, but a web page, a redirect or a gateway.",
    "Correct GRAPH_BASE_URL, or remove it to use the cloud's own address.",
)
REFUSED = Fault(
    "graph-token-refused",
    "Graph rejects a new token (401).",
    "Check that GRAPH_CLOUD and GRAPH_BASE_URL name the tenant's cloud: a token is valid in one cloud only.",
)
NO_CONSENT = Fault(
    "graph-no-consent",
    "Graph answers that the app lacks a permission for calls (403, 7504).",
    "Add the application permission Calls.Initiate.All to the app and let an administrator of the tenant consent. "
    "Tokens that were issued before keep their roles for an hour or more.",
)
ROLE = Fault(
    "graph-role-missing",
    "The app has none of the permissions to place or join calls, such as Calls.Initiate.All.",
    "Grant Calls.Initiate.All, or the permission that the bot uses, as an application permission with an "
    "administrator's consent.",
)
TENANT = Fault(
    "graph-tenant-mismatch",
    "Graph answers that token and call belong to different tenants (403, 7505).",
    "Set GRAPH_TENANT_ID to the GUID of the calls' tenant, or register calls with their own tenantId.",
)
FORBIDDEN = Fault(
    "graph-forbidden",
    "Graph refuses the app for another reason (403).",
    "Check that GRAPH_APP_ID is the bot's: only the app that created or answered a call may manage it.",
)
OUTAGE = Fault(
    "graph-trouble",
    "Graph throttles the app or has an outage (429, 5xx).",
    "Wait and try again. Calls outlive short outages.",
    Severity.WARN,
)
CLOCK = Fault(
    "clock-skewed",
    "The local clock differs from Graph's by more than a minute. Tokens and leases depend on it.",
    "Set the clock: turn on time synchronisation (NTP).",
)

_BY_SUBCODE = {7504: NO_CONSENT, 7505: TENANT}


@check("graph", "Can Graph be reached?", UNREACHABLE, TLS)
async def graph(target: Target) -> AsyncIterator[Finding]:
    """Send a request without a token. Graph answers 401."""
    try:
        await fetch(target.client, _unknown_call_url(target))
    except ConnectionFailed as error:
        fault = TLS if error.kind is FailureKind.TLS else UNREACHABLE
        yield fault.found(f"{target.settings.graph_root}: {error}{proxy_hint()}")


@check("permission", "May the app manage calls?", *(NOT_GRAPH, REFUSED, NO_CONSENT, ROLE, TENANT, FORBIDDEN, OUTAGE))
async def permission(target: Target) -> AsyncIterator[Finding]:
    """Request a call that does not exist. The healthy response is 404."""
    check_credential_is_here(target)
    try:
        token = await target.token()
        response = await fetch(target.client, _unknown_call_url(target), token=token)
    except TokenUnavailable:
        raise CannotCheck("no token was issued (see token-…)") from None
    except ConnectionFailed:
        raise CannotCheck("Graph cannot be reached (see graph-…)") from None
    if finding := finding_of(response):
        yield finding
    elif roles_of(token).isdisjoint(CALL_PERMISSIONS):
        yield ROLE.found(f"the token has none of the roles {', '.join(CALL_PERMISSIONS)}")
    else:
        yield note("permission", "Graph answers 404 for a call that does not exist, as expected")


@check("clock", "Does the local clock agree with Graph's?", CLOCK)
async def clock(target: Target) -> AsyncIterator[Finding]:
    """Compare the clock with the Date header of a response.

    The header is compared with the middle between request and response, so that latency does not count.
    """
    before = now()
    try:
        response = await fetch(target.client, _unknown_call_url(target))
    except ConnectionFailed:
        raise CannotCheck("Graph cannot be reached (see graph-…)") from None
    graph_time = _date(response)
    local_time = before + (now() - before) / 2
    skew = abs(local_time - graph_time) - timedelta(seconds=1)  # the header has whole seconds
    if skew > MAX_CLOCK_SKEW:
        direction = "behind" if graph_time > local_time else "ahead of"
        yield CLOCK.found(f"the clock is {skew.total_seconds():.0f} s {direction} Graph's")


def finding_of(response: Response) -> Finding | None:
    """Return the finding for Graph's response about a call that does not exist; None for the healthy 404."""
    error = error_from_response(response, now(), GraphAction.LOOK_UP)
    codes = f"{response.status}{f'/{error.subcode}' if error.subcode else ''}"
    match response.status:
        case status if verdict_of(GraphAction.LOOK_UP, response) is Verdict.NOT_GRAPH:
            redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
            observed = f"a redirect ({status})" if redirected else f"{codes} of another server"
            return NOT_GRAPH.found(f"{observed} instead of a response of the calls API")
        case HTTPStatus.NOT_FOUND:
            return None
        case HTTPStatus.UNAUTHORIZED:
            return REFUSED.found("Graph answers 401 to a new token")
        case HTTPStatus.FORBIDDEN:
            return _BY_SUBCODE.get(error.subcode or 0, FORBIDDEN).found(f"Graph answers {codes}")
        case status if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return OUTAGE.found(f"Graph answers {codes}")
        case _:
            return NOT_GRAPH.found(f"{codes} instead of 404: not a response of the calls API")


def roles_of(token: str) -> frozenset[str]:
    """Return the `roles` of an access token, without verification; none if it cannot be read."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return frozenset(claims.get("roles", ()))
    except (IndexError, ValueError, AttributeError, TypeError):
        return frozenset()


def _unknown_call_url(target: Target) -> str:
    return f"{target.settings.graph_root}/v1.0/communications/calls/{uuid.uuid4()}"


def _date(response: Response) -> datetime:
    try:
        return parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError):
        raise CannotCheck("Graph's response has no Date header") from None
