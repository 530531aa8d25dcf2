"""A table in memory, with the rules of Table Storage: ETags, conditional writes, limits of a transaction."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from shared.errors import StoreConflict, StoreUnavailable
from shared.storage.table import (
    MAX_BINARY_LENGTH,
    MAX_PAGE_ROWS,
    MAX_TEXT_LENGTH,
    MAX_TRANSACTION_ROWS,
    Cells,
    Create,
    Delete,
    KeyRange,
    Put,
    Replace,
    TableRow,
    Write,
    partition_key,
    sort_key,
)


@dataclass(slots=True)
class _Partition:
    """The rows of one partition by key, and their keys in order. Each key follows its sort key, so search is plain."""

    keys: list[tuple[bytes, str]] = field(default_factory=list)
    rows: dict[str, TableRow] = field(default_factory=dict)


class MemoryTable:
    """A `Table` that ends with the process. No method yields to other tasks."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = defaultdict(_Partition)
        self._etags = count()

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def read(self, shard: int, key: str) -> TableRow | None:
        """Return one row, or None if it does not exist."""
        return self._partitions[shard].rows.get(key)

    async def pages(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int = MAX_PAGE_ROWS,
        matching: Mapping[str, Collection[str]] | None = None,
        select: Collection[str] | None = None,
    ) -> AsyncGenerator[list[TableRow]]:
        """Yield the rows of a range. Each page has the rows as they are when it is asked for."""
        size = min(size, MAX_PAGE_ROWS)
        while True:
            page = self.page(shard, key_range, size=size, matching=matching, select=select)
            yield page
            if len(page) < size:
                return
            key_range = KeyRange(page[-1].key, key_range.below)

    def page(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int,
        matching: Mapping[str, Collection[str]] | None = None,
        select: Collection[str] | None = None,
    ) -> list[TableRow]:
        """Return the first `size` rows of a range. The other parameters are those of `pages`."""
        found = islice(self._rows_in(shard, key_range, matching or {}), size)
        return [_select(row, select) for row in found] if select else list(found)

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        """Write all rows in one transaction, or none, and return their ETags. Raises `StoreConflict`."""
        if not _is_valid_transaction(writes):
            raise StoreUnavailable("Table Storage refused a request (400).")
        if not all(self._can_apply(shard, write) for write in writes):
            raise StoreConflict("The row was written since it was read.")
        return tuple([self._apply(shard, write) for write in writes])

    def _rows_in(self, shard: int, key_range: KeyRange, matching: Mapping[str, Collection[str]]) -> Iterator[TableRow]:
        partition = self._partitions[shard]
        first = bisect_right(partition.keys, _sortable(key_range.above))
        last = bisect_left(partition.keys, _sortable(key_range.below))
        rows = (partition.rows[key] for _, key in partition.keys[first:last])
        return (row for row in rows if all(row.columns.get(name) in values for name, values in matching.items()))

    def _can_apply(self, shard: int, write: Write) -> bool:
        stored = self._partitions[shard].rows.get(write.key)
        match write:
            case Create():
                return stored is None
            case Replace() | Delete():
                return stored is not None and write.etag in {None, stored.etag}
            case Put():
                return True

    def _apply(self, shard: int, write: Write) -> str:
        partition = self._partitions[shard]
        if isinstance(write, Delete):
            del partition.rows[write.key]
            del partition.keys[bisect_left(partition.keys, _sortable(write.key))]
            return ""
        if write.key not in partition.rows:
            insort(partition.keys, _sortable(write.key))
        columns = {"PartitionKey": partition_key(shard), "RowKey": write.key, **write.cells}
        partition.rows[write.key] = TableRow(columns, etag := str(next(self._etags)))
        return etag


def _sortable(key: str) -> tuple[bytes, str]:
    return sort_key(key), key


def _is_valid_transaction(writes: Sequence[Write]) -> bool:
    """True unless Table Storage would answer 400: too many rows, a row twice, or a column that is too long."""
    return (
        0 < len(writes) <= MAX_TRANSACTION_ROWS
        and len({write.key for write in writes}) == len(writes)
        and all(_fits(write.cells) for write in writes if not isinstance(write, Delete))
    )


def _fits(cells: Cells) -> bool:
    return all(_is_short_enough(cell) for cell in cells.values())


def _is_short_enough(cell: object) -> bool:
    match cell:
        case str():
            return _utf16_length(cell) <= MAX_TEXT_LENGTH
        case bytes():
            return len(cell) <= MAX_BINARY_LENGTH
    return True


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _select(row: TableRow, names: Collection[str]) -> TableRow:
    return TableRow({name: row.columns[name] for name in names if name in row.columns}, row.etag)
