"""The keys of all rows: partitions, row keys, and ranges of them. docs/storage.md shows a row of each kind."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from shared.domain.calls import Call, Status
from shared.domain.deliveries import DeliveryStatus, Destination, LaneKey
from shared.storage.table import KeyRange

SHARDS = 16  # fixed: it is part of every key
MAX_CACHED_SHARDS = 4_096  # calls; one request asks for the shard of its call several times
PROGRESS_ROW = "active-progress"  # these two sort just before the `active|` rows: one scan reads all that a sweep needs
WATERMARK_ROW = "active-watermark"
WATCHDOG_ROW = "watchdog"  # in shard 0
SIGNING_KEY_ROW = "signing-key"  # in shard 0
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MAX_SEQUENCE = 10**16 - 1  # microseconds: in the year 2286


@lru_cache(MAX_CACHED_SHARDS)
def shard_of(call_id: str) -> int:
    """Return the shard of a call, the same in all processes and versions. Expects the canonical id."""
    return int.from_bytes(sha256(call_id.encode()).digest()[:4]) % SHARDS


def active_key(call_id: str) -> str:
    """Return the key of an active call."""
    return f"active|{call_id}"


def ended_key(call_id: str) -> str:
    """Return the key of an ended call."""
    return f"ended|{call_id}"


def recent_key(ended_at: datetime, call_id: str) -> str:
    """Return the key that sorts ended calls newest first: 18 digits of the microseconds from the end to year 10000."""
    return f"recent|{_descending(ended_at)}|{call_id}"


def parse_recent_key(recent: str) -> datetime:
    """Return the end of the call from the key of a `recent|` row. Raises `ValueError`."""
    try:
        return _END_OF_TIME - int(recent.split("|")[1]) * _MICROSECOND
    except (IndexError, OverflowError):
        raise ValueError("The key has no time.") from None


def event_key(call_id: str, digest: str) -> str:
    """Return the key of a line of the event log."""
    return f"event|{call_id}|{digest}"


def first_event_key(call_id: str) -> str:
    """Return the key of the line that says how the call became known.

    There is one for each call, so that only one writer can create the call. ETags cannot ensure that: `active|` and
    `ended|` are two rows, and two writers that read nothing could write both.
    """
    return event_key(call_id, "first")


def operation_key(call_id: str, operation_id: str) -> str:
    """Return the key of an operation."""
    return f"operation|{call_id}|{operation_id}"


def idempotency_record_key(call_id: str, name: str) -> str:
    """Return the key of a request with an `Idempotency-Key`."""
    return f"idempotency|{call_id}|{name}"


def delivery_key(call_id: str, sequence: int) -> str:
    """Return the key of a delivery: those of a call sort in their order."""
    return f"delivery|{call_id}|{sequence:016}"


def sequence_of_key(key: str) -> int:
    """Return the sequence of the key of a delivery or of a barrier."""
    return int(key.split("|")[2])


def barrier_key(call_id: str, sequence: int, primary_call_id: str) -> str:
    """Return the key of the place of another call's delivery. It sorts behind an own delivery with this sequence."""
    return f"{delivery_key(call_id, sequence)}|{primary_call_id}"


def delivery_status_key(status: DeliveryStatus, sequence: int, call_id: str) -> str:
    """Return the key of the copy of a delivery that lists its status, newest first."""
    return f"{status}|{MAX_SEQUENCE - sequence:016}|{call_id}"


def delivery_status_range(status: DeliveryStatus, sequence: int) -> KeyRange:
    """Return the range of the copies with this status and sequence, nearly always one."""
    return prefix_range(f"{status}|{MAX_SEQUENCE - sequence:016}")


def received_between_range(status: DeliveryStatus, first: int, last: int) -> KeyRange:
    """Return the range of the copies with this status and sequences from `first` to `last`, ends included."""
    return KeyRange(f"{status}|{MAX_SEQUENCE - last:016}", f"{status}|{MAX_SEQUENCE - first:016}}}")


def lane_key(key: LaneKey) -> str:
    """Return the key of a lane."""
    return f"lane|{key.call_id}|{key.destination.target}|{key.destination.to or ''}"


def parse_lane_key(key: str) -> LaneKey:
    """Return the lane of its key. Raises `ValueError`."""
    _, call_id, target, to = key.split("|")
    return LaneKey(call_id, Destination(target, to or None))


def destination_key(destination: Destination) -> str:
    """Return the key of the state of a destination, in shard 0."""
    return f"destination|{destination.target}|{destination.to or ''}"


def call_key(call: Call) -> str:
    """Return the key of the row that holds the state of a call."""
    return active_key(call.id) if call.status is Status.ACTIVE else ended_key(call.id)


def id_of_key(key: str) -> str:
    """Return what follows the last `|` of a key: ids contain none."""
    return key.rpartition("|")[2]


def prefix_range(prefix: str) -> KeyRange:
    """Return the range of all keys that begin with this prefix and a `|`; `}` is the next character."""
    return KeyRange(f"{prefix}|", f"{prefix}}}")


def ended_before_range(moment: datetime) -> KeyRange:
    """Return the range of the `recent|` rows of calls that ended before a moment."""
    return KeyRange(f"recent|{_descending(moment)}}}", "recent}")


def sweep_range() -> KeyRange:
    """Return the range that a sweep of a shard reads: its progress, its watermark, and then its active calls."""
    return KeyRange("active-", prefix_range("active").below)


def _descending(moment: datetime) -> str:
    return f"{(_END_OF_TIME - moment) // _MICROSECOND:018}"
