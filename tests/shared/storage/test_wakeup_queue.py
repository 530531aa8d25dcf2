"""Wake-ups on Queue Storage: the messages, their delays, and a queue that is not there."""

import asyncio
import base64
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from aiohttp import web
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from shared.clock import SystemClock
from shared.config.settings import load_settings
from shared.errors import InvalidRequest, StoreUnavailable
from shared.services import Services
from shared.storage.wakeup_queue import (
    MESSAGE_LIFETIME,
    QUEUE_NAME,
    Renew,
    StorageQueue,
    Sweep,
    SweepShard,
    WakeUp,
    parse_wake_up,
)

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 3, 2, 8, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def client(azurite: str) -> AsyncIterator[QueueClient]:
    """A queue of this test's own, not made yet."""
    name = f"test-{uuid4()}"
    async with QueueClient.from_connection_string(
        azurite, name, message_encode_policy=TextBase64EncodePolicy()
    ) as made:
        yield made
        with suppress(ResourceNotFoundError):
            await made.delete_queue()


async def texts(client: QueueClient) -> list[str]:
    """Return the texts of all visible messages."""
    return [message.content async for message in client.receive_messages(max_messages=32)]


@pytest.mark.parametrize(
    "message",
    [Sweep(), Sweep(wake_up="request"), SweepShard(shard=15), Renew(call_id="x"), Renew(call_id="x", retry_at=NOW)],
    ids=["sweep", "sweep of a request", "sweep of the last shard", "renewal", "retry"],
)
def test_a_message_is_read_as_it_was_written(message: WakeUp) -> None:
    assert parse_wake_up(message.model_dump_json()) == message


def test_members_that_a_newer_version_added_are_ignored() -> None:
    assert parse_wake_up('{"kind": "sweep", "surprise": 1}') == Sweep()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it is no JSON"),
        ("\x00", "it is no JSON"),
        ("{}", "its kind is none of sweep, sweepShard, renew"),
        ('{"kind": "dance"}', "its kind is none of sweep, sweepShard, renew"),
        ("[]", "it is missing or wrong"),
        ('{"kind": "sweepShard", "shard": -1}', "shard is missing or wrong"),
        ('{"kind": "renew"}', "call_id is missing or wrong"),
    ],
    ids=["empty", "no JSON", "no kind", "unknown kind", "no object", "shard below 0", "no call"],
)
def test_what_is_no_message_of_ours_is_refused_with_the_fault_and_without_its_content(text: str, fault: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_wake_up(text)
    assert str(caught.value) == f"Not a wake-up message: {fault}."
    assert caught.value.__cause__ is None
    assert "dance" not in "".join(traceback.format_exception(caught.value))


async def test_the_queue_is_made_by_the_first_message_in_base64(client: QueueClient) -> None:
    await StorageQueue(client).send(Renew(call_id="😀"))
    (text,) = await texts(client)
    assert parse_wake_up(base64.b64decode(text).decode()) == Renew(call_id="😀")


async def test_a_queue_that_is_there_already_is_used(client: QueueClient) -> None:
    await client.create_queue()
    queue = StorageQueue(client)
    await asyncio.gather(*(queue.send(Sweep()) for _ in range(5)))
    assert len(await texts(client)) == 5


async def test_a_queue_that_was_deleted_is_made_again(client: QueueClient) -> None:
    queue = StorageQueue(client)
    await queue.send(Sweep())
    await client.delete_queue()
    await queue.send(Renew(call_id="x"))
    assert len(await texts(client)) == 1


async def test_a_delay_hides_a_message_never_for_less_than_was_asked(client: QueueClient) -> None:
    queue = StorageQueue(client)
    await queue.send(Sweep(), timedelta(milliseconds=1200))
    sent = time.monotonic()
    assert await texts(client) == []
    while not await texts(client):
        assert time.monotonic() - sent < 10
        await asyncio.sleep(0.1)
    assert time.monotonic() - sent >= 1.1


async def test_a_queue_that_cannot_be_reached_is_unavailable_soon() -> None:
    connection = (
        "AccountName=devstoreaccount1;AccountKey=c2VjcmV0;DefaultEndpointsProtocol=http;"
        "QueueEndpoint=http://127.0.0.1:9/devstoreaccount1;TableEndpoint=http://127.0.0.1:9/devstoreaccount1"
    )
    env = {
        "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
        "GRAPH_APP_ID": str(uuid4()),
        "CALLS_STORAGE": connection,
    }
    queue = Services(load_settings(env), SystemClock()).queue
    async with asyncio.timeout(30):  # the SDK by itself tries for more than a minute
        with pytest.raises(StoreUnavailable, match="Queue Storage") as caught:
            await queue.send(Sweep())
    assert "c2VjcmV0" not in str(caught.value)
    await queue._client.close()


async def test_a_queue_that_never_answers_is_unavailable_in_time(
    serve: Callable[..., Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    address = await serve(silent)
    monkeypatch.setattr("shared.storage.wakeup_queue.SEND_TIMEOUT", timedelta(seconds=0.3))
    connection = f"AccountName=a;AccountKey=c2VjcmV0;QueueEndpoint={address}/a;TableEndpoint={address}/a"
    env = {
        "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
        "GRAPH_APP_ID": str(uuid4()),
        "CALLS_STORAGE": connection,
    }
    queue = Services(load_settings(env), SystemClock()).queue
    with pytest.raises(StoreUnavailable):
        await queue.send(Sweep())
    await queue._client.close()


def test_the_name_of_the_queue_is_one_that_storage_takes() -> None:
    assert QUEUE_NAME == "keep-alive"


async def test_a_message_ends_some_time_after_it_was_to_come_however_late_that_is(client: QueueClient) -> None:
    queue = StorageQueue(client)
    await queue.send(Sweep())
    await queue.send(Sweep(), 2 * MESSAGE_LIFETIME)
    found = [message async for message in client.receive_messages()]
    assert len(found) == 1
    assert found[0].expires_on
    assert found[0].inserted_on
    assert found[0].expires_on - found[0].inserted_on == MESSAGE_LIFETIME
