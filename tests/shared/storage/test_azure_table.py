"""Table Storage when it is away, slow, refuses, dies half way or answers nonsense."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from azure.core.async_paging import AsyncItemPaged
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.settings import settings as azure_settings
from azure.data.tables import TableEntity, TableItem, UpdateMode
from azure.data.tables.aio import TableClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from local.stack.azurite import ACCOUNT, KEY
from shared.domain.calls import Call, Operation, Status
from shared.domain.leases import WatchdogState, Watermark
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage import azure_table
from shared.storage.azure_table import CLIENT_OPTIONS, AzureTable, ClientOptions
from shared.storage.row_codec import to_row
from shared.storage.rows import SIGNING_KEY_ROW, active_key
from shared.storage.store import SHARDS, CallStore, Change, shard_of, update
from shared.storage.table import Create
from tests.support.stores import NOW, SECOND, create, ended, leases, make_call, notified, read, some_ids, where

ONE_TRY: ClientOptions = {**CLIENT_OPTIONS, "retry_total": 0, "retry_backoff_factor": 0}


class Faulty(TableClient):
    """Dies, or lets somebody in, at the transaction of a number: before it, or after it when the answer is lost."""

    fail_at: int | None = None
    answer_lost = False
    before_each: Callable[[int], Awaitable[None]] | None = None
    between_reads: Callable[[], Awaitable[None]] | None = None  # after the next query, before its rows are seen
    transactions = 0
    reads = 0
    tables_made = 0

    async def create_table(self, **kwargs: object) -> TableItem:
        self.tables_made += 1
        return await super().create_table(**kwargs)

    # The SDK's own signature says Any; a test passes on what it gets.
    async def submit_transaction(self, operations: Iterable[object], **kwargs: object) -> list[Mapping[str, object]]:  # type: ignore[override]
        number, self.transactions = self.transactions, self.transactions + 1
        if self.before_each:
            await self.before_each(number)
        if self.fail_at == number and not self.answer_lost:
            raise ServiceRequestError("gone")
        answer: list[Mapping[str, object]] = await super().submit_transaction(operations, **kwargs)  # type: ignore[arg-type]  # as above
        if self.fail_at == number:
            raise ServiceResponseError("gone")
        return answer

    def query_entities(self, query_filter: str, **kwargs: object) -> AsyncItemPaged[TableEntity]:
        self.reads += 1
        found = super().query_entities(query_filter, **kwargs)  # type: ignore[arg-type]  # as above
        hook, self.between_reads = self.between_reads, None
        return found if hook is None else _Hooked(found, hook)


class _Hooked(AsyncItemPaged[TableEntity]):
    """Rows that were read before somebody else wrote."""

    def __init__(self, found: AsyncItemPaged[TableEntity], hook: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._found = found
        self._hook = hook

    async def __anext__(self) -> TableEntity:
        row = await anext(self._found, None)
        await self._hook()
        if row is None:
            raise StopAsyncIteration
        return row


@pytest.fixture
async def client(azurite: str) -> AsyncIterator[Faulty]:
    made = Faulty.from_connection_string(azurite, f"calls{uuid4().hex}", **CLIENT_OPTIONS)
    assert isinstance(made, Faulty)
    async with made:
        yield made


@pytest.fixture
def store(client: Faulty) -> CallStore:
    return CallStore(AzureTable(client))


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[CallStore]:
    """A store on a server that gives this answer to all, or none at all, ever."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65_536)
            if answer is None:
                await gone.wait()
            else:
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, client_at(server.sockets[0].getsockname()[1]) as client:
        yield CallStore(AzureTable(client))
        gone.set()


def client_at(port: int, options: ClientOptions = ONE_TRY, key: str = KEY) -> TableClient:
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};"
        f"TableEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    )
    return TableClient.from_connection_string(connection, "calls", **options)


