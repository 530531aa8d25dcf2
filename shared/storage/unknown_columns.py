"""Columns and members that this version does not read: a write keeps them from the row that it replaces."""

import json
from collections.abc import Iterable, Mapping

from shared.storage.columns import Cell, is_part_of, to_json
from shared.storage.table import Row

KEY_COLUMNS = ("PartitionKey", "RowKey")
_MERGED_BY_MEMBER = ("lease", "hangup")  # parts that grow; each other part is one statement, and is replaced as a whole


def merge_unknown_columns(
    row: Row, known: Mapping[str, Cell], new: Mapping[str, Cell], unreadable: Iterable[str]
) -> dict[str, object]:
    """Return the columns to write.

    A column that is the same in `known` and `new` did not change. It stays as the row has it, with the members of its
    JSON that this version does not know. Columns that are in neither stay too.

    Parameters
    ----------
    row
        The row as it was read.
    known
        The columns that this version writes for the record that it read.
    new
        The columns of the record to write.
    unreadable
        Columns that could not be read: they stay as they are.
    """
    found = {name: value for name, value in row.items() if name not in KEY_COLUMNS and value is not None}
    unreadable = tuple(unreadable)
    for name in known.keys() | new.keys():
        if any(is_part_of(name, column) for column in unreadable):
            continue
        if name not in new:
            found.pop(name, None)
        elif name not in found or known.get(name) != new[name]:
            found[name] = _with_unknown_members(name, row.get(name), known.get(name), new[name])
    return found


def _with_unknown_members(name: str, stored: object, known: Cell, new: Cell) -> Cell:
    if name not in _MERGED_BY_MEMBER or not (
        isinstance(stored, str) and isinstance(known, str) and isinstance(new, str)
    ):
        return new
    try:
        old, read, written = json.loads(stored), json.loads(known), json.loads(new)
        unknown = {member: old[member] for member in old if member not in read and member not in written}
    except (ValueError, TypeError, RecursionError):  # it could not be read
        return new
    return to_json(written | unknown) if unknown else new
