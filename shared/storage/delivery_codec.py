"""The row codec of the relay: which column stores which field of a delivery, a lane and a destination's state."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from pydantic import TypeAdapter

from shared import telemetry
from shared.domain.deliveries import (
    Attempt,
    Delivery,
    DeliveryStatus,
    Destination,
    DestinationState,
    Lane,
    LaneKey,
    parse_delivery_id,
)
from shared.storage.columns import (
    COUNT,
    FLAG,
    MOMENT,
    TEXT,
    Column,
    dump_record,
    json_type,
    load_fields,
    split_long_columns,
)
from shared.storage.rows import parse_lane_key
from shared.storage.table import MAX_BINARY_LENGTH, Row

# Of gzip, on the event loop: a roster of 4 MB takes a third of the time of level 6, and has 14 % more bytes.
COMPRESSION_LEVEL = 3
MAX_GZIP_OVERHEAD = 1024  # bytes that gzip adds to a body of up to 1 MiB that it cannot compress
MAX_BODY_COLUMNS = 14  # of 64 KiB each: a row of Table Storage has 1 MiB at most, and other columns
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

_DELIVERY = (
    Column("deliveryId", "id", TEXT, is_required=True),
    Column("callIds", "call_ids", json_type(TypeAdapter(tuple[str, ...])), (), is_required=True),
    Column("target", "target", TEXT, is_required=True),
    Column("to", "to", TEXT),
    Column("type", "type", TEXT, "", is_required=True),
    Column("tenantId", "tenant_id", TEXT, "", is_required=True),
    Column("appId", "app_id", TEXT),
    Column("receivedAt", "received_at", MOMENT, _LONG_AGO, is_required=True),
    Column("retrySince", "retry_since", MOMENT, _LONG_AGO, is_required=True),
    Column("status", "status", TEXT, is_required=True),
    Column("attempts", "attempts", json_type(TypeAdapter(tuple[Attempt, ...])), ()),
    Column("deliveredAt", "delivered_at", MOMENT),
    Column("nextAttemptAt", "next_attempt_at", MOMENT),
    Column("headers", "headers", json_type(TypeAdapter(dict[str, str])), {}),
    Column("isReplay", "is_replay", FLAG, False),
    Column("wantsAnswer", "wants_answer", FLAG, False),
)
_LANE = (
    Column("claimId", "claim_id", TEXT, ""),
    Column("claimedUntil", "claimed_until", MOMENT),
    Column("nextAttemptAt", "next_attempt_at", MOMENT),
    Column("oldestReceivedAt", "oldest_received_at", MOMENT),
    Column("appended", "appended", COUNT, 0),
)
_DESTINATION = (
    Column("disabledAt", "disabled_at", MOMENT),
    Column("restsUntil", "rests_until", MOMENT),
    Column("failures", "failures", COUNT, 0),
    Column("opensAt", "opens_at", MOMENT),
    Column("probedUntil", "probed_until", MOMENT),
)
_BARRIER = (
    Column("barrierOf", "primary_call_id", TEXT, is_required=True),
    Column("target", "target", TEXT, is_required=True),
    Column("to", "to", TEXT),
    Column("status", "status", TEXT, is_required=True),
)
MAX_COLUMN_PARTS = 13  # of one text: 1,000 call ids of 200 characters
COLUMNS_WITHOUT_BODY = (
    *("RowKey", "barrierOf"),
    *(column.name for column in _DELIVERY),
    *(f"{name}{part}" for name in ("callIds", "attempts") for part in range(2, MAX_COLUMN_PARTS + 1)),
)
HAS_BODY = "hasBody"  # "true" in the copy of a delivery whose body is on record: a query can ask for it


@dataclass(frozen=True, slots=True)
class Barrier:
    """The place of a delivery about several calls in the lane of a call that is not its first.

    Parameters
    ----------
    call_id
        The call in whose shard this row is.
    primary_call_id, sequence
        The key of the delivery.
    is_open
        True while the delivery is pending: later deliveries of the lane wait for it.
    """

    call_id: str
    primary_call_id: str
    sequence: int
    destination: Destination
    is_open: bool = True

    @property
    def lane(self) -> LaneKey:
        """The lane that has the place."""
        return LaneKey(self.call_id, self.destination)


def pack_body(body: bytes) -> bytes | None:
    """Return a body as it is stored, or None if a row cannot hold it."""
    packed = gzip.compress(body, compresslevel=COMPRESSION_LEVEL, mtime=0)
    return packed if len(packed) <= MAX_BODY_COLUMNS * MAX_BINARY_LENGTH else None


def delivery_cells(delivery: Delivery) -> dict[str, object]:
    """Return the columns of a delivery with its body, without its keys."""
    return {**_delivery_columns(delivery), **_body_cells(delivery.body)}


def delivery_copy_cells(delivery: Delivery) -> dict[str, object]:
    """Return the columns of the copy that lists a delivery by its status: all but the body."""
    return {**_delivery_columns(delivery), HAS_BODY: str(delivery.body is not None).lower()}


def to_delivery(row: Row) -> Delivery:
    """Return the delivery of a `delivery|` row, or of a copy, which has no body. Raises `ValueError`."""
    values, unreadable = load_fields(row, _DELIVERY)
    if unreadable:
        raise ValueError(f"Columns that cannot be read: {', '.join(unreadable)}.")
    parsed = parse_delivery_id(values["id"])
    if parsed is None or not values["call_ids"]:
        raise ValueError("The row has no id of a delivery, or no call.")
    status = DeliveryStatus(values.pop("status"))
    destination = Destination(values.pop("target"), values.pop("to"))
    return Delivery(**values, status=status, destination=destination, sequence=parsed[1], body=_load_body(row))


def readable_delivery(row: Row) -> Delivery | None:
    """Return the delivery of a row, or None if the row cannot be read."""
    try:
        return to_delivery(row)
    except ValueError:
        _log_unreadable(row)
        return None


def lane_cells(lane: Lane) -> dict[str, object]:
    """Return the columns of a lane, without its keys."""
    return dict(dump_record(lane, _LANE))


def to_lane(row: Row) -> Lane:
    """Return the lane of a `lane|` row. A column that cannot be read counts as absent. Raises `ValueError`."""
    values, _ = load_fields(row, _LANE)
    return Lane(parse_lane_key(str(row["RowKey"])), **values)


def destination_cells(state: DestinationState) -> dict[str, object]:
    """Return the columns of the state of a destination, without its keys."""
    return dict(dump_record(state, _DESTINATION))


def to_destination_state(row: Row) -> DestinationState:
    """Return the state of a `destination|` row. A column that cannot be read counts as absent. Raises `ValueError`."""
    values, _ = load_fields(row, _DESTINATION)
    _, target, to = str(row["RowKey"]).split("|")
    return DestinationState(Destination(target, to or None), **values)


def barrier_cells(barrier: Barrier) -> dict[str, object]:
    """Return the columns of a barrier, without its keys."""
    status = DeliveryStatus.PENDING if barrier.is_open else DeliveryStatus.DELIVERED
    cells: dict[str, object] = {"barrierOf": barrier.primary_call_id, "target": barrier.destination.target}
    return {**cells, "status": status.value} | ({"to": barrier.destination.to} if barrier.destination.to else {})


def is_barrier(row: Row) -> bool:
    """True if the row is a barrier and not a delivery."""
    return row.get("barrierOf") is not None


def to_barrier(row: Row) -> Barrier:
    """Return the barrier of a row. Raises `ValueError`."""
    values, unreadable = load_fields(row, _BARRIER)
    _, call_id, sequence, _ = str(row["RowKey"]).split("|")
    if unreadable:
        raise ValueError(f"Columns that cannot be read: {', '.join(unreadable)}.")
    destination = Destination(values["target"], values["to"])
    is_open = values["status"] == DeliveryStatus.PENDING
    return Barrier(call_id, values["primary_call_id"], int(sequence), destination, is_open)


def _delivery_columns(delivery: Delivery) -> dict[str, object]:
    flat = tuple(column for column in _DELIVERY if column.field not in {"target", "to", "status"})
    where: dict[str, object] = {"target": delivery.destination.target, "status": delivery.status.value}
    if delivery.destination.to is not None:
        where["to"] = delivery.destination.to
    return {**split_long_columns(dump_record(delivery, flat)), **where}


def _body_cells(body: bytes | None) -> dict[str, object]:
    packed = None if body is None else pack_body(body)
    if packed is None:
        return {}
    starts = range(0, len(packed), MAX_BINARY_LENGTH)
    return {_body_column(number): packed[start : start + MAX_BINARY_LENGTH] for number, start in enumerate(starts, 1)}


def _body_column(number: int) -> str:
    return "body" if number == 1 else f"body{number}"


def _load_body(row: Row) -> bytes | None:
    parts: list[bytes] = []
    for number in count(1):
        part = row.get(_body_column(number))
        if not isinstance(part, bytes):
            break
        parts.append(part)
    if not parts:
        return None
    try:
        return gzip.decompress(b"".join(parts))
    except (OSError, EOFError, zlib.error):
        raise ValueError("The body of the delivery cannot be read.") from None


def _log_unreadable(row: Mapping[str, Any]) -> None:
    key = str(row["RowKey"])
    telemetry.ROW_UNREADABLE(rowKind=key.partition("|")[0], rowKey=key, columns=None, skipped=True)
