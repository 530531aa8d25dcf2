"""Checks from outside: Graph can reach the webhook, and the running host is healthy."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.parse import urlsplit

from doctor.check import check, note
from doctor.finding import Fault, Finding, Severity
from doctor.probe import ConnectionFailed, FailureKind, fetch
from doctor.target import Target
from shared.api.views import HealthView
from shared.http_client import Response

NOT_HTTPS = Fault(
    "webhook-not-https", "The webhook's address is not https. Graph accepts no other callbackUri.", "Use https://."
)
UNREACHABLE = Fault(
    "webhook-unreachable",
    "The webhook cannot be reached from this machine. Without notifications, calls stay establishing.",
    "Start the app, open its network to the internet, or correct the address.",
)
TLS = Fault(
    "webhook-tls",
    "The webhook's certificate is not publicly trusted, or its chain is incomplete.",
    "Serve a certificate of a public authority with all intermediate certificates.",
)
NOT_FOUND = Fault(
    "webhook-not-found",
    "The webhook answers 404: the path is wrong, or the app has 0 functions.",
    "Use the path /api/notifications. If it is right, check the functions (no-functions, import-error).",
)
REDIRECTS = Fault(
    "webhook-redirects",
    "The webhook redirects. A notification is not sent on as a POST with its token.",
    "Give bots the address that it redirects to, or do not redirect /api/notifications.",
)
GUARDED = Fault(
    "webhook-guarded",
    "Easy Auth, a gateway or a network rule in front of the app requires a key or a login, which Graph lacks.",
    "Exempt /api/notifications: Call Keeper verifies Graph's token itself.",
)
NOT_OURS = Fault(
    "webhook-not-ours",
    "The server at the webhook's address is not Call Keeper.",
    "Correct the address, such as https://<app>.azurewebsites.net/api/notifications",
)
BROKEN = Fault(
    "webhook-broken",
    "The webhook answers 5xx: notifications are not stored.",
    "Check /api/health and the app's log. Wrong settings are the usual cause.",
)
HOST_UNREACHABLE = Fault(
    "host-unreachable", "The running host does not answer.", "Start it, or correct --url (without /api)."
)
UNHEALTHY = Fault(
    "host-unhealthy",
    "The running host reports that it cannot work.",
    "Follow its message and the doctor's other findings.",
)
DEGRADED = Fault(
    "host-degraded",
    "The running host reports that shards are not swept, or that calls could not be renewed.",
    "Shards: after a first start wait 15 minutes, otherwise see sweep-stale. Calls: docs/runbook.md, call-at-risk.",
    Severity.WARN,
)


@check(
    "webhook",
    "Can Graph reach the webhook?",
    *(NOT_HTTPS, UNREACHABLE, TLS, NOT_FOUND, REDIRECTS, GUARDED),
    *(NOT_OURS, BROKEN),
)
async def webhook(target: Target) -> AsyncIterator[Finding]:
    """Send an empty POST without a token. The healthy response is Call Keeper's own 401."""
    url = target.webhook
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        yield NOT_HTTPS.found(f"{parts.scheme or 'no scheme'} instead of https")
        return
    try:
        response = await fetch(target.client, url, method="POST")
    except ConnectionFailed as error:
        yield (TLS if error.kind is FailureKind.TLS else UNREACHABLE).found(f"{url}: {error}")
    else:
        yield _finding_of(response) or note("webhook", "it answers 401 to a request without a token, as expected")


@check("health", "Is the running host healthy?", HOST_UNREACHABLE, UNHEALTHY, DEGRADED)
async def health(target: Target) -> AsyncIterator[Finding]:
    """Request /api/health."""
    url = f"{target.url}/api/health"
    try:
        response = await fetch(target.client, url)
    except ConnectionFailed as error:
        yield HOST_UNREACHABLE.found(f"{url}: {error}")
        return
    try:
        view = HealthView.model_validate_json(response.body)
    except ValueError:
        yield HOST_UNREACHABLE.found(f"{url} answers {response.status}, but not as Call Keeper")
        return
    problems = "; ".join(f"{name}: {problem}" for name, problem in view.checks.items() if problem != "ok")
    if view.status == "unhealthy":
        yield UNHEALTHY.found(problems)
    elif view.status == "degraded":
        yield DEGRADED.found(problems)


def _finding_of(response: Response) -> Finding | None:
    is_call_keeper = "problem+json" in response.headers.get("content-type", "")
    match response.status:
        case HTTPStatus.UNAUTHORIZED if is_call_keeper:
            return None
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return GUARDED.found(f"it answers {response.status}, but not as Call Keeper")
        case HTTPStatus.NOT_FOUND:
            return NOT_FOUND.found("it answers 404")
        case status if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return REDIRECTS.found(f"it answers {status}")
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return BROKEN.found(f"it answers {status}")
        case status:
            return NOT_OURS.found(f"it answers {status}, but the response to a request without a token must be 401")
