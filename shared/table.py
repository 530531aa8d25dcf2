"""One table of Table Storage: reads, scans, transactions; its errors become ours here, and nowhere else."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypedDict

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import TableEntity, TableErrorCode, UpdateMode
from azure.data.tables.aio import TableClient

from shared.cells import Cell
from shared.entities import to_row
from shared.errors import StoreConflict, StoreUnavailable
from shared.rows import Create, Delete, Put, Replace, Window, Write, shard_key

PATIENCE = 10.0  # seconds for one request with its retries; who calls us waits no longer either
PAGE = 1_000  # Table Storage: the most rows of one answer
_PAUSE = 0.15  # seconds at most, after a lost race; measured: twenty writers of one call are done in eight attempts
_LONGEST_PAUSE = 2.0
_PAUSES = 4  # times what the lost race took, where storage is slower: a shorter pause would only let them meet again
_CONFLICTS = frozenset({404, 409, 412})
_TABLE_AWAY = frozenset({TableErrorCode.TABLE_NOT_FOUND, TableErrorCode.TABLE_BEING_DELETED})


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

type _Properties = dict[str, Cell]
type _Options = dict[str, Any]  # of an operation, in the SDK's words
type _Operation = tuple[str, _Properties, _Options]


class Table:
    """A table, made when it is first used. Each method may raise `StoreUnavailable`."""

    def __init__(self, client: TableClient) -> None:
        self._client = client
        self._made = False
        self._making = asyncio.Lock()  # a sweep begins with many reads at once: one of them makes the table

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def read(self, shard: int, key: str) -> TableEntity | None:
        """One row."""
        async with self._errors():
            await self._make()
            try:
                return await self._client.get_entity(shard_key(shard), key)
            except ResourceNotFoundError as error:
                if _code(error) in _TABLE_AWAY:
                    raise
                return None

    async def pages(
        self,
        shard: int,
        window: Window,
        *,
        size: int = PAGE,
        among: Mapping[str, Iterable[str]] | None = None,
        select: Iterable[str] | None = None,
    ) -> AsyncGenerator[list[TableEntity]]:
        """The rows of a window by key, as they come: a page may be empty.

        Parameters
        ----------
        among
            Only rows with one of these values in these columns; 12 values in all at most.
        """
        query = "PartitionKey eq @shard and RowKey gt @above and RowKey lt @below"
        parameters = {"shard": shard_key(shard), "above": window.above, "below": window.below}
        for column, values in (among or {}).items():
            named = {f"{column}{place}": value for place, value in enumerate(values)}
            query += f" and ( {' or '.join(f'{column} eq @{name}' for name in named)} )"  # the SDK finds @ after spaces
            parameters |= named
        columns = list(select) if select else None
        found = self._client.query_entities(
            query, parameters=parameters, select=columns, results_per_page=min(size, PAGE)
        ).by_page()
        while True:
            async with self._errors():
                await self._make()
                page = await anext(found, None)
                rows = None if page is None else [row async for row in page]
            if rows is None:
                return
            yield rows

    async def rows(
        self,
        shard: int,
        window: Window,
        *,
        most: int | None = None,
        select: Iterable[str] | None = None,
    ) -> list[TableEntity]:
        """The rows of a window by key, the first `most` of them."""
        found: list[TableEntity] = []
        scan = self.pages(shard, window, size=most or PAGE, select=select)
        async with aclosing(scan) as pages:
            async for page in pages:
                found += page
                if most is not None and len(found) >= most:
                    break
        return found[:most]

    async def write(self, shard: int, writes: Iterable[Write]) -> None:
        """All or nothing.

        Raises
        ------
        StoreConflict
            A row was written, or deleted, since it was read.
        """
        operations = [_operation(shard_key(shard), write) for write in writes]
        began = time.monotonic()
        try:
            async with self._errors():
                await self._make()
                await self._submit(operations)
        except StoreConflict:
            # Those who lost a race together would lose the next one together too.
            pause = min(max(_PAUSE, _PAUSES * (time.monotonic() - began)), _LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 (spreads requests; no secret)
            raise

    async def _submit(self, operations: Sequence[_Operation]) -> None:
        try:
            match operations:
                case [("update", properties, options)]:  # a transaction is a MIME message in a MIME message
                    await self._client.update_entity(properties, **options)
                case [("upsert", properties, options)]:
                    await self._client.upsert_entity(properties, **options)
                case _:
                    await self._client.submit_transaction(operations)
        except HttpResponseError as error:
            if error.status_code in _CONFLICTS and _code(error) not in _TABLE_AWAY:
                raise StoreConflict("The row was written since it was read.") from error
            raise

    async def _make(self) -> None:
        if self._made:
            return
        async with self._making:
            if self._made:
                return
            try:
                await self._client.create_table()
            except ResourceExistsError as error:
                if _code(error) in _TABLE_AWAY:
                    raise
            self._made = True

    @asynccontextmanager
    async def _errors(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except StoreConflict:
            raise
        except TimeoutError as error:
            raise StoreUnavailable(f"Table Storage did not answer within {PATIENCE:.0f} seconds.") from error
        except HttpResponseError as error:
            code = _code(error)
            if code in _TABLE_AWAY:
                self._made = False
            what = f"{error.status_code} {code}" if error.status_code else type(error).__name__
            raise StoreUnavailable(f"Table Storage refused a request ({what}).") from error
        except Exception as error:  # not only AzureError: the SDK stumbles over answers that are none of its service's
            raise StoreUnavailable(f"Table Storage cannot be reached ({type(error).__name__}).") from error


def etag_of(row: TableEntity) -> str:
    """The ETag of a row as it was read."""
    return str(row.metadata["etag"])


def _code(error: HttpResponseError) -> str | None:
    code = getattr(error, "error_code", None)  # the SDK sets it on its errors, but does not declare it
    return code.value if isinstance(code, TableErrorCode) else code


def _operation(partition: str, write: Write) -> _Operation:
    properties: _Properties = {"PartitionKey": partition, "RowKey": write.key}
    match write:
        case Create():
            # Without that preference the answer repeats the row.
            return "create", properties | to_row(write.record), {"response_preference": "return-no-content"}
        case Replace():
            options: _Options = {"etag": write.etag, "match_condition": MatchConditions.IfNotModified}
            return "update", properties | to_row(write.record), options | {"mode": UpdateMode.REPLACE}
        case Put():
            return "upsert", properties | to_row(write.record), {"mode": UpdateMode.REPLACE}
        case Delete(etag=None):
            return "delete", properties, {}
        case Delete():
            return "delete", properties, {"etag": write.etag, "match_condition": MatchConditions.IfNotModified}
