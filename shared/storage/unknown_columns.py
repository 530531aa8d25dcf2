"""What a write keeps of the row that it replaces: all that this version did not read, so cannot have changed."""

import json
from collections.abc import Iterable, Mapping

from shared.storage.column_values import Cell, Row, is_column_of, to_json

KEY_COLUMNS = ("PartitionKey", "RowKey")
_MERGED_BY_MEMBER = (
    "lease",
    "hangup",
)  # parts that grow: of other parts, the one that stands is one account as a whole


def merge_unknown_columns(
    row: Row, known: Mapping[str, Cell], new: Mapping[str, Cell], unreadable: Iterable[str]
) -> dict[str, object]:
    """The columns to write.

    A column that is the same in `known` and `new` was not changed, and stays as the row has it: with the members of
    its JSON that this version does not know. So do columns that are in neither.

    Parameters
    ----------
    row
        As it was read.
    known
        The columns that this version makes of what it read.
    new
        The columns of the record to write.
    unreadable
        Columns that could not be read: they stay as they are.
    """
    found = {name: value for name, value in row.items() if name not in KEY_COLUMNS and value is not None}
    unreadable = tuple(unreadable)
    for name in known.keys() | new.keys():
        if any(is_column_of(name, column) for column in unreadable):
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
        there_, known_, new_ = json.loads(stored), json.loads(known), json.loads(new)
        unknown = {member: there_[member] for member in there_ if member not in known_ and member not in new_}
    except (ValueError, TypeError, RecursionError):  # it could not be read
        return new
    return to_json(new_ | unknown) if unknown else new
