"""One table of Table Storage: reads, scans, transactions; its errors become ours here, and nowhere else."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, TypedDict

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.data.tables import TableEntity, TableErrorCode, UpdateMode
from azure.data.tables.aio import TableClient

from shared import telemetry
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage.entities import to_row
from shared.storage.rows import Create, Delete, KeyRange, Put, Replace, Write, shard_key

REQUEST_TIMEOUT = timedelta(seconds=10)  # for one request with its retries; who calls us waits no longer either
MAX_PAGE_ROWS = 1_000  # Table Storage: the most rows of one answer
# The longest pause after a lost race. Measured: twenty writers of one call are done in eight attempts.
_MIN_CONFLICT_PAUSE = timedelta(seconds=0.15)
_MAX_CONFLICT_PAUSE = timedelta(seconds=2)
_CONFLICT_PAUSE_FACTOR = 4  # times what the lost race took, if storage is slow: after less they would meet again
_CONFLICT_STATUSES = frozenset({404, 409, 412})
_TABLE_MISSING_CODES = frozenset({TableErrorCode.TABLE_NOT_FOUND, TableErrorCode.TABLE_BEING_DELETED})


class ClientOptions(TypedDict):
    """Options of the SDK's clients, times in seconds. With `use_env_settings` they would use the environment's proxies.

    Like our own requests they use none; and aiohttp, which does the SDK's work, would look for a .netrc file before
    each request, in another thread: a quarter of the CPU time that a notification costs.
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
type _Options = dict[str, Any]  # of an operation, in the SDK's words
type _Operation = tuple[str, _Properties, _Options]
_WITHOUT_TRACING: _Options = {"tracing_options": {"enabled": False}}


