"""The cells of an entity of Table Storage: texts, numbers, times and nested parts, as columns hold them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import TypeAdapter

type Cell = str | bool | int | datetime | None
type Row = Mapping[str, object]  # as it is read; columns that were asked for and are not there may be None

_PIECE = 16_384  # characters of one column: Table Storage takes 32,768 UTF-16 units, and a character may be two


def pieces(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """The cells that are not None; a text that is too long for one goes on in `name2`, `name3` and so on."""
    found: dict[str, Cell] = {}
    for name, value in cells.items():
        if isinstance(value, str) and len(value) > _PIECE:
            for number, start in enumerate(range(0, len(value), _PIECE), 1):
                found[_piece_name(name, number)] = value[start : start + _PIECE]
        elif value is not None:
            found[name] = value
    return found


def maybe_text(row: Row, name: str) -> str | None:
    """A text, put together of its pieces."""
    if row.get(name) is None:
        return None
    whole, number = str(row[name]), 2
    while (piece := row.get(_piece_name(name, number))) is not None:
        whole += str(piece)
        number += 1
    return whole


def text(row: Row, name: str) -> str:
    """The same where it must be there. Raises `ValueError`."""
    found = maybe_text(row, name)
    if found is None:
        raise ValueError(f"A row of Table Storage has no {name}.")
    return found


def maybe_number(row: Row, name: str) -> int | None:
    """An integer, whether the column holds a number or its digits."""
    digits = maybe_text(row, name)
    return None if digits is None else int(digits)


def maybe_moment(row: Row, name: str) -> datetime | None:
    """A time, aware, in UTC."""
    value = row.get(name)
    if not isinstance(value, datetime):
        return None
    utc = value.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), UTC)  # a plain one: the SDK's own kind holds its text too


def moment(row: Row, name: str) -> datetime:
    """The same where it must be there. Raises `ValueError`."""
    found = maybe_moment(row, name)
    if found is None:
        raise ValueError(f"A row of Table Storage has no {name}.")
    return found


def maybe_part[T](adapter: TypeAdapter[T], row: Row, name: str) -> T | None:
    """A nested part, from JSON."""
    found = maybe_text(row, name)
    return None if found is None else adapter.validate_python(json.loads(found))


def of_part[T](adapter: TypeAdapter[T], part: T | None) -> str | None:
    """A nested part as JSON."""
    return None if part is None else of_json(adapter.dump_python(part, mode="json", exclude_defaults=True))


def of_json(value: object) -> str:
    """A mapping or a list as JSON."""
    return json.dumps(value, ensure_ascii=False)


def _piece_name(name: str, number: int) -> str:
    return name if number == 1 else f"{name}{number}"
