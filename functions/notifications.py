"""The route of Graph's webhook. 202 means that the notifications are stored."""

import azure.functions as func

from functions.bodies import check_is_plain_json
from functions.routing import Caller, Route, check_size, endpoint
from shared import telemetry
from shared.domain.notifications import LegacyFormat, RequestIds
from shared.errors import CallKeeperError
from shared.relay.exchange import IncomingRequest
from shared.services import services

MAX_NOTIFICATION_BODY = 4 * 1024 * 1024  # bytes; a roster of 1,000 participants has 2.1 MB
MAX_HOST_BODY = 210 * 1024 * 1024  # the platform's own limit. The handler checks the size, so that it logs a refusal.

blueprint = func.Blueprint()


@endpoint(
    blueprint,
    Route(
        method="POST",
        path="notifications",
        role=None,
        auth_level=func.AuthLevel.ANONYMOUS,
        max_body_bytes=MAX_HOST_BODY,
        hide_details=True,
        responses={202: None, 204: None},
        errors=(400, 401, 403, 413, 415, 500, 503),
    ),
)
async def receive_notifications(req: func.HttpRequest, _caller: Caller) -> func.HttpResponse:
    """Receive Graph's notifications.

    The callbackUri of a bot's calls. The platform does not authenticate this route; Call Keeper verifies Graph's token.
    204 asks Graph to send a legacy notification again in the current format.
    """
    # The cheapest checks come first. The body is parsed only after the token is verified.
    try:
        check_size(req, MAX_NOTIFICATION_BODY)
        check_is_plain_json(req)
        ids = RequestIds.from_headers(req.headers)
        request = IncomingRequest.of(req.headers, req.url)
        result = await services().webhook.receive(req.headers.get("Authorization"), req.get_body(), ids, request)
    except LegacyFormat:
        return func.HttpResponse(status_code=204)
    except CallKeeperError as error:
        telemetry.NOTIFICATIONS_REJECTED(reason=type(error).__name__, detail=str(error))
        telemetry.NOTIFICATIONS.add(outcome=type(error).__name__)
        raise
    response = result.response
    return func.HttpResponse(response.body, status_code=response.status or 202, headers=dict(response.headers))
