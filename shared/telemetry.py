"""What Call Keeper tells of itself: every log event and metric by name, with its fields. Nothing else is logged."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shared.calls import Call

LOGGER = "call_keeper"
MAX_RATE_LIMITS = 256  # there are some dozens; should a field ever hold a stranger's text, memory stays bounded

type Field = str | int | float | bool | None


@dataclass(slots=True)
class LogRateLimit:
    """At most so many lines in a minute."""

    max_lines: int
    window_began_at: float = -60
    written: int = 0
    suppressed: int = 0

    def acquire(self) -> int | None:
        """How many lines were left out before this one; None: leave this one out too."""
        now = time.monotonic()
        if now - self.window_began_at >= 60:  # noqa: PLR2004 a minute
            self.window_began_at, self.written = now, 0
        if self.written >= self.max_lines:
            self.suppressed += 1
            return None
        suppressed, self.suppressed = self.suppressed, 0
        self.written += 1
        return suppressed


@lru_cache(MAX_RATE_LIMITS)
def _rate_limit(*_of: Field, max_lines: int) -> LogRateLimit:
    return LogRateLimit(max_lines)


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One kind of line in the log: `name key=value …`, its values also as `extra`, so that they become columns."""

    name: str
    level: int
    fields: tuple[str, ...]
    meaning: str
    # For what strangers, or an outage, can cause. `leftOut` counts what was held back.
    max_per_minute: int | None = None
    per: tuple[str, ...] = ("why",)  # the fields for each of whose values so many are told

    def __call__(self, **values: Field) -> None:
        """Write the line. Values hold no secret and no personal data."""
        if self.max_per_minute is not None:
            suppressed = _rate_limit(self.name, *map(values.get, self.per), max_lines=self.max_per_minute).acquire()
            if suppressed is None:
                return
            values["leftOut"] = suppressed
        line = " ".join(f"{key}={value}" for key, value in values.items())
        logging.getLogger(LOGGER).log(self.level, "%s %s", self.name, line, extra={"event": self.name, **values})


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure over time, with the attributes it is split by: few values each, so no ids of calls or tenants."""

    name: str
    attributes: tuple[str, ...]
    meaning: str
    unit: str
    kind: Literal["counter", "histogram"] = "counter"

    def add(self, amount: float = 1, **attributes: Field) -> None:
        """Count it or measure it, as the kind is."""
        _instrument(self)(amount, {name: value for name, value in attributes.items() if value is not None})


@cache
def _instrument(metric: Metric) -> Callable[[float, Mapping[str, str | int | float | bool]], None]:
    from opentelemetry import metrics  # noqa: PLC0415 (not at import: every function would pay for it)

    meter = metrics.get_meter(LOGGER)
    match metric.kind:
        case "counter":
            return meter.create_counter(metric.name, metric.unit, metric.meaning).add
        case "histogram":
            return meter.create_histogram(metric.name, metric.unit, metric.meaning).record


def trace_headers() -> dict[str, str]:
    """`traceparent` of what is under way, for a request to another service; nothing where nobody traces."""
    from opentelemetry import propagate  # noqa: PLC0415 (as above)

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return {name: headers[name] for name in ("traceparent", "tracestate") if headers.get(name)}


@contextmanager
def dependency(name: str, **attributes: str) -> Iterator[Callable[[int, str | None], None]]:
    """A request to another service, as a span. What it gives is to be told the answer's status and request id."""
    from opentelemetry import trace  # noqa: PLC0415 (as above)

    tracer, kind = trace.get_tracer(LOGGER), trace.SpanKind.CLIENT
    # Not the exception: its text is not ours.
    with tracer.start_as_current_span(name, kind=kind, attributes=attributes, record_exception=False) as span:

        def record_response(status: int, request_id: str | None) -> None:
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("requestId", request_id or "")
            if status >= 400:  # noqa: PLR2004 the 4xx and 5xx
                span.set_status(trace.StatusCode.ERROR)

        yield record_response


