"""The triggers of the relay: its queue, and the timer that finds what the queue has forgotten."""

import azure.functions as func

from shared import telemetry
from shared.errors import safe_message
from shared.services import services
from shared.storage.relay_queue import RELAY_QUEUE_NAME, parse_relay_message

blueprint = func.Blueprint()  # registered only if RELAY_TARGETS is set: without it the host asks no further queue


@blueprint.queue_trigger("message", queue_name=RELAY_QUEUE_NAME, connection="CALLS_STORAGE")
async def relay_queue(message: func.QueueMessage) -> None:
    """Attempt the deliveries of a lane again, or look for overdue ones."""
    try:
        await services().deliverer.handle(parse_relay_message(message.get_body().decode()))
    except Exception as error:
        telemetry.MESSAGE_FAILED(dequeueCount=message.dequeue_count, error=safe_message(error))
        raise


@blueprint.timer_trigger("timer", schedule="30 * * * * *", run_on_startup=False, use_monitor=False)
async def relay_timer(timer: func.TimerRequest) -> None:  # noqa: ARG001 (nothing of the timer is needed)
    """Look for deliveries that are overdue, each minute. If the settings of the relay are wrong, log it."""
    parts = services()
    if parts.outbox_care:
        await parts.outbox_care.run()
    elif parts.settings.relay_fault:
        telemetry.RELAY_OFF(error=parts.settings.relay_fault)
