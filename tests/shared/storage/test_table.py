"""The contract of a table: `AzureTable` (on Azurite) and `MemoryTable` follow the same rules."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from azure.data.tables.aio import TableClient

from shared.errors import StoreConflict, StoreUnavailable
from shared.storage.azure_table import CLIENT_OPTIONS, AzureTable
from shared.storage.memory_table import MemoryTable
from shared.storage.rows import prefix_range
from shared.storage.table import (
    MAX_BINARY_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_TRANSACTION_ROWS,
    Create,
    Delete,
    KeyRange,
    Put,
    Replace,
    Table,
    TableRow,
    Write,
)

ALL = KeyRange("", "~")
FEW = 3  # rows of a page


@pytest.fixture(params=["memory", "azure"])
async def table(request: pytest.FixtureRequest) -> AsyncIterator[Table]:
    if request.param == "memory":
        yield MemoryTable()
        return
    connection: str = request.getfixturevalue("azurite")
    async with TableClient.from_connection_string(connection, f"calls{uuid4().hex}", **CLIENT_OPTIONS) as client:
        yield AzureTable(client)


async def read(table: Table, key: str) -> TableRow:
    row = await table.read(0, key)
    assert row is not None
    return row


async def keys(table: Table, key_range: KeyRange = ALL, **query: object) -> list[str]:
    return [row.key async for page in table.pages(0, key_range, **query) for row in page]  # type: ignore[arg-type] # of `pages`


class TestRows:
    async def test_a_write_returns_the_etag_of_each_row(self, table: Table) -> None:
        first = await table.write(0, [Create("a", {"text": "1"}), Create("b", {}), Create("c", {})])
        assert first == ((await read(table, "a")).etag, (await read(table, "b")).etag, (await read(table, "c")).etag)
        second = await table.write(0, [Put("a", {"text": "2"}), Delete("b"), Replace("c", {}, first[2])])
        assert second == ((await read(table, "a")).etag, "", (await read(table, "c")).etag)
        assert await table.write(0, [Replace("a", {}, second[0])]) == ((await read(table, "a")).etag,)
        assert await table.write(0, [Put("a", {})]) == ((await read(table, "a")).etag,)

    async def test_bytes_are_read_as_they_were_written(self, table: Table) -> None:
        body = bytes(range(256)) * (MAX_BINARY_LENGTH // 256)
        await table.write(0, [Put("a", {"body": body})])
        assert (await read(table, "a")).columns["body"] == body
        with pytest.raises(StoreUnavailable):
            await table.write(0, [Put("a", {"body": body + b"."})])

    async def test_a_row_that_was_never_written_is_none(self, table: Table) -> None:
        assert await table.read(0, "a") is None
        assert await keys(table) == []

    async def test_a_row_is_read_with_its_keys_and_in_its_partition_alone(self, table: Table) -> None:
        await table.write(3, [Create("a", {"text": "é\U0001f600", "number": 7, "flag": True})])
        row = await table.read(3, "a")
        assert row is not None
        assert dict(row.columns) == {
            "PartitionKey": "03",
            "RowKey": "a",
            "text": "é\U0001f600",
            "number": 7,
            "flag": True,
        }
        assert await table.read(4, "a") is None

    async def test_each_write_replaces_all_columns_and_the_etag(self, table: Table) -> None:
        await table.write(0, [Create("a", {"one": "1", "two": "2"})])
        created = await read(table, "a")
        await table.write(0, [Replace("a", {"one": "3"}, created.etag)])
        replaced = await read(table, "a")
        await table.write(0, [Put("a", {"two": "4"})])
        put = await read(table, "a")
        assert [row.columns.get("one") for row in (created, replaced, put)] == ["1", "3", None]
        assert len({created.etag, replaced.etag, put.etag}) == 3

    async def test_a_deleted_row_is_gone_and_can_be_created_again(self, table: Table) -> None:
        await table.write(0, [Create("a", {})])
        await table.write(0, [Delete("a", (await read(table, "a")).etag)])
        assert await table.read(0, "a") is None
        await table.write(0, [Create("a", {})])
        assert await keys(table) == ["a"]


class TestConflicts:
    @pytest.mark.parametrize(
        "write",
        [
            pytest.param(Create("a", {"by": "loser"}), id="create a row that exists"),
            pytest.param(Replace("a", {"by": "loser"}, "stale"), id="replace a row that has changed"),
            pytest.param(Delete("a", "stale"), id="delete a row that has changed"),
            pytest.param(Replace("gone", {"by": "loser"}, "stale"), id="replace a row that does not exist"),
            pytest.param(Delete("gone"), id="delete a row that does not exist"),
            pytest.param(Delete("gone", "stale"), id="delete a row that does not exist by its ETag"),
        ],
    )
    @pytest.mark.parametrize("beside", [(), (Put("b", {}),)], ids=["alone", "beside another row"])
    async def test_it_is_refused_and_nothing_is_written(
        self, table: Table, write: Write, beside: tuple[Write, ...]
    ) -> None:
        await table.write(0, [Create("a", {"by": "first"})])
        stale = (await read(table, "a")).etag
        await table.write(0, [Put("a", {"by": "winner"})])
        if isinstance(write, Replace):
            write = Replace(write.key, write.cells, stale)
        elif isinstance(write, Delete) and write.etag:
            write = Delete(write.key, stale)
        with pytest.raises(StoreConflict):
            await table.write(0, [*beside, write])
        assert await keys(table) == ["a"]
        assert (await read(table, "a")).columns["by"] == "winner"


class TestLimits:
    async def test_a_transaction_has_100_rows(self, table: Table) -> None:
        writes = [Create(f"{number:03}", {}) for number in range(MAX_TRANSACTION_ROWS + 1)]
        with pytest.raises(StoreUnavailable):
            await table.write(0, writes)
        assert await keys(table) == []
        await table.write(0, writes[:MAX_TRANSACTION_ROWS])
        assert len(await keys(table)) == MAX_TRANSACTION_ROWS

    async def test_a_transaction_has_no_row_twice(self, table: Table) -> None:
        with pytest.raises(StoreUnavailable):
            await table.write(0, [Put("a", {}), Put("a", {})])
        assert await keys(table) == []

    @pytest.mark.parametrize("letter", ["x", "é"], ids=["ASCII", "two bytes in UTF-8"])
    async def test_a_text_has_32_768_utf_16_units(self, table: Table, letter: str) -> None:
        await table.write(0, [Put("a", {"text": letter * MAX_TEXT_LENGTH})])
        with pytest.raises(StoreUnavailable):
            await table.write(0, [Put("a", {"text": letter * (MAX_TEXT_LENGTH + 1)})])
        assert (await read(table, "a")).columns["text"] == letter * MAX_TEXT_LENGTH


class TestPages:
    async def test_rows_come_by_utf_16_units_within_a_range_that_excludes_both_ends(self, table: Table) -> None:
        # U+1F600 is the units D83D DE00, so it sorts before U+FF5E; Python compares code points, the other way round.
        in_order = ["a|", "a|1", "a|é", "a|\U0001f600", "a|\uff5e", "a}"]
        await table.write(0, [Put(key, {}) for key in reversed(in_order)])
        assert await keys(table, prefix_range("a")) == in_order[1:-1]

    async def test_a_page_has_no_more_rows_than_asked_for(self, table: Table) -> None:
        await table.write(0, [Put(str(number), {}) for number in range(2 * FEW + 1)])
        pages = [[row.key for row in page] async for page in table.pages(0, ALL, size=FEW)]
        assert [key for page in pages for key in page] == [str(number) for number in range(2 * FEW + 1)]
        assert max(map(len, pages)) == FEW

    async def test_a_scan_is_no_snapshot(self, table: Table) -> None:
        await table.write(0, [Put(str(number), {}) for number in range(2 * FEW)])
        scan = table.pages(0, ALL, size=FEW)
        assert len(await anext(scan)) == FEW
        await table.write(0, [Delete(str(2 * FEW - 1))])
        assert [row.key for row in await anext(scan)] == [str(number) for number in range(FEW, 2 * FEW - 1)]
        await scan.aclose()

    async def test_only_rows_that_match_come(self, table: Table) -> None:
        rows = {"1": ("a", "x"), "2": ("b", "x"), "3": ("c", "x"), "4": ("a", "y")}
        await table.write(0, [Put(key, {"tenant": tenant, "app": app}) for key, (tenant, app) in rows.items()])
        await table.write(0, [Put("5", {"tenant": "a"})])
        assert await keys(table, matching={"tenant": ["a", "b"], "app": ["x"]}) == ["1", "2"]

    async def test_only_selected_columns_come(self, table: Table) -> None:
        await table.write(0, [Put("a", {"one": "1", "two": "2"})])
        ((row,),) = [page async for page in table.pages(0, ALL, select=("RowKey", "one", "three"))]
        assert {name: value for name, value in row.columns.items() if value is not None} == {"RowKey": "a", "one": "1"}
        assert row.etag == (await read(table, "a")).etag
