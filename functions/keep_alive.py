"""The triggers of sweeps: the timer, the queue, and the route of an operator."""

from datetime import timedelta

import azure.functions as func

from functions.routing import COMMON_ERRORS, Caller, Role, Route, endpoint, reply
from shared import telemetry
from shared.api.views import SweepView
from shared.errors import Forbidden, StoreUnavailable, safe_message
from shared.services import services
from shared.storage.store import SHARDS
from shared.storage.wakeup_queue import QUEUE_NAME, parse_wake_up

blueprint = func.Blueprint()

HTTP_BUDGET = timedelta(minutes=3)  # Azure ends an HTTP request after 230 seconds


@blueprint.timer_trigger("timer", schedule="%KEEP_ALIVE_SCHEDULE%", run_on_startup=False, use_monitor=True)
async def keep_alive_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 (nothing of the timer is needed)
    """Renew all active calls."""
    parts = services()
    await parts.keeper.sweep("timer", unless_younger_than=parts.settings.timing.sweep_fresh_for)


@blueprint.queue_trigger("message", queue_name=QUEUE_NAME, connection="CALLS_STORAGE")
async def keep_alive_queue(message: func.QueueMessage) -> None:
    """Handle a wake-up: sweep a shard, retry a call, or do what the watchdog asks for."""
    try:
        await services().keeper.handle(parse_wake_up(message.get_body().decode()))
    except Exception as error:
        telemetry.MESSAGE_FAILED(dequeueCount=message.dequeue_count, error=safe_message(error))
        raise


@endpoint(
    blueprint,
    Route(
        method="POST",
        path="keep-alive",
        role=Role.MANAGE,
        responses={200: SweepView},
        errors=COMMON_ERRORS,
    ),
)
async def keep_alive_now(_req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Sweep now.

    Renews all active calls, even if their shards were swept just now: for an operator or an external scheduler.
    """
    if not caller.scope.is_unrestricted:
        raise Forbidden(
            "A sweep renews the calls of all tenants. A caller that is bound to some calls may not start it."
        )
    stats = await services().keeper.sweep("operator", budget=HTTP_BUDGET)
    if stats.failed:
        raise StoreUnavailable(f"{stats.failed} of {SHARDS} shards could not be swept. They will be retried.")
    return reply(SweepView.model_validate(stats))
