"""All log events and metrics, each with its fields, and spans of requests. Nothing else is logged."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shared.domain.calls import Call

LOGGER = "call_keeper"
# Limits in memory; some dozens are in use. If a field ever holds text from outside, memory stays bounded.
MAX_RATE_LIMITS = 256

LIBRARY_LOG_LEVELS = {
    **dict.fromkeys(("aiohttp", "azure", "httpx", "msal"), logging.WARNING),  # INFO has a line for each request
    "azure.identity": logging.ERROR,  # its warnings repeat the text of Entra's answer
}

type Field = str | int | float | bool | None


@dataclass(slots=True)
class LogRateLimit:
    """Allows `max_lines` lines in a minute."""

    max_lines: int
    window_began_at: float = -60
    written: int = 0
    suppressed: int = 0

    def acquire(self) -> int | None:
        """Return the number of lines that were left out before this one. None: leave this one out too."""
        now = time.monotonic()
        if now - self.window_began_at >= 60:  # noqa: PLR2004 seconds
            self.window_began_at, self.written = now, 0
        if self.written >= self.max_lines:
            self.suppressed += 1
            return None
        suppressed, self.suppressed = self.suppressed, 0
        self.written += 1
        return suppressed


@lru_cache(MAX_RATE_LIMITS)
def _rate_limit(*_of: object, max_lines: int) -> LogRateLimit:
    return LogRateLimit(max_lines)


@dataclass(frozen=True, slots=True)
class LogEvent[**Fields]:
    """One kind of line in the log: `name key=value …`. Its values are also `extra`, so that they become columns.

    Parameters
    ----------
    name, level, meaning
        As the tables in docs/telemetry.md show them.
    fields
        The names of the values of a line.
    max_per_minute
        The limit of lines, for events that strangers or an outage can cause. None: no limit. `suppressedCount` of a
        line counts the lines that were left out before it.
    per
        The limit holds for each combination of values of these fields.
    """

    name: str
    level: int
    fields: tuple[str, ...]
    meaning: str
    max_per_minute: int | None = None
    per: tuple[str, ...] = ("reason",)

    def __call__(self, *_none: Fields.args, **values: Fields.kwargs) -> None:
        """Write the line. Values hold no secret and no personal data."""
        written: dict[str, object] = dict(values)
        if self.max_per_minute is not None:
            suppressed = _rate_limit(self.name, *map(values.get, self.per), max_lines=self.max_per_minute).acquire()
            if suppressed is None:
                return
            written["suppressedCount"] = suppressed
        line = " ".join(f"{key}={value}" for key, value in written.items())
        logging.getLogger(LOGGER).log(self.level, "%s %s", self.name, line, extra={"event": self.name, **written})


def log_event[**Fields](
    name: str, level: int, *, max_per_minute: int | None = None, per: tuple[str, ...] = ("reason",)
) -> Callable[[Callable[Fields, None]], LogEvent[Fields]]:
    """Declare a log event by a function without a body. Type checkers hold each call to its parameters.

    The parameters of the function are the fields of a line, under their names in the log. The docstring says what a
    line means. The other parameters are those of `LogEvent`.
    """

    def declare(function: Callable[Fields, None]) -> LogEvent[Fields]:
        fields = tuple(signature(function).parameters)
        counted = fields if max_per_minute is None else (*fields, "suppressedCount")
        return LogEvent(name, level, counted, " ".join((function.__doc__ or "").split()), max_per_minute, per)

    return declare


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and the attributes that split it. These have few values each, so no ids of calls or tenants."""

    name: str
    attributes: tuple[str, ...]
    meaning: str
    unit: str
    kind: Literal["counter", "histogram"] = "counter"

    def add(self, amount: float = 1, **attributes: Field) -> None:
        """Add to the counter, or record a value in the histogram."""
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


def quieten_libraries() -> None:
    """Set the log levels of libraries that log each request, some with its headers."""
    for name, level in LIBRARY_LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)


