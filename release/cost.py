"""The billed quantities of a month of Call Keeper: `python -m release.cost --calls 10000`.

They follow from the way the keeper works. Assumptions about the load are arguments. Prices differ by region, contract
and year, so they are arguments too. Without them the command prints only quantities.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, get_type_hints

HOURS = 730  # in a month, as Azure counts
SECONDS = HOURS * 3600
QUEUE_CONCURRENCY = 4  # messages that an instance handles at once: batchSize + newBatchThreshold of host.json
SHARDS = 16  # shared/storage/store.py
HEAD_ROWS = 2  # shared/storage/rows.py: rows of a shard that are read with its active rows
MAX_PAGE_ROWS = 1000  # that a query of Table Storage returns
PURGE_TRANSACTIONS = 6  # for one call: queries for its row, events, operations and keys, and two batches
RELAY_LOOKS = HOURS * 60  # functions/relay.py: the timer looks at the outbox each minute
RELAY_MESSAGE_TRANSACTIONS = (
    7  # send, get and delete it; read the lane, claim it, read its deliveries, write the result
)
RELAY_PURGE_TRANSACTIONS = 2  # for one call with deliveries: a query and a batch
MIN_BILLED_SECONDS = 1.0  # of active time (Learn: Flex Consumption plan, Billing)


@dataclass(frozen=True, slots=True)
class Load:
    """The load, and the deployment. The annotation of each field is the help of its argument."""

    calls: Annotated[float, "calls at the same time, on average"] = 100
    call_minutes: Annotated[float, "duration of a call, minutes"] = 60
    notifications: Annotated[float, "webhook requests of Graph for each call"] = 4
    requests: Annotated[float, "requests of bots for each call: register, read, hang up"] = 3
    sweep_minutes: Annotated[float, "period of KEEP_ALIVE_SCHEDULE, minutes"] = 15
    keep_alive_seconds: Annotated[float, "time until Graph answers a keepAlive, seconds"] = 0.2
    concurrency: Annotated[float, "KEEP_ALIVE_CONCURRENCY: keepAlives in flight"] = 32
    fan_out_threshold: Annotated[
        float, "SWEEP_FAN_OUT_THRESHOLD: above it a sweep sends one message for each shard"
    ] = 20_000
    request_seconds: Annotated[float, "duration of one webhook or API request, seconds"] = 0.15
    http_concurrency: Annotated[float, "requests that an instance handles at once"] = 16
    relayed: Annotated[float, "notifications that are relayed to a bot, for each call; 0: none"] = 0
    relayed_events: Annotated[float, "events that are delivered to bots, for each call; 0: none"] = 0
    relay_failures: Annotated[float, "failed attempts of the relay, for each delivery"] = 0.01
    bot_seconds: Annotated[float, "time until a bot answers a delivery, seconds"] = 0.2
    memory_gb: Annotated[float, "memory of an instance, GB: 0.5, 2 or 4"] = 2
    always_ready: Annotated[
        float,
        "instances kept ready; with zones at least two for each of HTTP, timer and queue: 6, with the relay 10",
    ] = 0
    health_places: Annotated[float, "locations of the availability test; each sends a request every 5 minutes"] = 0
    record_kb: Annotated[float, "size of one telemetry record, as ingested, KB"] = 1.5
    call_kb: Annotated[float, "storage of one call with its event log, KB"] = 4
    delivery_kb: Annotated[float, "storage of one delivery that was delivered, so without its body, KB"] = 2
    retention_days: Annotated[float, "ENDED_CALL_RETENTION, days"] = 30


@dataclass(frozen=True, slots=True)
class Item:
    """One billed quantity.

    `price` names the argument with the unit price, which is for `per` units. `free` names the argument with the free
    grant; it is empty if there is none.
    """

    name: str
    quantity: float
    price: str
    per: float = 1
    free: str = ""


def bill(load: Load) -> list[Item]:
    """Return all billed quantities of a month. With always-ready instances Azure has other prices and no free grant."""
    ready = load.always_ready * load.memory_gb * SECONDS
    return [
        Item("executions", executions(load), "executions", 1_000_000, "" if ready else "executions"),
        Item("GB-seconds of active instances", active_gb_seconds(load), "gb_seconds", 1, "" if ready else "gb_seconds"),
        Item("GB-seconds of always-ready instances", ready, "ready_gb_seconds"),
        Item("storage transactions", transactions(load), "transactions", 10_000),
        Item("GB of logs and metrics ingested", telemetry_gb(load), "log_gb"),
        Item("GB of calls stored", stored_gb(load), "stored_gb"),
        Item("availability tests", tests(load), "tests", 1_000),
    ]


def ended(load: Load) -> float:
    """Return the number of calls that end in a month; as many begin."""
    return load.calls * HOURS * 60 / load.call_minutes


def sweeps(load: Load) -> float:
    """Return the number of ticks of the timer."""
    return HOURS * 60 / load.sweep_minutes


def messages(load: Load) -> float:
    """Return the number of queue messages: a watchdog for each sweep, and with many calls one for each shard."""
    return sweeps(load) * (1 + (SHARDS if load.calls > load.fan_out_threshold else 0))


def tests(load: Load) -> float:
    """Return the number of availability tests. Each is also a request to /api/health."""
    return load.health_places * HOURS * 12


def requests(load: Load) -> float:
    """Return the number of HTTP executions."""
    return ended(load) * (load.notifications + load.requests) + tests(load)


def deliveries(load: Load) -> float:
    """Return the number of deliveries of the relay."""
    return ended(load) * (load.relayed + load.relayed_events)


def relay_looks(load: Load) -> float:
    """Return the number of ticks of the relay's timer. Without a target the app has no such function."""
    return RELAY_LOOKS if deliveries(load) else 0


