"""What Call Keeper tells of itself: every log event and metric by name, with its fields. Nothing else is logged."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shared.domain.calls import Call

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
    # For events that strangers or an outage can cause. `suppressedCount` counts the lines that were left out.
    max_per_minute: int | None = None
    per: tuple[str, ...] = ("reason",)  # the limit holds for each combination of values of these fields

    def __call__(self, **values: Field) -> None:
        """Write the line. Values hold no secret and no personal data."""
        if self.max_per_minute is not None:
            suppressed = _rate_limit(self.name, *map(values.get, self.per), max_lines=self.max_per_minute).acquire()
            if suppressed is None:
                return
            values["suppressedCount"] = suppressed
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
    "A sweep has finished: `wakeUp` names what started it. A shard counts as `swept` only if all its calls were "
    "processed. `smallestMarginMinutes` is the shortest time that a lease had left.",
)
SHARD_FAILED = LogEvent(
    "keep_alive.shard.failed",
    logging.ERROR,
    ("shard", "error"),
    "A shard could not be swept. The other shards are not affected.",
)
PURGE_FAILED = LogEvent(
    "keep_alive.purge.failed",
    logging.WARNING,
    ("shard", "error"),
    "Ended calls past their retention could not be deleted from a shard. A later sweep deletes them.",
)
CALL_WRITE_FAILED = LogEvent(
    "keep_alive.call.write_failed",
    logging.ERROR,
    ("callId", "error"),
    "The result of renewing a call could not be written. The watermark of its shard excludes the call, and the next "
    "sweep renews it again.",
)
STATE_ACCESS_FAILED = LogEvent(
    "keep_alive.state_access.failed",
    logging.WARNING,
    ("error",),
    "A watermark or the row of the dead man's switch could not be read or written. The other wake-ups still work.",
)
ROW_UNREADABLE = LogEvent(
    "store.row.unreadable",
    logging.ERROR,
    ("rowKind", "rowKey", "columns", "skipped", "suppressedCount"),
    "A row, or the named `columns` of it, cannot be read: it is damaged, or a newer version wrote it. If `skipped` is "
    "true, the whole row is ignored; a call whose `active` row is ignored is not renewed. Each instance writes at most "
    "30 lines a minute for each `rowKind`.",
    max_per_minute=30,
    per=("rowKind",),
)
CALL_FAILING = LogEvent(
    "keep_alive.call.failing",
    logging.WARNING,
    ("callId", "tenantId", "reason", "status", "subcode", "requestId", "attempts", "minutesSinceRenewal"),
    "A call could not be renewed. The renewal is tried again.",
)
CALL_AT_RISK = LogEvent(
    "keep_alive.call.at_risk",
    logging.ERROR,
    ("callId", "tenantId", "reason", "status", "subcode", "requestId", "attempts", "minutesSinceRenewal"),
    "A call was not renewed for 30 minutes. Graph ends it 15 minutes later.",
)
FORBIDDEN = LogEvent(
    "graph.forbidden",
    logging.ERROR,
    ("tenantId", "status", "subcode", "requestId"),
    "Graph answered 403: the app lacks consent (7504), or the token is for another tenant (7505).",
)
THROTTLED = LogEvent(
    "graph.throttled",
    logging.WARNING,
    ("tenantId", "retryAfterSeconds"),
    "Graph throttled the requests for a tenant.",
)
TOKEN_FAILED = LogEvent(
    "graph.token.failed", logging.ERROR, ("tenantId", "appId", "error"), "No access token for Graph could be obtained."
)
IDEMPOTENCY_WRITE_FAILED = LogEvent(
    "idempotency.record.write_failed",
    logging.WARNING,
    ("callId", "error"),
    "The outcome of a request could not be saved in its idempotency record. If the request is repeated, the answer may "
    "be 409.",
)
QUEUE_FAILED = LogEvent(
    "queue.send.failed",
    logging.ERROR,
    ("kind", "error"),
    "A message could not be put on the queue. The next sweep does its work.",
)
MESSAGE_FAILED = LogEvent(
    "queue.message.failed",
    logging.ERROR,
    ("dequeueCount", "error"),
    "A queue message could not be processed. After five attempts (host.json: maxDequeueCount) the Functions host moves "
    "it to the poison queue.",
)
CALL_ENDED = LogEvent(
    "call.ended",
    logging.INFO,
    ("callId", "tenantId", "code", "subcode", "category", "source"),
    "A call has ended, or more is known about its end.",
)
CODE_UNKNOWN = LogEvent(
    "termination.code.unknown",
    logging.WARNING,
    ("callId", "code", "subcode"),
    "A call ended with a code that is not in the catalogue.",
)
NOTIFICATIONS_ACCEPTED = LogEvent(
    "notifications.accepted",
    logging.INFO,
    ("tenantId", "tokenKind", "notifications", "calls", "unreadable"),
    "A webhook request was accepted. `notifications` counts those that are stored, `unreadable` those that could not "
    "be read. `tokenKind` is `entra` or `legacy`; Graph is moving from `legacy` to `entra`.",
)
NOTIFICATIONS_REJECTED = LogEvent(
    "notifications.rejected",
    logging.WARNING,
    ("reason", "detail", "suppressedCount"),
    "A webhook request, or a part of it, was rejected. Each instance writes at most 30 lines a minute for each "
    "`reason`; `suppressedCount` is the number of lines left out before this one. The metric "
    "`call_keeper.notifications` counts all.",
    max_per_minute=30,
)
OTHER_TENANT = LogEvent(
    "notifications.other_tenant",
    logging.ERROR,
    ("callId", "tenantId", "appId"),
    "A notification with a valid token of this tenant and bot names a call of another tenant or another bot. That call "
    "was not changed.",
)
KEYS_FAILED = LogEvent(
    "signing_keys.fetch.failed",
    logging.WARNING,
    ("metadataUrl", "reason"),
    "Signing keys could not be fetched. Keys that were fetched before stay in use.",
)
CALL_HUNG_UP = LogEvent(
    "call.hung_up",
    logging.INFO,
    ("callId", "tenantId", "notFound"),
    "A call was hung up at Graph. If `notFound` is true, Graph did not know the call any more.",
)
RECORDING_STARTED = LogEvent(
    "call.recording_started",
    logging.INFO,
    ("callId", "tenantId", "operationId", "status"),
    "Graph started a recording.",
)
REGISTERED = LogEvent(
    "call.registered", logging.INFO, ("callId", "tenantId", "appId", "status"), "A bot registered a call."
)
REQUEST_FAILED = LogEvent(
    "request.failed",
    logging.ERROR,
    ("route", "error", "location", "suppressedCount"),
    "A request failed with a 5xx: a dependency failed, or an unexpected error occurred. `location` is the place in the "
    "code. Each instance writes at most 30 lines a minute for each `route` and `location`; `suppressedCount` is the "
    "number of lines left out before this one.",
    max_per_minute=30,
    per=("route", "location"),
)

CALLS_ENDED = Metric("call_keeper.calls.ended", ("category", "source"), "Calls that have ended.", "{call}")
CODES_UNKNOWN = Metric(
    "call_keeper.termination.unknown", (), "Calls that ended with a code that is not in the catalogue.", "{call}"
)
RENEWALS = Metric(
    "call_keeper.keep_alive.outcomes", ("outcome", "wakeUp"), "keepAlive requests of sweeps, by result.", "{request}"
)
MARGIN = Metric(
    "call_keeper.keep_alive.margin",
    ("wakeUp",),
    "The shortest time that a lease had left when a sweep reached its call.",
    "min",
    "histogram",
)
DURATION = Metric("call_keeper.sweep.duration", ("wakeUp",), "Duration of a sweep.", "s", "histogram")
# No gauge: each instance would repeat its last value for ever, whatever sweeps of others have found since.
ACTIVE = Metric(
    "call_keeper.calls.active", ("shard",), "Active calls of a shard after its sweep.", "{call}", "histogram"
)
NOTIFICATIONS = Metric("call_keeper.notifications", ("outcome",), "Notifications, by result.", "{notification}")


def log_call_ended(call: "Call") -> None:
    """Tell that a call is over, or that more became known of its end."""
    from shared.domain.termination import catalogue  # noqa: PLC0415 (only an end needs it)

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
