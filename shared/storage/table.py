"""The protocol of a table: rows that are read by key and written in transactions. Two classes implement it.

`AzureTable` is Table Storage. `MemoryTable` has the same rules, for tests and for proofs in virtual time. All logic is
above them, in `CallStore`.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_TRANSACTION_ROWS = 100  # Table Storage: rows in one transaction
MAX_PAGE_ROWS = 1_000  # Table Storage: rows in one response
MAX_TEXT_LENGTH = 32_768  # Table Storage: UTF-16 units in one text column
MAX_BINARY_LENGTH = 65_536  # Table Storage: bytes in one binary column

type Cells = Mapping[str, object]
"""The columns of a row to write, without its keys: texts, bytes, booleans, 32-bit integers, aware times.

None is no column.
"""

type Row = Mapping[str, object]
"""The columns of a row as it was read, with PartitionKey and RowKey."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row as it was read, with the ETag that a conditional write of it must carry."""

    columns: Row
    etag: str

    @property
    def key(self) -> str:
        """The RowKey."""
        return str(self.columns["RowKey"])


@dataclass(frozen=True, slots=True)
class Create:
    """Write a row that must not exist yet."""

    key: str
    cells: Cells


@dataclass(frozen=True, slots=True)
class Replace:
    """Write all columns of a row that must still have this ETag."""

    key: str
    cells: Cells
    etag: str


@dataclass(frozen=True, slots=True)
class Put:
    """Write all columns of a row, whether it exists or not."""

    key: str
    cells: Cells


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a row that must exist. If an ETag is given, the row must still have it."""

    key: str
    etag: str | None = None


type Write = Create | Replace | Put | Delete


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The row keys between two keys, both exclusive."""

    above: str
    below: str


class Table(Protocol):
    """One table with a partition for each shard. Every method but `close` may raise `StoreUnavailable`."""

    async def close(self) -> None:
        """Close the connections, if there are any."""
        ...

    async def read(self, shard: int, key: str) -> TableRow | None:
        """Return one row, or None if it does not exist."""
        ...

    def pages(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int = MAX_PAGE_ROWS,
        matching: Mapping[str, Collection[str]] | None = None,
        select: Collection[str] | None = None,
    ) -> AsyncGenerator[list[TableRow]]:
        """Yield the rows of a range, in the order of their keys. A page may be empty, and a scan is no snapshot.

        Parameters
        ----------
        size
            Rows of one page, 1,000 at most.
        matching
            Only rows that have one of these values in each of these columns; 12 values in all at most.
        select
            Only these columns, RowKey among them.
        """
        ...

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        """Write all rows in one transaction, or none. A transaction has 100 rows at most, and no row twice.

        Returns
        -------
        tuple[str, ...]
            The ETag of each row as it was written; empty text for a row that was deleted.

        Raises
        ------
        StoreConflict
            A row was written or deleted since it was read, or one that must not exist yet exists.
        """
        ...


def partition_key(shard: int) -> str:
    """Return the PartitionKey of a shard: two digits."""
    return f"{shard:02}"


def sort_key(key: str) -> bytes:
    """Return what sorts row keys as Table Storage does: by UTF-16 units, while Python compares code points."""
    return key.encode("utf-16-be", "surrogatepass")