def trace_headers() -> dict[str, str]:
    """Return the trace headers of the current span for a request to another service. Empty without a span."""
    from opentelemetry import propagate  # noqa: PLC0415 (as above)

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return {name: headers[name] for name in ("traceparent", "tracestate") if headers.get(name)}


@contextmanager
def dependency(name: str, **attributes: str) -> Iterator[Callable[[int, str | None], None]]:
    """Trace a request to another service. The block calls what it gets with the status and the request id."""
    from opentelemetry import trace  # noqa: PLC0415 (as above)

    tracer, kind = trace.get_tracer(LOGGER), trace.SpanKind.CLIENT
    # The exception is not recorded: its text is not ours.
    with tracer.start_as_current_span(name, kind=kind, attributes=attributes, record_exception=False) as span:

        def record_response(status: int, request_id: str | None) -> None:
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("requestId", request_id or "")
            if status >= 400:  # noqa: PLR2004 the 4xx and 5xx
                span.set_status(trace.StatusCode.ERROR)

        yield record_response


@contextmanager
def storage_request(operation: str, table: str, account: str) -> Iterator[None]:
    """Trace a request to Table Storage with its retries. The span has failed if the block raises.

    Names and attributes are those of OpenTelemetry's semantic conventions for databases.
    """
    from opentelemetry import trace  # noqa: PLC0415 (as above)

    attributes = {
        "db.system.name": "azure.tables",
        "db.namespace": account,
        "db.collection.name": table,
        "db.operation.name": operation,
    }
    # The exception is not recorded: its text is not ours.
    with trace.get_tracer(LOGGER).start_as_current_span(
        f"{operation} {table}", kind=trace.SpanKind.CLIENT, attributes=attributes, record_exception=False
    ):
        yield


@log_event("keep_alive.sweep.finished", logging.INFO)
def SWEEP_FINISHED(
    *,
    wakeUp: str,
    shards: int,
    swept: int,
    skipped: int,
    failed: int,
    handedOver: int,
    renewed: int,
    ended: int,
    failing: int,
    purged: int,
    smallestMarginMinutes: float | None,
) -> None:
    """A sweep has finished: `wakeUp` names what started it.

    A shard counts as `swept` only if all its calls were processed. `smallestMarginMinutes` is the shortest time that a
    lease had left.
    """


@log_event("keep_alive.shard.failed", logging.ERROR)
def SHARD_FAILED(*, shard: int, error: str) -> None:
    """A shard could not be swept. The other shards are not affected."""


@log_event("keep_alive.purge.failed", logging.WARNING)
def PURGE_FAILED(*, shard: int, error: str) -> None:
    """Ended calls past their retention could not be deleted from a shard. A later sweep deletes them."""


@log_event("keep_alive.call.write_failed", logging.ERROR)
def CALL_WRITE_FAILED(*, callId: str, error: str) -> None:
    """The result of renewing a call could not be written.

    The watermark of its shard excludes the call, and the next sweep renews it again.
    """


@log_event("keep_alive.state_access.failed", logging.WARNING)
def STATE_ACCESS_FAILED(*, error: str) -> None:
    """A watermark, the row of the dead man's switch, or a row of the relay could not be read or written.

    The other wake-ups still work. A later look finds the deliveries.
    """


@log_event("store.row.unreadable", logging.ERROR, max_per_minute=30, per=("rowKind",))
def ROW_UNREADABLE(*, rowKind: str, rowKey: str, columns: str | None, skipped: bool) -> None:
    """A row, or the named `columns` of it, cannot be read: it is damaged, or a newer version wrote it.

    If `skipped` is true, the whole row is ignored; a call whose `active` row is ignored is not renewed. Each instance
    writes at most 30 lines a minute for each `rowKind`.
    """


@log_event("keep_alive.call.failing", logging.WARNING)
def CALL_FAILING(
    *,
    callId: str,
    tenantId: str,
    reason: str,
    status: int | None,
    subcode: int | None,
    requestId: str | None,
    attempts: int,
    minutesSinceRenewal: float,
) -> None:
    """A call could not be renewed. The renewal is tried again."""


