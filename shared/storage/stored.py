"""A record as it was read from its row."""

from dataclasses import dataclass, field

from shared.storage.table import Row


@dataclass(frozen=True, slots=True)
class Stored[T]:
    """A value as it was read, with the ETag that a write of it must carry.

    `row` is the row that it was read from. A write of the value keeps its columns that this version does not know.
    """

    value: T
    etag: str
    row: Row | None = field(default=None, repr=False, compare=False)