def relay_messages(load: Load) -> float:
    """Return the number of the relay's queue messages: at most one for each event, and one for each retry.

    The webhook itself makes the first attempt of a notification.
    """
    return ended(load) * load.relayed_events + deliveries(load) * load.relay_failures


def executions(load: Load) -> float:
    """Return the number of executions: of the timers, the queues and the routes."""
    return sweeps(load) + messages(load) + requests(load) + relay_looks(load) + relay_messages(load)


def active_gb_seconds(load: Load) -> float:
    """Return the memory of instances in GB, times the seconds in which they run something.

    The timers, the queues and HTTP run on different instances. A request takes longer by the bot's answer if it is
    relayed.
    """
    sweep = math.ceil(load.calls / load.concurrency) * load.keep_alive_seconds
    fan_out = load.calls > load.fan_out_threshold
    shard = math.ceil(load.calls / SHARDS / load.concurrency) * load.keep_alive_seconds
    timer = MIN_BILLED_SECONDS if fan_out else max(MIN_BILLED_SECONDS, sweep)
    queue = MIN_BILLED_SECONDS + (SHARDS * max(MIN_BILLED_SECONDS, shard) if fan_out else 0)
    http = requests(load) * load.request_seconds + ended(load) * load.relayed * load.bot_seconds
    relay = relay_messages(load) * load.bot_seconds
    return load.memory_gb * (
        sweeps(load) * (timer + queue)
        + relay_looks(load) * MIN_BILLED_SECONDS
        + _busy_seconds(requests(load), http, load.http_concurrency)
        + _busy_seconds(relay_messages(load), relay, QUEUE_CONCURRENCY)
    )


def _busy_seconds(count: float, seconds: float, concurrency: float) -> float:
    """Return the seconds in a month in which instances run at least one of `count` executions of `seconds` in all.

    Those that overlap on an instance are billed once: with random arrivals it is busy for 1 - e^(-rate x time) of the
    time. A single one counts at least a second.
    """
    if not count:
        return 0
    instances = max(1.0, seconds / SECONDS / concurrency)
    return -math.expm1(-count / SECONDS * max(MIN_BILLED_SECONDS, seconds / count)) * instances * SECONDS


def transactions(load: Load) -> float:
    """Return the number of requests to Table and Queue Storage, without those of the host (leases, timer, polling).

    A request reads a call, and writes one batch if it changes the call. Health reads all watermarks. An ended call is
    deleted after the retention.
    """
    return (
        sweep_transactions(load)
        + (requests(load) - tests(load)) * 2
        + tests(load) * SHARDS
        + ended(load) * PURGE_TRANSACTIONS
        + relay_transactions(load)
    )