def http(status: str, body: str, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


async def refusals(store: CallStore) -> list[str]:
    """Return the error message of each kind of request."""
    said = []
    for request in (
        store.get("call"),
        store.commit(Change(None, make_call())),
        store.put_watermark(0, Watermark(NOW, NOW)),
        store.list_calls(Status.ACTIVE),
        store.list_events("call"),
        store.purge(0, NOW, 10),
        store.get_watermark(0),
        anext(store.scan(0)),
    ):
        with pytest.raises(StoreUnavailable) as refused:
            await request
        said.append(str(refused.value))
    return said


async def test_the_table_is_made_once_on_first_use_by_many_at_once(store: CallStore, client: Faulty) -> None:
    assert await asyncio.gather(*(store.get_watermark(shard) for shard in range(SHARDS))) == [None] * SHARDS
    await store.get_watermark(0)
    assert client.tables_made == 1


async def test_a_table_that_was_deleted_is_no_empty_one_and_is_made_again(store: CallStore, client: Faulty) -> None:
    await create(store, make_call())
    await client.delete_table()
    with pytest.raises(StoreUnavailable, match="TableNotFound"):
        await store.get("call")
    assert await store.get("call") is None
    await client.delete_table()
    with pytest.raises(StoreUnavailable, match="TableNotFound"):
        await store.commit(Change(None, make_call()))
    await create(store, make_call())
    assert (await read(store)).value == make_call()


async def test_a_table_that_exists_is_not_created_again(store: CallStore, client: Faulty, azurite: str) -> None:
    await create(store, make_call())
    async with Faulty.from_connection_string(azurite, client.table_name, **CLIENT_OPTIONS) as another:
        assert isinstance(another, Faulty)
        assert (await read(CallStore(AzureTable(another)))).value == make_call()
        assert another.tables_made == 0


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that the store makes, and those that the SDK would make if it were let."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    azure_settings.tracing_enabled.set_value(True)
    yield exporter
    azure_settings.tracing_enabled.unset_value()


async def test_what_healthy_traffic_asks_is_no_failure(
    store: CallStore, client: Faulty, spans: InMemorySpanExporter
) -> None:
    assert await store.get("call") is None  # neither row, nor the table
    await create(store, make_call())
    before = await read(store)
    await store.commit(Change(before, make_call(ticket="1")))
    with pytest.raises(StoreConflict):
        await store.commit(Change(before, make_call(ticket="2")))
    found = spans.get_finished_spans()
    operations = [span.name.removesuffix(f" {client.table_name}") for span in found]
    # The last query reads back whether the write that was refused is on record all the same.
    assert operations == ["query", "query", "write", "query", "write", "write", "query"]
    assert {span.status.status_code for span in found} == {StatusCode.UNSET}
    attributes = found[0].attributes or {}
    assert attributes["db.system.name"] == "azure.tables"
    assert attributes["db.namespace"] == ACCOUNT


async def test_storage_that_is_away_is_a_failure_without_an_exceptions_text(spans: InMemorySpanExporter) -> None:
    async with answering(http("503 Busy", "{}")) as store:
        with pytest.raises(StoreUnavailable):
            await store.get_watermark(0)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert not span.events


async def test_more_calls_than_one_answer_holds_are_all_scanned(store: CallStore, client: Faulty) -> None:
    ids = some_ids(11, 1_050)
    table = AzureTable(client)
    for start in range(0, len(ids), 100):
        writes = [Create(active_key(call_id), to_row(make_call(call_id))) for call_id in ids[start : start + 100]]
        await table.write(11, writes)
    assert [lease.call_id for lease in await leases(store, 11)] == ids


async def test_an_end_whose_answer_was_lost_is_done_once(store: CallStore, client: Faulty) -> None:
    await create(store, make_call())
    client.transactions, client.fail_at, client.answer_lost = 0, 0, True
    for _ in range(2):
        after = await update(store, "call", lambda call: (ended(call or make_call()), (notified("ended"),)))
        assert after == ended(make_call())
    assert await where(store, "call") == [Status.ENDED]
    assert [event.kind for event in await store.list_events("call")] == ["firstSeen", notified("ended").kind]


async def test_news_are_written_by_one_request(store: CallStore, client: Faulty) -> None:
    await create(store, make_call())
    before = await read(store)
    client.transactions = client.reads = 0
    await store.commit(Change(before, make_call(ticket="1"), (notified("state"),)))
    assert (client.transactions, client.reads) == (1, 0)


async def test_a_row_alone_is_written_without_a_transaction(store: CallStore, client: Faulty) -> None:
    await create(store, make_call())
    before = await read(store)
    client.transactions = client.reads = 0
    await store.commit(Change(before, make_call(ticket="1")))
    await store.put_watchdog_state(WatchdogState(NOW))
    assert (client.transactions, client.reads) == (0, 0)
    assert (await read(store)).value == make_call(ticket="1")
    assert await store.get_watchdog_state() == WatchdogState(NOW)


@pytest.mark.parametrize(
    "lost_to", [lambda call: replace(call, state="ringing"), ended], ids=["another state", "the end of the call"]
)
async def test_a_row_alone_that_somebody_wrote_meanwhile_is_a_conflict(
    store: CallStore, client: Faulty, lost_to: Callable[[Call], Call]
) -> None:
    await create(store, make_call())
    before = await read(store)
    await store.commit(Change(before, lost_to(make_call())))
    client.transactions = 0
    with pytest.raises(StoreConflict):
        await store.commit(Change(before, make_call(ticket="1")))
    assert client.transactions == 0


async def test_a_row_alone_in_a_table_that_was_deleted_is_no_conflict(store: CallStore, client: Faulty) -> None:
    await create(store, make_call())
    before = await read(store)
    await client.delete_table()
    with pytest.raises(StoreUnavailable, match="TableNotFound"):
        await store.commit(Change(before, make_call(ticket="1")))
    await create(store, make_call())


async def test_what_was_told_before_is_read_and_not_written(store: CallStore, client: Faulty) -> None:
    await store.commit(Change(None, make_call(), (notified("state"),)))
    before = await read(store)
    client.transactions = client.reads = 0
    await store.commit(Change(before, make_call(), (notified("state", NOW + SECOND),)))
    assert (client.transactions, client.reads) == (0, 1)


async def test_storage_is_asked_without_the_environments_proxies(
    store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    await create(store, make_call())
    assert (await read(store)).value == make_call()


async def test_a_call_that_ends_while_it_is_looked_for_is_found(store: CallStore, client: Faulty) -> None:
    await create(store, make_call())
    known = await read(store)

    async def end() -> None:
        await store.commit(Change(known, ended(make_call())))

    client.between_reads = end
    assert (await read(store)).value.id == "call"
    assert (await read(store)).value == ended(make_call())


async def rows_left(client: TableClient) -> list[str]:
    return [row["RowKey"] async for row in client.list_entities(select=["RowKey"])]


@pytest.mark.parametrize("answer_lost", [False, True], ids=["request lost", "answer lost"])
async def test_a_purge_that_dies_anywhere_is_finished_by_the_next(
    store: CallStore, client: Faulty, *, answer_lost: bool
) -> None:
    client.answer_lost = answer_lost
    operations = tuple((None, Operation(f"o-{number}", "call", "record", "completed", NOW)) for number in range(60))
    for dies_at in range(3):  # two batches of events and operations, then the state
        client.fail_at = None
        await store.commit(Change(None, make_call(), tuple(notified("state", n=str(n)) for n in range(30)), operations))
        await store.commit(
            Change(await read(store), ended(make_call()), tuple(notified("more", n=str(n)) for n in range(60)))
        )
        client.transactions, client.fail_at = 0, dies_at
        with pytest.raises(StoreUnavailable):
            await store.purge(shard_of("call"), NOW + SECOND, 10)
        assert client.transactions == dies_at + 1
        client.fail_at = None
        done = answer_lost and dies_at == 2
        assert await where(store, "call") == ([] if done else [Status.ENDED])
        assert await store.purge(shard_of("call"), NOW + SECOND, 10) == (0 if done else 1)
        assert await rows_left(client) == []


async def test_a_call_that_is_told_of_while_it_is_purged_stays_until_the_next(store: CallStore, client: Faulty) -> None:
    await store.commit(Change(None, ended(make_call()), (notified("state"),)))
    late = await read(store)

    async def notify(number: int) -> None:
        if number == 1:  # the events are gone, the state is not
            client.before_each = None
            await store.commit(Change(late, late.value, (notified("late"),)))

    client.transactions, client.before_each = 0, notify
    assert await store.purge(shard_of("call"), NOW + SECOND, 10) == 0
    assert (await read(store)).value == late.value
    assert {event.kind for event in await store.list_events("call")} == {"firstSeen", "late"}
    assert await store.purge(shard_of("call"), NOW + SECOND, 10) == 1
    assert await rows_left(client) == []


async def test_two_purges_at_once_delete_a_call_once(store: CallStore, client: Faulty) -> None:
    ids = some_ids(1, 6)
    await create(store, *(ended(make_call(call_id)) for call_id in ids))
    counts = await asyncio.gather(*(store.purge(1, NOW + SECOND, 10) for _ in range(3)))
    assert sum(counts) == 6
    assert await rows_left(client) == []


@pytest.mark.parametrize("key", ["no hex", "", "00"], ids=["no hex digits", "empty", "one byte"])
async def test_a_secret_that_is_damaged_is_made_anew_once(store: CallStore, client: Faulty, key: str) -> None:
    await store.get_continuation_key()
    await client.update_entity({"PartitionKey": "00", "RowKey": SIGNING_KEY_ROW, "key": key}, mode=UpdateMode.REPLACE)
    made = await asyncio.gather(*(store.get_continuation_key() for _ in range(4)))
    assert {*made} == {await store.get_continuation_key()}
    assert len(made[0]) == 32


async def test_what_an_operator_deleted_by_hand_does_not_stop_the_purge(store: CallStore, client: Faulty) -> None:
    await create(store, ended(make_call()))
    await client.delete_entity(f"{shard_of('call'):02}", "ended|call")
    assert await store.purge(shard_of("call"), NOW + SECOND, 10) == 1
    assert await rows_left(client) == []
    await create(store, make_call())
    assert await where(store, "call") == [Status.ACTIVE]


async def test_at_a_closed_port_every_request_says_that_storage_is_away_and_nothing_secret() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with client_at(free.getsockname()[1]) as client:
            said = await refusals(CallStore(AzureTable(client)))
    assert set(said) == {"Table Storage cannot be reached (ServiceRequestError)."}


async def test_with_its_retries_a_closed_port_is_given_up_within_ten_seconds() -> None:
    began = time.monotonic()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with client_at(free.getsockname()[1], CLIENT_OPTIONS) as client:
            with pytest.raises(StoreUnavailable):
                await CallStore(AzureTable(client)).get_watermark(0)
    assert time.monotonic() - began < 10


async def test_a_server_that_hangs_is_given_up_when_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timedelta(seconds=10) >= azure_table.REQUEST_TIMEOUT
    monkeypatch.setattr(azure_table, "REQUEST_TIMEOUT", timedelta(seconds=0.1))
    async with answering(None) as store:
        said = await refusals(store)
    assert all(text.startswith("Table Storage did not answer within") for text in said)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http("503 Busy", '{"odata.error": {"code": "ServerBusy", "message": {"value": "x"}}}'), "503 ServerBusy"),
        (http("500 Oops", "sorry", "text/plain"), "500"),
        (http("429 Slow", "{}"), "429"),
        (http("403 No", '{"odata.error": {"code": "AuthorizationFailure", "message": {"value": "x"}}}'), "403"),
        (http("200 OK", "<html>a proxy</html>", "text/html"), ""),
        (http("202 OK", "a proxy", "multipart/mixed; boundary=x"), ""),
        (b"nonsense\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
)
async def test_an_answer_that_is_none_of_table_storages_is_no_empty_table(answer: bytes, why: str) -> None:
    async with answering(answer) as store:
        assert isinstance(store._table, AzureTable)
        store._table._exists = True  # else an answer without a table would have it created
        said = await refusals(store)
    assert all(why in text for text in said)
    assert not any(KEY in text or ACCOUNT in text for text in said)


# The SDK asks an XML element for its truth, which warns in Python 3.12 and later.
@pytest.mark.filterwarnings("ignore:Testing an element's truth value:DeprecationWarning")
async def test_a_wrong_key_is_refused_without_telling_it(azurite: str) -> None:
    port = int(azurite.rpartition("TableEndpoint=http://127.0.0.1:")[2].partition("/")[0])
    wrong = KEY[:20] + "AAAA" + KEY[24:]
    async with client_at(port, key=wrong) as client:
        with pytest.raises(StoreUnavailable, match="403") as refused:
            await CallStore(AzureTable(client)).get_watermark(0)
    assert wrong not in str(refused.value)


async def test_after_close_nothing_is_left_open(azurite: str) -> None:
    client = TableClient.from_connection_string(azurite, f"calls{uuid4().hex}", **CLIENT_OPTIONS)
    store = CallStore(AzureTable(client))
    await create(store, replace(make_call(), direction="incoming"))
    await store.close()