@log_event("keep_alive.call.at_risk", logging.ERROR)
def CALL_AT_RISK(
    *,
    callId: str,
    tenantId: str,
    reason: str,
    status: int | None,
    subcode: int | None,
    requestId: str | None,
    attempts: int,
    minutesSinceRenewal: float,
) -> None:
    """A call was not renewed for 30 minutes. Graph ends it 15 minutes later."""


@log_event("graph.forbidden", logging.ERROR)
def FORBIDDEN(*, tenantId: str, status: int, subcode: int | None, requestId: str | None) -> None:
    """Graph answered 403: the app lacks consent (7504), or the token is for another tenant (7505)."""


@log_event("graph.throttled", logging.WARNING)
def THROTTLED(*, tenantId: str, retryAfterSeconds: float) -> None:
    """Graph throttled the requests for a tenant."""


@log_event("graph.token.failed", logging.ERROR)
def TOKEN_FAILED(*, tenantId: str, appId: str | None, error: str | None) -> None:
    """No access token for Graph could be obtained."""


@log_event("idempotency.record.write_failed", logging.WARNING)
def IDEMPOTENCY_WRITE_FAILED(*, callId: str, error: str) -> None:
    """The outcome of a request could not be saved in its idempotency record.

    If the request is repeated, the answer may be 409.
    """


@log_event("queue.send.failed", logging.ERROR)
def QUEUE_FAILED(*, kind: str, error: str) -> None:
    """A message could not be put on the queue. The next sweep does its work."""


@log_event("queue.message.failed", logging.ERROR)
def MESSAGE_FAILED(*, dequeueCount: int | None, error: str) -> None:
    """A queue message could not be processed.

    After five attempts (host.json: maxDequeueCount) the Functions host moves it to the poison queue.
    """


@log_event("call.ended", logging.INFO)
def CALL_ENDED(
    *, callId: str, tenantId: str, code: int | None, subcode: int | None, category: str, source: str
) -> None:
    """A call has ended, or more is known about its end."""


@log_event("termination.code.unknown", logging.WARNING)
def CODE_UNKNOWN(*, callId: str, code: int | None, subcode: int | None) -> None:
    """A call ended with a code that is not in the catalogue."""


@log_event("notifications.accepted", logging.INFO)
def NOTIFICATIONS_ACCEPTED(*, tenantId: str, tokenKind: str, notifications: int, calls: int, unreadable: int) -> None:
    """A webhook request was accepted.

    `notifications` counts those that are stored, `unreadable` those that could not be read. `tokenKind` is `entra` or
    `legacy`; Graph is moving from `legacy` to `entra`.
    """


@log_event("notifications.rejected", logging.WARNING, max_per_minute=30)
def NOTIFICATIONS_REJECTED(*, reason: str, detail: str) -> None:
    """A webhook request, or a part of it, was rejected.

    Each instance writes at most 30 lines a minute for each `reason`; `suppressedCount` is the number of lines left out
    before this one. The metric `call_keeper.notifications` counts all.
    """


@log_event("notifications.other_tenant", logging.ERROR)
def OTHER_TENANT(*, callId: str, tenantId: str, appId: str | None) -> None:
    """A notification with a valid token of this tenant and bot names a call of another tenant or another bot.

    That call was not changed.
    """


@log_event("signing_keys.fetch.failed", logging.WARNING)
def KEYS_FAILED(*, metadataUrl: str, reason: str) -> None:
    """Signing keys could not be fetched. Keys that were fetched before stay in use."""


@log_event("call.hung_up", logging.INFO)
def CALL_HUNG_UP(*, callId: str, tenantId: str, notFound: bool) -> None:
    """A call was hung up at Graph. If `notFound` is true, Graph did not know the call any more."""


@log_event("call.recording_started", logging.INFO)
def RECORDING_STARTED(*, callId: str, tenantId: str, operationId: str, status: str) -> None:
    """Graph started a recording."""