class Table:
    """A table. Each method may raise `StoreUnavailable`.

    The table is created when Table Storage answers that it does not exist, and only then: a deployment has created it
    already (`infra/modules/storage.bicep`), so no request is spent on it, and none fails. A table that existed for
    this process and is gone is an error for one request, so that nobody takes it for an empty one.
    """

    def __init__(self, client: TableClient) -> None:
        self._client = client
        self._exists = False  # as far as this process knows
        self._creating = asyncio.Lock()  # a sweep begins with many reads at once: one of them creates the table

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def read(self, shard: int, key: str) -> TableEntity | None:
        """One row, or None.

        It is a query by both keys: Table Storage answers it as fast as a get, and a missing row is no error to the SDK.
        """

        async def first_row() -> TableEntity | None:
            found = self._client.query_entities(
                "PartitionKey eq @shard and RowKey eq @key",
                parameters={"shard": shard_key(shard), "key": key},
                **_WITHOUT_TRACING,
            )
            return await anext(aiter(found), None)

        return await self._request("query", first_row)

    async def pages(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int = MAX_PAGE_ROWS,
        matching: Mapping[str, Iterable[str]] | None = None,
        select: Iterable[str] | None = None,
    ) -> AsyncGenerator[list[TableEntity]]:
        """The rows of a window by key, as they come: a page may be empty.

        Parameters
        ----------
        matching
            Only rows with one of these values in these columns; 12 values in all at most.
        """
        query = "PartitionKey eq @shard and RowKey gt @above and RowKey lt @below"
        parameters = {"shard": shard_key(shard), "above": key_range.above, "below": key_range.below}
        for column, values in (matching or {}).items():
            named = {f"{column}{index}": value for index, value in enumerate(values)}
            query += f" and ( {' or '.join(f'{column} eq @{name}' for name in named)} )"  # the SDK finds @ after spaces
            parameters |= named
        columns = list(select) if select else None
        found = self._client.query_entities(
            query, parameters=parameters, select=columns, results_per_page=min(size, MAX_PAGE_ROWS), **_WITHOUT_TRACING
        ).by_page()

        async def next_page() -> list[TableEntity] | None:
            page = await anext(found, None)
            return None if page is None else [row async for row in page]

        while True:
            rows = await self._request("query", next_page)
            if rows is None:
                return
            yield rows

    async def rows(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        limit: int | None = None,
        select: Iterable[str] | None = None,
    ) -> list[TableEntity]:
        """The rows of a window by key, the first `limit` of them."""
        found: list[TableEntity] = []
        scan = self.pages(shard, key_range, size=limit or MAX_PAGE_ROWS, select=select)
        async with aclosing(scan) as pages:
            async for page in pages:
                found += page
                if limit is not None and len(found) >= limit:
                    break
        return found[:limit]

    async def write(self, shard: int, writes: Iterable[Write]) -> None:
        """All or nothing.

        Raises
        ------
        StoreConflict
            A row was written, or deleted, since it was read.
        """
        operations = [_operation(shard_key(shard), write) for write in writes]
        began = time.monotonic()
        if await self._request("write", lambda: self._submit(operations)):
            return
        # Those who lost a race together would lose the next one together too.
        took = timedelta(seconds=time.monotonic() - began)
        pause = min(max(_MIN_CONFLICT_PAUSE, _CONFLICT_PAUSE_FACTOR * took), _MAX_CONFLICT_PAUSE)
        await asyncio.sleep(random.uniform(0, pause.total_seconds()))  # noqa: S311 (spreads requests; no secret)
        raise StoreConflict("The row was written since it was read.")

    async def _submit(self, operations: Sequence[_Operation]) -> bool:
        """Whether it was written; False if a row changed since it was read."""
        try:
            match operations:
                case [("update", properties, options)]:  # a transaction is a MIME message in a MIME message
                    await self._client.update_entity(properties, **options, **_WITHOUT_TRACING)
                case [("upsert", properties, options)]:
                    await self._client.upsert_entity(properties, **options, **_WITHOUT_TRACING)
                case _:
                    await self._client.submit_transaction(operations, **_WITHOUT_TRACING)
        except HttpResponseError as error:
            if error.status_code in _CONFLICT_STATUSES and _error_code(error) not in _TABLE_MISSING_CODES:
                return False
            raise
        return True

    async def _request[T](self, operation: str, send: Callable[[], Awaitable[T]]) -> T:
        """Send a request, as one span; if the table does not exist yet, create it and send the request again.

        The SDK's own spans are off: it makes two or three for a request, and calls a missing row, a lost race and a
        table that exists already failures. Here a span fails if Table Storage does.
        """
        with telemetry.storage_request(operation, self._client.table_name, self._client.account_name or ""):
            async with self._translate_errors():
                existed = self._exists  # another request may create it while this one is under way
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
        except Exception as error:  # not only AzureError: the SDK stumbles over answers that are none of its service's
            raise StoreUnavailable(f"Table Storage cannot be reached ({type(error).__name__}).") from error


def etag_of(row: TableEntity) -> str:
    """The ETag of a row as it was read."""
    return str(row.metadata["etag"])


def _error_code(error: HttpResponseError) -> str | None:
    code = getattr(error, "error_code", None)  # the SDK sets it on its errors, but does not declare it
    return code.value if isinstance(code, TableErrorCode) else code


def _operation(partition: str, write: Write) -> _Operation:
    properties: _Properties = {"PartitionKey": partition, "RowKey": write.key}
    match write:
        case Create():
            # Without that preference the answer repeats the row.
            return "create", properties | to_row(write.record, write.base), {"response_preference": "return-no-content"}
        case Replace():
            options: _Options = {"etag": write.etag, "match_condition": MatchConditions.IfNotModified}
            return "update", properties | to_row(write.record, write.base), options | {"mode": UpdateMode.REPLACE}
        case Put():
            return "upsert", properties | to_row(write.record, write.base), {"mode": UpdateMode.REPLACE}
        case Delete(etag=None):
            return "delete", properties, {}
        case Delete():
            return "delete", properties, {"etag": write.etag, "match_condition": MatchConditions.IfNotModified}
