"""A table of Table Storage (or Azurite), and the only place that maps its errors to ours."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypedDict

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.data.tables import TableEntity, TableErrorCode, UpdateMode
from azure.data.tables.aio import TableClient

from shared import telemetry
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage.table import (
    MAX_PAGE_ROWS,
    Create,
    Delete,
    KeyRange,
    Put,
    Replace,
    TableRow,
    Write,
    partition_key,
)

REQUEST_TIMEOUT = timedelta(seconds=10)  # for one request with its retries; our own callers wait no longer either
# The pause after a conflict is random, up to a bound. Measured: twenty writers of one call need eight attempts at most.
_MIN_CONFLICT_PAUSE = timedelta(seconds=0.15)  # the least value of that bound
_MAX_CONFLICT_PAUSE = timedelta(seconds=2)
_CONFLICT_PAUSE_FACTOR = 4  # times the duration of the lost request: if storage is slow, writers need more time apart
_CONFLICT_STATUSES = frozenset({404, 409, 412})
_TABLE_MISSING_CODES = frozenset({TableErrorCode.TABLE_NOT_FOUND, TableErrorCode.TABLE_BEING_DELETED})


class ClientOptions(TypedDict):
    """Options of the SDK's clients, times in seconds.

    `use_env_settings` is off, so the SDK ignores the environment's proxies, as our own requests do. It also saves a
    quarter of the CPU time of a notification: aiohttp, which sends the SDK's requests, would look for a .netrc file
    before each request, in another thread.
    """

    connection_timeout: float
    read_timeout: float
    retry_total: int
    retry_backoff_factor: float
    use_env_settings: bool


CLIENT_OPTIONS = ClientOptions(
    connection_timeout=3, read_timeout=5, retry_total=3, retry_backoff_factor=0.2, use_env_settings=False
)

type _Properties = dict[str, object]
type _Options = dict[str, Any]  # keyword arguments of the SDK
type _Operation = tuple[str, _Properties, _Options]
_WITHOUT_TRACING: _Options = {"tracing_options": {"enabled": False}}


class AzureTable:
    """A `Table` of Table Storage. Each method but `close` may raise `StoreUnavailable`.

    The table is created when Table Storage answers that it does not exist, and only then. A deployment has created it
    already (`infra/modules/storage.bicep`), so no request is spent on creating it, and none fails. If a table existed
    for this process and is gone, one request fails, so that no caller takes it for an empty table.

    Parameters
    ----------
    client
        Client of the table, made with `CLIENT_OPTIONS`. `close` closes it.
    """

    def __init__(self, client: TableClient) -> None:
        self._client = client
        self._exists = False  # as far as this process knows
        self._creating = asyncio.Lock()  # a sweep starts with many concurrent reads: one of them creates the table

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def read(self, shard: int, key: str) -> TableRow | None:
        """Return one row, or None if it does not exist.

        It is a query by both keys. Table Storage answers it as fast as a get, but a missing row is no error to the SDK.
        """

        async def first_row() -> TableEntity | None:
            found = self._client.query_entities(
                "PartitionKey eq @shard and RowKey eq @key",
                parameters={"shard": partition_key(shard), "key": key},
                **_WITHOUT_TRACING,
            )
            return await anext(aiter(found), None)

        entity = await self._request("query", first_row)
        return None if entity is None else _row(entity)

    async def pages(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int = MAX_PAGE_ROWS,
        matching: Mapping[str, Collection[str]] | None = None,
        select: Collection[str] | None = None,
    ) -> AsyncGenerator[list[TableRow]]:
        """Yield the rows of a range, one request for each page. A page may be empty."""
        query = "PartitionKey eq @shard and RowKey gt @above and RowKey lt @below"
        parameters = {"shard": partition_key(shard), "above": key_range.above, "below": key_range.below}
        for column, values in (matching or {}).items():
            named = {f"{column}{index}": value for index, value in enumerate(values)}
            query += f" and ( {' or '.join(f'{column} eq @{name}' for name in named)} )"  # the SDK finds @ after spaces
            parameters |= named
        columns = list(select) if select else None
        found = self._client.query_entities(
            query, parameters=parameters, select=columns, results_per_page=min(size, MAX_PAGE_ROWS), **_WITHOUT_TRACING
        ).by_page()

        async def next_page() -> list[TableRow] | None:
            page = await anext(found, None)
            return None if page is None else [_row(entity) async for entity in page]

        while True:
            rows = await self._request("query", next_page)
            if rows is None:
                return
            yield rows

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        """Write all rows in one transaction, or none, and return their ETags. Raises `StoreConflict`, after a pause."""
        operations = [_operation(partition_key(shard), write) for write in writes]
        began = time.monotonic()
        etags = await self._request("write", lambda: self._submit(operations))
        if etags is not None:
            return etags
        # Writers that lost a race together would meet again without a random pause.
        took = timedelta(seconds=time.monotonic() - began)
        pause = min(max(_MIN_CONFLICT_PAUSE, _CONFLICT_PAUSE_FACTOR * took), _MAX_CONFLICT_PAUSE)
        await asyncio.sleep(random.uniform(0, pause.total_seconds()))  # noqa: S311 (spreads requests; no secret)
        raise StoreConflict("The row was written since it was read.")

    async def _submit(self, operations: Sequence[_Operation]) -> tuple[str, ...] | None:
        """Send the writes and return the ETags of the rows. Return None if a row changed since it was read."""
        try:
            match operations:
                case [("update", properties, options)]:  # cheaper than a transaction: a MIME message in a MIME message
                    written = [await self._client.update_entity(properties, **options, **_WITHOUT_TRACING)]
                case [("upsert", properties, options)]:
                    written = [await self._client.upsert_entity(properties, **options, **_WITHOUT_TRACING)]
                case _:
                    written = await self._client.submit_transaction(operations, **_WITHOUT_TRACING)
        except HttpResponseError as error:
            if error.status_code in _CONFLICT_STATUSES and _error_code(error) not in _TABLE_MISSING_CODES:
                return None
            raise
        return tuple(str(each.get("etag") or "") for each in written)

    async def _request[T](self, operation: str, send: Callable[[], Awaitable[T]]) -> T:
        """Send a request, as one span. If the table does not exist yet, create it and send the request again.

        The SDK's own spans are off. It makes two or three for one request, and marks a missing row, a lost race and a
        table that already exists as failures. Our span fails only if Table Storage fails.
        """
        with telemetry.storage_request(operation, self._client.table_name, self._client.account_name or ""):
            async with self._translate_errors():
                existed = self._exists  # another request may create it during this one
                try:
                    answer = await send()
                except HttpResponseError as error:
                    if existed or _error_code(error) not in _TABLE_MISSING_CODES:
                        raise
                    await self._create_table()
                    answer = await send()
                self._exists = True
                return answer

    async def _create_table(self) -> None:
        async with self._creating:
            if self._exists:
                return
            try:
                await self._client.create_table(**_WITHOUT_TRACING)
            except ResourceExistsError as error:
                if _error_code(error) in _TABLE_MISSING_CODES:
                    raise
            self._exists = True

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT.total_seconds()):
                yield
        except TimeoutError as error:
            raise StoreUnavailable(
                f"Table Storage did not answer within {REQUEST_TIMEOUT.total_seconds():.0f} seconds."
            ) from error
        except HttpResponseError as error:
            code = _error_code(error)
            if code in _TABLE_MISSING_CODES:
                self._exists = False
            what = f"{error.status_code} {code}" if error.status_code else type(error).__name__
            raise StoreUnavailable(f"Table Storage refused a request ({what}).") from error
        except Exception as error:  # not only AzureError: the SDK fails in many ways on answers of another server
            raise StoreUnavailable(f"Table Storage cannot be reached ({type(error).__name__}).") from error


def _row(entity: TableEntity) -> TableRow:
    return TableRow(entity, str(entity.metadata["etag"]))


def _error_code(error: HttpResponseError) -> str | None:
    code = getattr(error, "error_code", None)  # the SDK sets it, but does not declare it
    return code.value if isinstance(code, TableErrorCode) else code


def _operation(partition: str, write: Write) -> _Operation:
    properties: _Properties = {"PartitionKey": partition, "RowKey": write.key}
    match write:
        case Create():
            # Without this preference the response repeats the row.
            return "create", properties | dict(write.cells), {"response_preference": "return-no-content"}
        case Replace():
            options: _Options = {"etag": write.etag, "match_condition": MatchConditions.IfNotModified}
            return "update", properties | dict(write.cells), options | {"mode": UpdateMode.REPLACE}
        case Put():
            return "upsert", properties | dict(write.cells), {"mode": UpdateMode.REPLACE}
        case Delete(etag=None):
            return "delete", properties, {}
        case Delete():
            return "delete", properties, {"etag": write.etag, "match_condition": MatchConditions.IfNotModified}
