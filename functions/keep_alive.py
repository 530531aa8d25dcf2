"""The wake-ups of the keeper: timer, queue, and a sweep on demand."""

from datetime import timedelta

import azure.functions as func

from functions.routing import Caller, Role, Route, endpoint, reply
from shared import telemetry
from shared.api.views import SweepView
from shared.errors import Forbidden, StoreUnavailable, safe_message
from shared.services import services
from shared.storage.store import SHARDS
from shared.storage.wakeup_queue import QUEUE_NAME, parse_wake_up

blueprint = func.Blueprint()

HTTP_BUDGET = timedelta(minutes=3)  # Azure cuts an HTTP request after 230 seconds


@blueprint.timer_trigger("timer", schedule="%KEEP_ALIVE_SCHEDULE%", run_on_startup=False, use_monitor=True)
async def keep_alive_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 (the schedule is all that counts)
    """Renew all active calls."""
    parts = services()
    await parts.keeper.sweep("timer", unless_younger_than=parts.settings.timing.sweep_fresh_for)


@blueprint.queue_trigger("message", queue_name=QUEUE_NAME, connection="CALLS_STORAGE")
async def keep_alive_queue(message: func.QueueMessage) -> None:
    """Do what a wake-up asks for: a shard, a retry, the dead man's switch."""
    try:
        await services().keeper.handle(parse_wake_up(message.get_body().decode()))
    except Exception as error:
        telemetry.MESSAGE_FAILED(dequeueCount=message.dequeue_count, error=safe_message(error))
        raise


@endpoint(
    blueprint,
    Route(
        name="keep_alive_now",
        method="POST",
        path="keep-alive",
        summary="Sweep now",
        description="Renews all active calls at once: for an operator or an outside scheduler.",
        role=Role.MANAGE,
        responses={200: SweepView},
        errors=(400, 401, 403, 500, 503),
    ),
)
async def keep_alive_now(_req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Sweep, whatever the watermarks say."""
    if not caller.scope.is_unrestricted:
        raise Forbidden("A sweep renews the calls of all tenants: it is not for a caller who is bound to some.")
    stats = await services().keeper.sweep("operator", budget=HTTP_BUDGET)
    if stats.failed:
        raise StoreUnavailable(f"{stats.failed} of {SHARDS} shards could not be swept; they are tried again.")
    return reply(SweepView.model_validate(stats))
