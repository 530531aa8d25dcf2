"""The messages that wake the keeper: what lies on the queue `keep-alive`, and how it gets there."""

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import InvalidRequest, StoreUnavailable

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

QUEUE = "keep-alive"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # an older version may read a newer one's message


class Sweep(_Message):
    """Sweep all shards, if their watermarks are stale: the dead man's switch, or a request that noticed."""

    kind: Literal["sweep"] = "sweep"
    wake_up: str = "watchdog"


class SweepShard(_Message):
    """Sweep one shard; with `started_at`, carry on a sweep that ran out of time.

    `after` is the place it came to: the deadline and the id of the last call it took.
    """

    kind: Literal["sweepShard"] = "sweepShard"
    shard: int = Field(ge=0)
    started_at: AwareDatetime | None = None
    after: tuple[AwareDatetime, str] | None = None
    renewed: int = 0
    ended: int = 0
    failing: int = 0


class Renew(_Message):
    """Renew one call. With `retry_at` only if that is still the retry its row waits for: others are leftovers."""

    kind: Literal["renew"] = "renew"
    call_id: str
    retry_at: AwareDatetime | None = None


type WakeUp = Sweep | SweepShard | Renew
_ADAPTER: TypeAdapter[WakeUp] = TypeAdapter(Annotated[WakeUp, Field(discriminator="kind")])


def parse(text: str) -> WakeUp:
    """Read a message.

    Raises
    ------
    InvalidRequest
        It is none of ours; it goes to the poison queue.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise InvalidRequest(f"Not a wake-up message: {error.error_count()} faults.") from error


class Queue(Protocol):
    """Where wake-ups are left."""

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> None:
        """Leave a message that becomes visible after `delay`.

        Raises
        ------
        StoreUnavailable
            The queue did not take it.
        """
        ...


class StorageQueue:
    """Queue Storage. The client must encode in base64, as the Functions host expects by default."""

    def __init__(self, client: "QueueClient") -> None:
        self._client = client
        self._exists = False

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> None:
        """See `Queue.send`. Delays are whole seconds, rounded up: a retry that is early would be a leftover."""
        from azure.core.exceptions import AzureError  # noqa: PLC0415 (not at import: every function would pay for it)

        seconds = -(-delay // timedelta(seconds=1))
        try:
            if not self._exists:
                await self._create()
            await self._client.send_message(message.model_dump_json(), visibility_timeout=seconds)
        except AzureError as error:
            raise StoreUnavailable(f"Queue Storage did not take a message ({type(error).__name__}).") from error

    async def _create(self) -> None:
        from azure.core.exceptions import ResourceExistsError  # noqa: PLC0415 (as above)

        with suppress(ResourceExistsError):
            await self._client.create_queue()
        self._exists = True
