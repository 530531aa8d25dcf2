"""The cells of an entity of Table Storage: texts, numbers, times and nested parts, as columns hold them."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter

type Cell = str | bool | int | datetime | None
type Row = Mapping[str, object]  # as it is read; columns that were asked for and are not there may be None

MAX_YEAR = 9000  # a lease is added to moments, and `datetime` ends with the year 9999
# Characters of one column: Table Storage takes 32,768 UTF-16 units, and a character may be two.
_MAX_COLUMN_LENGTH = 16_384


def split_long_columns(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """The cells that are not None; a text that is too long for one goes on in `name2`, `name3` and so on."""
    found: dict[str, Cell] = {}
    for name, value in cells.items():
        if isinstance(value, str) and len(value) > _MAX_COLUMN_LENGTH:
            for number, start in enumerate(range(0, len(value), _MAX_COLUMN_LENGTH), 1):
                found[_column_name(name, number)] = value[start : start + _MAX_COLUMN_LENGTH]
        elif value is not None:
            found[name] = value
    return found


def optional_text(row: Row, name: str) -> str | None:
    """A text, put together of its pieces."""
    if row.get(name) is None:
        return None
    whole, number = str(row[name]), 2
    while (piece := row.get(_column_name(name, number))) is not None:
        whole += str(piece)
        number += 1
    return whole


def required_text(row: Row, name: str) -> str:
    """The same where it must be there. Raises `ValueError`."""
    found = optional_text(row, name)
    if found is None:
        raise ValueError(f"A row of Table Storage has no {name}.")
    return found


def optional_number(row: Row, name: str) -> int | None:
    """An integer, whether the column holds a number or its digits."""
    digits = optional_text(row, name)
    return None if digits is None else int(digits)


def optional_moment(row: Row, name: str) -> datetime | None:
    """A time, aware, in UTC."""
    value = row.get(name)
    if not isinstance(value, datetime):
        return None
    utc = value.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), UTC)  # a plain one: the SDK's own kind holds its text too


def required_moment(row: Row, name: str) -> datetime:
    """The same where it must be there. Raises `ValueError`."""
    found = optional_moment(row, name)
    if found is None:
        raise ValueError(f"A row of Table Storage has no {name}.")
    return found


def load_json[T](adapter: TypeAdapter[T], row: Row, name: str) -> T | None:
    """A nested part, from JSON. Raises `ValueError`.

    The JSON reader of pydantic refuses half a surrogate pair and deep nesting, which `json` lets pass.
    """
    found = optional_text(row, name)
    return None if found is None else check_moments(adapter.validate_json(found))


def check_moments[T](part: T) -> T:
    """The part, if its times can be compared and added to. Raises `ValueError`.

    One naive time among the leases of a shard would end the sweep of all of them.
    """
    if is_dataclass(part):
        for value in (getattr(part, each.name) for each in fields(part)):
            if isinstance(value, datetime):
                check_moment(value)
            elif is_dataclass(value):
                check_moments(value)
    return part


def check_moment(value: datetime) -> None:
    """Raise `ValueError` if the time cannot be compared with others, or added to."""
    if value.tzinfo is None or value.year > MAX_YEAR:
        raise ValueError("A time has no offset, or lies too far in the future.")


class RowReader:
    """Reads the columns of one row. A column that cannot be read counts as left out, and is named in `unreadable`."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._unreadable: list[str] = []

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The columns that could not be read so far."""
        return tuple(self._unreadable)

    def optional_text(self, name: str) -> str | None:
        """A text, or None."""
        found = optional_text(self._row, name)
        try:
            if found is not None and not found.isascii():
                found.encode()  # half a surrogate pair cannot be written into an answer
        except UnicodeEncodeError:
            self._mark_unreadable(name)
            return None
        return found

    def required_text(self, name: str, default: str) -> str:
        """A text that must be there."""
        found = self.optional_text(name)
        if found is None:
            self._mark_unreadable(name)
        return default if found is None else found

    def optional_number(self, name: str) -> int | None:
        """An integer, or None."""
        try:
            return optional_number(self._row, name)
        except ValueError:
            self._mark_unreadable(name)
            return None

    def optional_moment(self, name: str) -> datetime | None:
        """A time, or None."""
        found = optional_moment(self._row, name)
        if self._row.get(name) is not None and (found is None or found.year > MAX_YEAR):
            self._mark_unreadable(name)
            return None
        return found

    def required_moment(self, name: str, default: datetime) -> datetime:
        """A time that must be there."""
        found = self.optional_moment(name)
        if found is None:
            self._mark_unreadable(name)
        return found or default

    def load_json[T](self, adapter: TypeAdapter[T], name: str) -> T | None:
        """A nested part, or None."""
        try:
            return load_json(adapter, self._row, name)
        except ValueError:
            self._mark_unreadable(name)
            return None

    def _mark_unreadable(self, name: str) -> None:
        if name not in self._unreadable:
            self._unreadable.append(name)


def dump_json[T](adapter: TypeAdapter[T], part: T | None) -> str | None:
    """A nested part as JSON."""
    return None if part is None else to_json(adapter.dump_python(part, mode="json", exclude_defaults=True))


def is_column_of(column: str, name: str) -> bool:
    """Whether the column is this one, or a further piece of it."""
    return column == name or (column.startswith(name) and column[len(name) :].isdecimal())


def to_json(value: object) -> str:
    """A mapping or a list as JSON."""
    return json.dumps(value, ensure_ascii=False)


def _column_name(name: str, number: int) -> str:
    return name if number == 1 else f"{name}{number}"
