"""Management routes of the relay: deliveries, replays, and the enabling of a target."""

from typing import TYPE_CHECKING

import azure.functions as func

from functions.calls import CALL_ID
from functions.routing import COMMON_ERRORS, Caller, Parameter, Role, Route, endpoint, reply
from shared.api.delivery_views import DeliveryList, DeliveryView, ReplayCount, delivery_view
from shared.api.requests import TARGET_NAME_PATTERN, ListDeliveriesQuery, ReplayDelivery, ReplaySpan
from shared.api.validation import read_json, read_query
from shared.domain.calls import canonical_id
from shared.domain.deliveries import DELIVERY_ID_PATTERN
from shared.services import services

if TYPE_CHECKING:
    from shared.api.deliveries import Deliveries

blueprint = func.Blueprint()

DELIVERY_ID = Parameter(
    "deliveryId", "path", "The id of the delivery.", {"type": "string", "pattern": f"^{DELIVERY_ID_PATTERN}$"}
)
TARGET_NAME = Parameter(
    "name", "path", "The name of the target in RELAY_TARGETS.", {"type": "string", "pattern": TARGET_NAME_PATTERN}
)


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="calls/{callId}/deliveries",
        parameters=(CALL_ID,),
        responses={200: DeliveryList},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def list_deliveries_of_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """List the deliveries of a call.

    Oldest first, without bodies.
    """
    found = await _deliveries(caller).list_of_call(canonical_id(req.route_params["callId"]))
    return reply(DeliveryList(value=[delivery_view(each) for each in found], continuation=None))


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="deliveries",
        query=ListDeliveriesQuery,
        responses={200: DeliveryList},
        errors=COMMON_ERRORS,
    ),
)
async def list_deliveries(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """List deliveries by status.

    Newest first, without bodies.
    """
    query = read_query(ListDeliveriesQuery, req.params)
    page = await _deliveries(caller).list_page(query.status, query.limit, query.continuation, caller.name)
    views = [delivery_view(each) for each in page.deliveries]
    return reply(DeliveryList(value=views, continuation=page.continuation))


@endpoint(
    blueprint,
    Route(
        method="POST",
        path="deliveries/{deliveryId}/replay",
        role=Role.MANAGE,
        request=ReplayDelivery,
        parameters=(DELIVERY_ID,),
        responses={202: DeliveryView},
        errors=(*COMMON_ERRORS, 404, 409, 413, 415),
    ),
)
async def replay_delivery(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Replay a dead or disabled delivery.

    It is attempted again with the same id, even at a destination that is switched off. 409 if its body is gone, or if
    a later delivery of the same call was delivered and force is not true.
    """
    body = read_json(ReplayDelivery, req.get_body() or b"{}")
    replayed = await _deliveries(caller).replay(req.route_params["deliveryId"], force=bool(body.force))
    return reply(delivery_view(replayed), 202)


@endpoint(
    blueprint,
    Route(
        method="POST",
        path="deliveries/replay",
        role=Role.MANAGE,
        request=ReplaySpan,
        responses={202: ReplayCount},
        errors=(*COMMON_ERRORS, 404, 413, 415),
    ),
)
async def replay_span(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Replay all dead and disabled deliveries to a target that were received in a span of time.

    Those without a body are left out. So are those behind a later delivery that was delivered, unless force is true.
    """
    body = read_json(ReplaySpan, req.get_body() or b"{}")
    deliveries = _deliveries(caller)
    count = await deliveries.replay_span(body.target, body.first, body.last, force=bool(body.force))
    return reply(ReplayCount(count=count), 202)


@endpoint(
    blueprint,
    Route(
        method="POST",
        path="relay/targets/{name}/enable",
        role=Role.MANAGE,
        parameters=(TARGET_NAME,),
        responses={202: ReplayCount},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def enable_target(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Switch a target on again that answered 410.

    Its disabled deliveries become pending, in order. Safe to repeat.
    """
    return reply(ReplayCount(count=await _deliveries(caller).enable(req.route_params["name"])), 202)


def _deliveries(caller: Caller) -> "Deliveries":
    return services().deliveries.scoped_to(caller.scope)
