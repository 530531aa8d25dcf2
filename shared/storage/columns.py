"""Columns of Table Storage: how the fields of a record are stored in them, and how they are read.

A scalar is a column of its own. A nested part is JSON in one column. A text that is too long for one column continues
in `name2`, `name3` and so on.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from shared.storage.table import MAX_TEXT_LENGTH, Row

MAX_YEAR = 9000  # durations are added to times, and `datetime` ends with the year 9999
_MAX_COLUMN_LENGTH = MAX_TEXT_LENGTH // 2  # characters: one may be two UTF-16 units
_JSON = json.JSONEncoder(ensure_ascii=False)  # `json.dumps` makes a new one for each value

type Cell = str | bool | int | datetime | None


@dataclass(frozen=True, slots=True)
class ColumnType:
    """The conversion of the values of one type to columns and back.

    `dump` gets a value that is not None; None as its result means that no column is written. `load` gets the row and
    the name of a column that exists, and raises `ValueError` if it cannot be read.
    """

    dump: Callable[[Any], Cell]  # each type has its own, and a field of a record fits it
    load: Callable[[Row, str], object]


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and the field of a record that it stores.

    Parameters
    ----------
    name
        Name of the column. It stays if the field is renamed.
    field
        Name of the field.
    type
        How its values are stored.
    default
        Value of the field if the column does not exist, or cannot be read.
    is_required
        A column that does not exist counts as one that cannot be read.
    """

    name: str
    field: str
    type: ColumnType
    default: object = None
    is_required: bool = False


def dump_record(record: object, columns: Iterable[Column]) -> dict[str, Cell]:
    """Return the columns of a record. A field that is None has no column."""
    values = ((column, getattr(record, column.field)) for column in columns)
    return {column.name: column.type.dump(value) for column, value in values if value is not None}


def load_fields(row: Row, columns: Iterable[Column]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of a record by name, and the names of the columns that cannot be read."""
    values: dict[str, Any] = {}
    unreadable: list[str] = []
    for column in columns:
        values[column.field] = column.default
        if row.get(column.name) is None:
            if column.is_required:
                unreadable.append(column.name)
            continue
        try:
            values[column.field] = column.type.load(row, column.name)
        except ValueError:
            unreadable.append(column.name)
    return values, tuple(unreadable)


def split_long_columns(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """Return the cells that are not None, with long texts split into several columns."""
    split: dict[str, Cell] = {}
    for name, value in cells.items():
        if isinstance(value, str) and len(value) > _MAX_COLUMN_LENGTH:
            for number, start in enumerate(range(0, len(value), _MAX_COLUMN_LENGTH), 1):
                split[name if number == 1 else f"{name}{number}"] = value[start : start + _MAX_COLUMN_LENGTH]
        elif value is not None:
            split[name] = value
    return split


def is_part_of(column: str, name: str) -> bool:
    """True if the column is the named one, or a further part of its text."""
    return column == name or (column.startswith(name) and column[len(name) :].isdecimal())


def join_text(row: Row, name: str) -> str:
    """Return a text, joined from all its columns. Raises `ValueError` if it has none."""
    if (first := row.get(name)) is None:
        raise ValueError(f"The row has no column {name}.")
    text, number = str(first), 2
    while (part := row.get(f"{name}{number}")) is not None:
        text += str(part)
        number += 1
    return text


def check_moment(value: datetime) -> None:
    """Raise `ValueError` if the time cannot be compared with others, or if durations cannot be added to it."""
    if value.tzinfo is None or value.year > MAX_YEAR:
        raise ValueError("A time has no offset, or is too far in the future.")


def to_json(value: object) -> str:
    """Return JSON in which all characters stand for themselves."""
    return _JSON.encode(value)


def json_type[T](adapter: TypeAdapter[T], dump: Callable[[T], object] | None = None) -> ColumnType:
    """Return the type of a nested part. An empty mapping or set is not stored.

    Parameters
    ----------
    adapter
        Reads the part. Its JSON reader refuses half a surrogate pair and deep nesting, which `json` accepts.
    dump
        Makes the JSON value; by default the adapter does, without members that have their default value.
    """
    make = dump or (lambda part: adapter.dump_python(part, mode="json", exclude_defaults=True))

    def load(row: Row, name: str) -> T:
        return _check_moments(adapter.validate_json(join_text(row, name)))

    return ColumnType(lambda part: to_json(make(part)) if part else None, load)


def _load_text(row: Row, name: str) -> str:
    text = join_text(row, name)
    if not text.isascii():
        text.encode()  # half a surrogate pair could not be written into a response
    return text


def _load_integer(row: Row, name: str) -> int:
    return int(join_text(row, name))


def _load_moment(row: Row, name: str) -> datetime:
    value = row[name]
    if not isinstance(value, datetime):
        raise ValueError("The column has no time.")  # noqa: TRY004 (all that cannot be read is a ValueError)
    utc = value.astimezone(UTC)
    check_moment(utc)
    return datetime.combine(utc.date(), utc.time(), UTC)  # a plain one: the SDK's own class holds its text too


def _load_flag(row: Row, name: str) -> bool:
    return bool(row[name])


def _check_moments[T](part: T) -> T:
    """Return the part. Raise `ValueError` if one of its times cannot be used.

    One time without an offset among the leases of a shard would end the sweep of all of them.
    """
    if is_dataclass(part):
        for value in (getattr(part, each.name) for each in fields(part)):
            if isinstance(value, datetime):
                check_moment(value)
            elif is_dataclass(value):
                _check_moments(value)
    return part


def _same[T](value: T) -> T:
    return value


TEXT = ColumnType(_same, _load_text)
MOMENT = ColumnType(_same, _load_moment)
FLAG = ColumnType(_same, _load_flag)
COUNT = ColumnType(_same, _load_integer)  # an Int32 of Table Storage
INTEGER = ColumnType(str, _load_integer)  # stored as text: no document bounds the codes of Graph
