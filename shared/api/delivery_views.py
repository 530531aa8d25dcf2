"""Models of the relay's responses, and the function that makes them of deliveries. None of them has a body."""

from datetime import timedelta

from pydantic import Field

from shared.domain.deliveries import Attempt, Delivery, DeliveryStatus
from shared.model import Model, Moment

_MILLISECOND = timedelta(milliseconds=1)


class AttemptView(Model):
    """One attempt to deliver, or an error without an attempt."""

    at: Moment
    status: int | None = Field(description="The HTTP status of the bot's answer; null without an answer.")
    error: str | None = Field(description="The reason if there was no answer, or if the delivery was given up.")
    latency_ms: int = Field(description="Duration of the attempt in milliseconds; 0 if nothing was sent.")


class DeliveryView(Model):
    """A delivery: one request of Graph, or one event, for one destination. Its body is never shown."""

    id: str = Field(description="The `webhook-id` of all its attempts.")
    call_id: str | None = Field(description="The call. Null if the body is about several calls: see callIds.")
    call_ids: list[str] | None = Field(description="The calls, if the body is about several; otherwise null.")
    target: str = Field(description="The name of the target in RELAY_TARGETS.")
    to: str | None = Field(description="The bot's instance, if the URL of the target has `{to}`.")
    type: str = Field(description="notification, or the type of the event.")
    status: DeliveryStatus
    attempts: list[AttemptView] = Field(description="The first attempt and the latest ones, oldest first.")
    received_at: Moment
    delivered_at: Moment | None
    next_attempt_at: Moment | None = Field(
        description="While pending; null while it is attempted, or waits for a delivery before it."
    )


class DeliveryList(Model):
    """A page of deliveries."""

    value: list[DeliveryView]
    continuation: str | None = Field(description="The parameter that asks for the next page; null on the last.")


class ReplayCount(Model):
    """The result of a request that makes deliveries pending again."""

    count: int = Field(description="The number of deliveries that are pending again.")


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Return the view of a delivery."""
    is_of_one_call = len(delivery.call_ids) == 1
    is_pending = delivery.status is DeliveryStatus.PENDING
    return DeliveryView(
        id=delivery.id,
        call_id=delivery.call_id if is_of_one_call else None,
        call_ids=None if is_of_one_call else list(delivery.call_ids),
        target=delivery.destination.target,
        to=delivery.destination.to,
        type=delivery.type,
        status=delivery.status,
        attempts=[_attempt_view(attempt) for attempt in delivery.attempts],
        received_at=delivery.received_at,
        delivered_at=delivery.delivered_at,
        next_attempt_at=delivery.next_attempt_at if is_pending else None,
    )


def _attempt_view(attempt: Attempt) -> AttemptView:
    latency_ms = round(attempt.latency / _MILLISECOND)
    return AttemptView(at=attempt.at, status=attempt.status, error=attempt.error, latency_ms=latency_ms)