def relay_transactions(load: Load) -> float:
    """Return the number of storage requests of the relay.

    A delivery is written with the change of its call, which costs no further request. A look reads the lanes of each
    shard, and the destinations in trouble. Once an hour each shard is searched for old bodies of dead and of disabled
    deliveries. The result of a first attempt is one write.
    """
    purged = ended(load) * RELAY_PURGE_TRANSACTIONS if deliveries(load) else 0
    results = ended(load) * load.relayed
    searches = HOURS * SHARDS * 2 if deliveries(load) else 0
    attempts = results + relay_messages(load) * RELAY_MESSAGE_TRANSACTIONS
    return relay_looks(load) * (SHARDS + 1) + searches + attempts + purged


def sweep_transactions(load: Load) -> float:
    """Return the number of storage requests of sweeps. `make bench` counts the same.

    A sweep reads one watermark, to estimate the number of calls. In each shard it reads the pages of active rows, and
    writes a watermark. A message is put, got and deleted. The watchdog also has a row, which is written and read. Once
    an hour each shard is searched for calls that ended before the retention.
    """
    pages = math.ceil((load.calls / SHARDS + HEAD_ROWS) / MAX_PAGE_ROWS)
    return sweeps(load) * (1 + SHARDS * (pages + 1) + 2) + messages(load) * 3 + HOURS * SHARDS


def telemetry_gb(load: Load) -> float:
    """Return the GB of telemetry: two records for each execution (request and event), one for each storage request.

    A sweep adds 10 metrics. A keepAlive has no record.
    """
    return (2 * executions(load) + transactions(load) + 10 * sweeps(load)) * load.record_kb / 1e6


def stored_gb(load: Load) -> float:
    """Return the GB of stored calls with their deliveries: active ones, and those that ended within the retention."""
    call_kb = load.call_kb + (load.relayed + load.relayed_events) * load.delivery_kb
    return (load.calls + ended(load) * load.retention_days * 24 / HOURS) * call_kb / 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the quantities, and their cost if prices are given; return the exit code."""
    parser = _parser()
    args = vars(parser.parse_args(arguments))
    load = Load(**{field.name: args[field.name] for field in fields(Load)})
    if not all((load.call_minutes, load.sweep_minutes, load.concurrency, load.http_concurrency)):
        parser.error("minutes and concurrencies must be more than 0")
    print(f"{load.calls:,.0f} calls at once, {ended(load):,.0f} a month\n")
    items = [item for item in bill(load) if item.quantity]
    costs = [_cost(item, args) for item in items]
    for item, cost in zip(items, costs, strict=True):
        digits = 0 if item.quantity >= 100 else 2  # noqa: PLR2004 - small quantities need digits
        print(f"{item.quantity:>16,.{digits}f}  {item.name}" + ("" if cost is None else f": {cost:,.2f}"))
    print(_sum_line(costs))
    return 0


def _cost(item: Item, args: dict[str, float | None]) -> float | None:
    free = (args[f"free_{item.free}"] or 0) if item.free else 0
    price = args[f"price_{item.price}"]
    return None if price is None else max(0.0, item.quantity - free) / item.per * price


def _sum_line(costs: Sequence[float | None]) -> str:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return (
            "\nNo prices were given: see --help, and https://azure.microsoft.com/pricing/calculator for your region's"
        )
    return f"\n{'together' if len(known) == len(costs) else 'together, of what has a price'}: {sum(known):,.2f}"


def _parser() -> argparse.ArgumentParser:
    description = "Print what Azure bills for a month of Call Keeper."
    parser = argparse.ArgumentParser(prog="python -m release.cost", description=description)
    helps = get_type_hints(Load, include_extras=True)
    for field in fields(Load):
        text = f"{helps[field.name].__metadata__[0]} (default: %(default)g)"
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=_amount, default=field.default, help=text)
    prices = parser.add_argument_group("unit prices and free grants of your region and contract, in your currency")
    for item in bill(Load()):
        text = f"price of {item.per:,.0f} {item.name}" if item.per > 1 else f"price of one of the {item.name}"
        prices.add_argument(f"--price-{item.price.replace('_', '-')}", type=_amount, metavar="PRICE", help=text)
        if item.free:
            prices.add_argument(
                f"--free-{item.free.replace('_', '-')}",
                type=_amount,
                metavar="N",
                default=0,
                help="free quantity a month",
            )
    return parser


def _amount(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 upwards")


if __name__ == "__main__":
    sys.exit(main())
