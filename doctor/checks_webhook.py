"""From outside: whether Graph reaches the webhook, and whether the host is well."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.parse import urlsplit

from doctor.check import check, fine
from doctor.finding import Fault, Finding, Mark
from doctor.patient import Patient
from doctor.probe import NoWay, Trouble, look
from shared.api.views import HealthView
from shared.http_client import Response

PLAIN = Fault(
    "webhook-not-https", "The webhook's address is not https: Graph takes no other callbackUri.", "Use https://."
)
UNREACHABLE = Fault(
    "webhook-unreachable",
    "The webhook cannot be reached from here: Graph would tell nothing, and calls stay establishing.",
    "Start the app, open its network to the internet, correct the address.",
)
TLS = Fault(
    "webhook-tls",
    "The webhook's certificate is not one that the public trusts, or its chain is not complete.",
    "Serve a certificate of a public authority with all intermediate certificates.",
)
NOT_FOUND = Fault(
    "webhook-not-found",
    "The webhook answers 404: the path is wrong, or the app has 0 functions.",
    "The path is /api/notifications. If that is so, see that functions are found (no-functions, import-error).",
)
REDIRECTS = Fault(
    "webhook-redirects",
    "The webhook redirects: a notification does not follow as a POST with its token.",
    "Give bots the address where it leads to; do not redirect /api/notifications.",
)
GUARDED = Fault(
    "webhook-guarded",
    "Something in front of the app asks for a key or a login (Easy Auth, a gateway, network rules): Graph has none.",
    "Exempt /api/notifications from it: Call Keeper verifies Graph's token itself.",
)
NOT_OURS = Fault(
    "webhook-not-ours",
    "What answers at the webhook's address is not Call Keeper.",
    "Correct the address: https://<app>.azurewebsites.net/api/notifications",
)
BROKEN = Fault(
    "webhook-broken",
    "The webhook answers 5xx: notifications are not stored.",
    "See /api/health and the log of the app; settings are the usual cause.",
)
HOST_UNREACHABLE = Fault(
    "host-unreachable", "The running host does not answer.", "Start it, or correct --url (without /api)."
)
UNHEALTHY = Fault(
    "host-unhealthy",
    "The running host says of itself that it cannot do its work.",
    "Do what its words say; the doctor's other findings say more.",
)
DEGRADED = Fault(
    "host-degraded",
    "The running host says that shards are not being swept, or that calls could not be renewed.",
    "Shards: wait 15 minutes after a first start, else see sweep-stale. Calls: docs/runbook.md, call-at-risk.",
    Mark.WARN,
)


@check(
    "webhook",
    "Does Graph reach the webhook?",
    *(PLAIN, UNREACHABLE, TLS, NOT_FOUND, REDIRECTS, GUARDED),
    *(NOT_OURS, BROKEN),
)
async def webhook(patient: Patient) -> AsyncIterator[Finding]:
    """Posts nothing, without a token: 401 in Call Keeper's words is the healthy answer."""
    url = patient.webhook
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        yield PLAIN.found(f"{parts.scheme or 'no scheme'} instead of https")
        return
    try:
        answer = await look(patient.client, url, method="POST")
    except NoWay as error:
        yield (TLS if error.trouble is Trouble.TLS else UNREACHABLE).found(f"{url}: {error}")
    else:
        yield _judged(answer) or fine("webhook", "it answers 401 to a request without a token, as it should")


@check("health", "Is the running host well?", HOST_UNREACHABLE, UNHEALTHY, DEGRADED)
async def health(patient: Patient) -> AsyncIterator[Finding]:
    """Asks /api/health."""
    url = f"{patient.url}/api/health"
    try:
        answer = await look(patient.client, url)
    except NoWay as error:
        yield HOST_UNREACHABLE.found(f"{url}: {error}")
        return
    try:
        view = HealthView.model_validate_json(answer.body)
    except ValueError:
        yield HOST_UNREACHABLE.found(f"{url} answers {answer.status}, but not as Call Keeper")
        return
    told = "; ".join(f"{name}: {what}" for name, what in view.checks.items() if what != "ok")
    if view.status == "unhealthy":
        yield UNHEALTHY.found(told)
    elif view.status == "degraded":
        yield DEGRADED.found(told)


def _judged(answer: Response) -> Finding | None:
    ours = "problem+json" in answer.headers.get("content-type", "")
    match answer.status:
        case HTTPStatus.UNAUTHORIZED if ours:
            return None
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return GUARDED.found(f"{answer.status}, but not in Call Keeper's words")
        case HTTPStatus.NOT_FOUND:
            return NOT_FOUND.found("it answers 404")
        case status if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return REDIRECTS.found(f"it answers {status}")
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return BROKEN.found(f"it answers {status}")
        case status:
            return NOT_OURS.found(f"it answers {status}, and a request without a token must be answered 401")