@contextmanager
def storage_request(operation: str, table: str, account: str) -> Iterator[None]:
    """A request to Table Storage with its retries, as a span; it fails if the block raises.

    Names and attributes are those of OpenTelemetry's semantic conventions for databases.
    """
    from opentelemetry import trace  # noqa: PLC0415 (as above)

    attributes = {
        "db.system.name": "azure.tables",
        "db.namespace": account,
        "db.collection.name": table,
        "db.operation.name": operation,
    }
    # Not the exception: its text is not ours.
    with trace.get_tracer(LOGGER).start_as_current_span(
        f"{operation} {table}", kind=trace.SpanKind.CLIENT, attributes=attributes, record_exception=False
    ):
        yield


SWEEP_FINISHED = LogEvent(
    "keep_alive.sweep.finished",
    logging.INFO,
    (
        "wakeUp",
        "shards",
        "swept",
        "skipped",
        "failed",
        "handedOver",
        "renewed",
        "ended",
        "failing",
        "purged",
        "smallestMarginMinutes",
    ),
    "A sweep is done: which wake-up began it, what became of its shards (only `swept` ones are proved well), and "
    "the shortest time that a lease had left.",
)
SHARD_FAILED = LogEvent(
    "keep_alive.shard.failed", logging.ERROR, ("shard", "error"), "A shard could not be swept; the others were."
)
PURGE_FAILED = LogEvent(
    "keep_alive.purge.failed",
    logging.WARNING,
    ("shard", "error"),
    "Ended calls whose retention is over could not be deleted from a shard; a later sweep does it.",
)
CALL_WRITE_FAILED = LogEvent(
    "keep_alive.call.unwritten",
    logging.ERROR,
    ("callId", "error"),
    "What became of a call could not be written: the watermark of its shard excepts it, and the next sweep asks again.",
)
STATE_ACCESS_FAILED = LogEvent(
    "keep_alive.look.failed",
    logging.WARNING,
    ("error",),
    "A watermark or the dead man's switch could not be read or written; the other wake-ups go on.",
)
ROW_UNREADABLE = LogEvent(
    "store.row.unreadable",
    logging.ERROR,
    ("rowKind", "rowKey", "columns", "skipped", "leftOut"),
    "A row, or some `columns` of it, cannot be read: it is damaged, or a newer version wrote it. `skipped`: all of it "
    "was left out, and an `active` one is then not renewed. At most 30 lines a minute, an instance and a `rowKind`.",
    max_per_minute=30,
    per=("rowKind",),
)
CALL_FAILING = LogEvent(
    "keep_alive.call.failing",
    logging.WARNING,
    ("callId", "tenantId", "reason", "status", "subcode", "requestId", "attempts", "minutesSinceRenewal"),
    "keepAlive did not succeed for a call; it is tried again.",
)
CALL_AT_RISK = LogEvent(
    "keep_alive.call.at_risk",
    logging.ERROR,
    ("callId", "tenantId", "reason", "status", "subcode", "requestId", "attempts", "minutesSinceRenewal"),
    "A call was not renewed for 30 minutes: Graph ends it 15 minutes later.",
)
FORBIDDEN = LogEvent(
    "graph.forbidden",
    logging.ERROR,
    ("tenantId", "status", "subcode", "requestId"),
    "Graph answers 403: the app lacks consent (7504), or the token is of another tenant (7505).",
)
THROTTLED = LogEvent(
    "graph.throttled", logging.WARNING, ("tenantId", "retryAfterSeconds"), "Graph asked a tenant to slow down."
)
TOKEN_FAILED = LogEvent(
    "graph.token.failed", logging.ERROR, ("tenantId", "appId", "error"), "No Graph token could be had."
)
IDEMPOTENCY_WRITE_FAILED = LogEvent(
    "management.key.unsettled",
    logging.WARNING,
    ("callId", "error"),
    "What became of a request with an Idempotency-Key could not be written; a repetition of it may be answered 409.",
)
QUEUE_FAILED = LogEvent(
    "queue.send.failed", logging.ERROR, ("kind", "error"), "A wake-up could not be left; the next sweep does its work."
)
MESSAGE_FAILED = LogEvent(
    "queue.message.failed",
    logging.ERROR,
    ("dequeueCount", "error"),
    "A wake-up could not be done. After the fifth time (host.json: maxDequeueCount) it lies on the poison queue.",
)
CALL_ENDED = LogEvent(
    "call.ended",
    logging.INFO,
    ("callId", "tenantId", "code", "subcode", "category", "source"),
    "A call is over, or more became known of its end.",
)
CODE_UNKNOWN = LogEvent(
    "termination.code.unknown",
    logging.WARNING,
    ("callId", "code", "subcode"),
    "An end code that the catalogue does not have.",
)
NOTIFICATIONS_ACCEPTED = LogEvent(
    "notifications.accepted",
    logging.INFO,
    ("tenantId", "tokenKind", "notifications", "calls", "faults"),
    "A webhook body is stored. `tokenKind` is `entra` or `legacy`: Graph is moving from the second to the first.",
)
NOTIFICATIONS_REJECTED = LogEvent(
    "notifications.refused",
    logging.WARNING,
    ("why", "detail", "leftOut"),
    "A webhook body, or a part of it, was not taken. At most 30 lines a minute, an instance and a `why`; `leftOut` "
    "says how many were left out before this one, and the metric `call_keeper.notifications` counts all.",
    max_per_minute=30,
)
OTHER_TENANT = LogEvent(
    "notifications.other_tenant",
    logging.ERROR,
    ("callId", "tenantId", "appId"),
    "A token of this tenant for this bot, well signed, told of a call of another tenant or another bot. Nothing of "
    "that call was touched.",
)
KEYS_FAILED = LogEvent(
    "signing_keys.fetch.failed",
    logging.WARNING,
    ("metadataUrl", "reason"),
    "Keys that tokens are verified with could not be fetched; those at hand stay in use.",
)
CALL_HUNG_UP = LogEvent("call.hangup", logging.INFO, ("callId", "tenantId", "gone"), "A call was hung up at Graph.")
RECORDING_STARTED = LogEvent(
    "call.recording", logging.INFO, ("callId", "tenantId", "operationId", "status"), "A recording was started."
)
REGISTERED = LogEvent(
    "call.registered", logging.INFO, ("callId", "tenantId", "appId", "status"), "A bot registered a call."
)
REQUEST_FAILED = LogEvent(
    "request.failed",
    logging.ERROR,
    ("route", "error", "where", "leftOut"),
    "A request could not be done: our trouble, a dependency's, or an error that nobody foresaw. At most 30 lines a "
    "minute, an instance, a `route` and a `where`; `leftOut` says how many were left out before this one.",
    max_per_minute=30,
    per=("route", "where"),
)

