"""The wake-up messages of the keeper, and the queue `keep-alive` that holds them."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import InvalidRequest, StoreUnavailable
from shared.storage.rows import SHARDS

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

QUEUE_NAME = "keep-alive"
# After it becomes visible: two leases. By then no call depends on it. Without a limit messages would pile up for the
# seven days that Queue Storage keeps them.
MESSAGE_LIFETIME = timedelta(minutes=90)
SEND_TIMEOUT = timedelta(seconds=10)  # for one message with its retries: a request or a sweep waits for it


class Message(BaseModel):
    """A message. `kind` separates the messages of one queue."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # an older version may read the message of a newer one

    kind: str
    put_back: int = 0  # how often it was sent again because the store was unavailable


class Sweep(Message):
    """Sweep all shards, if their watermarks are stale. The watchdog sends it, or a request that found a stale shard.

    A watchdog message says when it is `due`. If it is due before the last one that was sent, it is a leftover.
    """

    kind: Literal["sweep"] = "sweep"
    wake_up: str = "watchdog"
    due: AwareDatetime | None = None


class SweepShard(Message):
    """Sweep one shard, or continue a sweep of it that ran out of time. The row `active-progress` has its position."""

    kind: Literal["sweepShard"] = "sweepShard"
    shard: int = Field(ge=0, lt=SHARDS)


class Renew(Message):
    """Renew one call. With `retry_at`, only if the row of the call still waits for this retry: others are leftovers."""

    kind: Literal["renew"] = "renew"
    call_id: str
    retry_at: AwareDatetime | None = None


type WakeUp = Sweep | SweepShard | Renew
_ADAPTER: TypeAdapter[WakeUp] = TypeAdapter(Annotated[WakeUp, Field(discriminator="kind")])


def parse_wake_up(text: str) -> WakeUp:
    """Return the message of a text.

    Raises
    ------
    InvalidRequest
        It is not a wake-up message. It goes to the poison queue.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise InvalidRequest(
            f"Not a wake-up message: {describe_fault(error, 'sweep, sweepShard, renew')}."
        ) from None  # the cause has its text


def describe_fault(error: ValidationError, kinds: str) -> str:
    """Return the first fault of a message, without its text, which may hold anything. `kinds` lists the valid ones."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    match first["type"]:
        case "json_invalid":
            return "it is no JSON"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"its kind is none of {kinds}"
        case _:
            where = ".".join(str(part) for part in first["loc"][1:])
            return f"{where or 'it'} is missing or wrong"


class MessageQueue[M: Message](Protocol):
    """A queue of messages of one type."""

    async def send(self, message: M, delay: timedelta = timedelta()) -> None:
        """Send a message that becomes visible after `delay`.

        Raises
        ------
        StoreUnavailable
            The queue did not accept it.
        """
        ...


class StorageQueue:
    """A queue of Queue Storage. The client must encode in base64, as the Functions host expects by default."""

    def __init__(self, client: "QueueClient") -> None:
        self._client = client

    async def send(self, message: Message, delay: timedelta = timedelta()) -> None:
        """Send a message. The delay is rounded up to whole seconds. Raises `StoreUnavailable`."""
        seconds = -(-delay // timedelta(seconds=1))
        await self._with_timeout(self._send_or_create(message.model_dump_json(), seconds))

    async def ping(self) -> None:
        """Check that the queue answers, for the health route. Raises `StoreUnavailable`."""
        await self._with_timeout(self._read_properties())

    async def _with_timeout(self, work: Awaitable[None]) -> None:
        """Await `work`. Any exception counts as an outage, because the SDK raises all kinds for unexpected answers."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                await work
        except Exception as error:
            raise StoreUnavailable(f"Queue Storage did not do as it was asked ({type(error).__name__}).") from error

    async def _read_properties(self) -> None:
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 (loads when it is needed)

        with suppress(ResourceNotFoundError):  # it is created with the first message
            await self._client.get_queue_properties()

    async def _send_or_create(self, text: str, seconds: int) -> None:
        """Send a message. If the queue does not exist, create it first."""
        from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError  # noqa: PLC0415 (as above)

        try:
            await self._send_message(text, seconds)
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):
                await self._client.create_queue()
            await self._send_message(text, seconds)

    async def _send_message(self, text: str, seconds: int) -> None:
        time_to_live = seconds + int(MESSAGE_LIFETIME.total_seconds())
        await self._client.send_message(text, visibility_timeout=seconds, time_to_live=time_to_live)