@log_event("call.registered", logging.INFO)
def REGISTERED(*, callId: str, tenantId: str, appId: str | None, status: str) -> None:
    """A bot registered a call."""


@log_event("request.failed", logging.ERROR, max_per_minute=30, per=("route", "location"))
def REQUEST_FAILED(*, route: str, error: str, location: str) -> None:
    """A request failed with a 5xx: a dependency failed, or an unexpected error occurred.

    `location` is the place in the code. Each instance writes at most 30 lines a minute for each `route` and `location`;
    `suppressedCount` is the number of lines left out before this one.
    """


@log_event("relay.delivery.failed", logging.WARNING, max_per_minute=30, per=("target", "error"))
def RELAY_FAILED(
    *,
    target: str,
    callId: str,
    type: str,  # noqa: A002 (the name of the field in docs/api.md)
    status: int | None,
    error: str | None,
    attempts: int,
) -> None:
    """An attempt to deliver to a bot failed: the bot answered `status`, or there was no answer and `error` says why.

    The delivery is attempted again. Each instance writes at most 30 lines a minute for each `target` and `error`.
    """


@log_event("relay.delivery.dead", logging.ERROR, max_per_minute=30, per=("target", "error"))
def RELAY_DEAD(
    *,
    target: str,
    callId: str,
    type: str,  # noqa: A002 (as above)
    deliveryId: str,
    error: str | None,
    attempts: int,
) -> None:
    """A delivery is dead: the bot did not accept it. It is attempted again only if an operator replays it.

    Each instance writes at most 30 lines a minute for each `target` and `error`.
    """


@log_event("relay.target.disabled", logging.ERROR)
def RELAY_DISABLED(*, target: str, to: str | None) -> None:
    """A destination answered 410 and is switched off. Its deliveries wait until it is enabled."""


@log_event("relay.target.down", logging.ERROR)
def RELAY_DOWN(*, target: str, to: str | None, failures: int) -> None:
    """The breaker of a destination opened after `failures` failed attempts in a row.

    From now on one probe at a time goes through.
    """


@log_event("relay.target.up", logging.INFO)
def RELAY_UP(*, target: str, to: str | None) -> None:
    """A destination works again: it accepted a probe, so its breaker closed, or it was enabled after a 410."""


@log_event("relay.target.enabled", logging.INFO)
def RELAY_ENABLED(*, target: str, count: int) -> None:
    """An operator enabled a target. `count` deliveries that were held are pending again."""


@log_event("relay.replayed", logging.INFO)
def RELAY_REPLAYED(*, target: str, count: int) -> None:
    """An operator replayed `count` dead or disabled deliveries to a target."""


@log_event("relay.outbox.age", logging.INFO)
def RELAY_BACKLOG(*, lanes: int, oldestSeconds: float) -> None:
    """A look at the outbox found `lanes` with pending deliveries. The oldest has waited for `oldestSeconds`.

    A delivery waits from its receipt, or from its replay. A look that finds nothing pending writes no line.
    """


@log_event("relay.settings.invalid", logging.ERROR)
def RELAY_OFF(*, error: str) -> None:
    """The settings of the relay are wrong. The relay is off, and everything else works. Its timer repeats the line."""


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
# Not a gauge: each instance would repeat its last value for ever, even after sweeps of others found another.
ACTIVE = Metric(
    "call_keeper.calls.active", ("shard",), "Active calls of a shard after its sweep.", "{call}", "histogram"
)
NOTIFICATIONS = Metric("call_keeper.notifications", ("outcome",), "Notifications, by result.", "{notification}")
RELAY_DELIVERIES = Metric(
    "call_keeper.relay.deliveries",
    ("outcome", "target", "kind"),
    "Attempts to deliver to bots, by result.",
    "{attempt}",
)
RELAY_LATENCY = Metric(
    "call_keeper.relay.latency", ("outcome",), "Duration of one attempt to deliver to a bot.", "s", "histogram"
)


def log_call_ended(call: "Call") -> None:
    """Log the end of a call, or that more is known about it."""
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