CALLS_ENDED = Metric("call_keeper.calls.ended", ("category", "source"), "Calls that ended.", "{call}")
CODES_UNKNOWN = Metric("call_keeper.termination.unknown", (), "End codes not in the catalogue.", "{call}")
RENEWALS = Metric("call_keeper.keep_alive.outcomes", ("outcome", "wakeUp"), "keepAlives of sweeps.", "{request}")
MARGIN = Metric(
    "call_keeper.keep_alive.margin",
    ("wakeUp",),
    "The shortest time that a lease had left when a sweep came to it.",
    "min",
    "histogram",
)
DURATION = Metric("call_keeper.sweep.duration", ("wakeUp",), "How long a sweep took.", "s", "histogram")
# No gauge: each instance would repeat its last value for ever, whatever sweeps of others have found since.
ACTIVE = Metric(
    "call_keeper.calls.active", ("shard",), "Calls alive after a sweep of their shard.", "{call}", "histogram"
)
NOTIFICATIONS = Metric(
    "call_keeper.notifications", ("outcome",), "Notifications, by what became of them.", "{notification}"
)


def log_call_ended(call: "Call") -> None:
    """Tell that a call is over, or that more became known of its end."""
    from shared.termination import catalogue  # noqa: PLC0415 (only an end needs it)

    termination = call.termination
    if termination is None:
        return
    CALL_ENDED(
        callId=call.id,
        tenantId=call.tenant_id,
        code=termination.code,
        subcode=termination.subcode,
        category=termination.category,
        source=termination.source,
    )
    CALLS_ENDED.add(category=termination.category, source=termination.source)
    if termination.subcode is not None and not catalogue().is_known(termination.code, termination.subcode):
        CODE_UNKNOWN(callId=call.id, code=termination.code, subcode=termination.subcode)
        CODES_UNKNOWN.add()
