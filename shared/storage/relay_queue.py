"""The messages of the relay, and their queue. It is not that of keepAlive, so that a slow bot delays no renewal."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from shared.domain.deliveries import Destination, LaneKey
from shared.errors import InvalidRequest
from shared.storage.wakeup_queue import Message, describe_fault

RELAY_QUEUE_NAME = "relay"


class Deliver(Message):
    """Attempt the deliveries of a lane. `due` is the attempt that its row waits for, or None for any."""

    kind: Literal["deliver"] = "deliver"
    call_id: str
    target: str
    to: str | None = None
    due: AwareDatetime | None = None

    @property
    def lane(self) -> LaneKey:
        """The lane."""
        return LaneKey(self.call_id, Destination(self.target, self.to))


class Look(Message):
    """Look for attempts that are overdue. With a target, attempt all its lanes now: its state has changed."""

    kind: Literal["look"] = "look"
    target: str | None = None


type RelayMessage = Deliver | Look
_ADAPTER: TypeAdapter[RelayMessage] = TypeAdapter(Annotated[RelayMessage, Field(discriminator="kind")])


def deliver_message(lane: LaneKey, due: AwareDatetime | None = None) -> Deliver:
    """Return the message for a lane."""
    return Deliver(call_id=lane.call_id, target=lane.destination.target, to=lane.destination.to, due=due)


def parse_relay_message(text: str) -> RelayMessage:
    """Return the message of a text.

    Raises
    ------
    InvalidRequest
        It is not a message of the relay. It goes to the poison queue.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise InvalidRequest(f"Not a message of the relay: {describe_fault(error, 'deliver, look')}.") from None
