"""What a month of Call Keeper is billed by, and how much of each: `python -m release.cost --calls 10000`.

Quantities follow from how the keeper works; what is assumed of the load is an argument. Prices differ by region,
contract and year, so they are arguments too, and without them only quantities are told.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, get_type_hints

HOURS = 730  # of a month, as Azure counts
SECONDS = HOURS * 3600
SHARDS = 16  # shared/storage/store.py
HEAD_ROWS = 2  # shared/storage/rows.py: of a shard, read with its active rows
PAGE = 1000  # rows a query of Table Storage answers with at most
PURGING = 6  # to delete a call: its row, its events, operations and keys are looked for, and two batches written
MINIMUM = 1.0  # seconds: the shortest active time that is billed (Learn: Flex Consumption plan, Billing)


@dataclass(frozen=True, slots=True)
class Load:
    """What the bots do, and how the app is deployed. The words beside a field are the help of its argument."""

    calls: Annotated[float, "calls that are alive at once, on average"] = 100
    call_minutes: Annotated[float, "how long a call lasts"] = 60
    notifications: Annotated[float, "webhook requests of Graph a call"] = 4
    requests: Annotated[float, "requests of bots a call: register, read, hang up"] = 3
    sweep_minutes: Annotated[float, "period of KEEP_ALIVE_SCHEDULE"] = 15
    keep_alive_seconds: Annotated[float, "Graph's answer to one keepAlive"] = 0.2
    concurrency: Annotated[float, "KEEP_ALIVE_CONCURRENCY: keepAlives in flight"] = 32
    fan_out_threshold: Annotated[float, "SWEEP_FAN_OUT_THRESHOLD: more calls are swept by a message a shard"] = 20_000
    request_seconds: Annotated[float, "one webhook or API request"] = 0.15
    http_concurrency: Annotated[float, "requests that an instance serves at once"] = 16
    memory_gb: Annotated[float, "memory of an instance: 0.5, 2 or 4"] = 2
    always_ready: Annotated[
        float, "instances kept ready; with zones at least two for each of HTTP, timer and queue: 6"
    ] = 0
    health_places: Annotated[float, "places of the availability test, each every 5 minutes"] = 0
    record_kb: Annotated[float, "one record of telemetry, as ingested"] = 1.5
    call_kb: Annotated[float, "what is stored of one call, with its story"] = 4
    retention_days: Annotated[float, "ENDED_CALL_RETENTION"] = 30


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is billed. `price` names the argument with its unit price, which is for `per` of them."""

    name: str
    quantity: float
    price: str
    per: float = 1
    free: str = ""


def bill(load: Load) -> list[Item]:
    """Tell all that is billed in a month. Always-ready instances have their own prices and no free grant."""
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
    """Calls that end, and others that begin, in a month."""
    return load.calls * HOURS * 60 / load.call_minutes


def sweeps(load: Load) -> float:
    """Ticks of the timer."""
    return HOURS * 60 / load.sweep_minutes


def messages(load: Load) -> float:
    """Queue messages: each sweep leaves its dead man's switch; many calls are handed over, a message a shard."""
    return sweeps(load) * (1 + (SHARDS if load.calls > load.fan_out_threshold else 0))


def tests(load: Load) -> float:
    """Availability tests: each is a request to /api/health too."""
    return load.health_places * HOURS * 12


def requests(load: Load) -> float:
    """HTTP executions."""
    return ended(load) * (load.notifications + load.requests) + tests(load)


def executions(load: Load) -> float:
    """Runs of the timer, the queue and the routes."""
    return sweeps(load) + messages(load) + requests(load)


def active_gb_seconds(load: Load) -> float:
    """Memory times the time in which an instance runs something.

    The timer, the queue and HTTP run on instances of their own. Requests that overlap on an instance are billed once:
    with arrivals at random it is busy for 1 - e^(-rate x time) of the time, where a lone request counts a second.
    """
    keeping = math.ceil(load.calls / load.concurrency) * load.keep_alive_seconds
    fan_out = load.calls > load.fan_out_threshold
    shard = math.ceil(load.calls / SHARDS / load.concurrency) * load.keep_alive_seconds
    timer = MINIMUM if fan_out else max(MINIMUM, keeping)
    queue = MINIMUM + (SHARDS * max(MINIMUM, shard) if fan_out else 0)
    rate = requests(load) / SECONDS
    instances = max(1.0, rate * load.request_seconds / load.http_concurrency)
    busy = -math.expm1(-rate * max(MINIMUM, load.request_seconds)) * instances
    return load.memory_gb * (sweeps(load) * (timer + queue) + busy * SECONDS)


def transactions(load: Load) -> float:
    """Requests to Table and Queue Storage. The host's own (leases, timer state, polling) are not known here.

    A request reads a call and, if it changes it, writes one batch; health reads all watermarks. After its retention an
    ended call is deleted.
    """
    return sweeping(load) + (requests(load) - tests(load)) * 2 + tests(load) * SHARDS + ended(load) * PURGING


def sweeping(load: Load) -> float:
    """Those of them that sweeps make. `make bench` counts the same.

    A sweep reads one watermark, to judge the number of calls; of each shard the pages of its active rows, and writes a
    watermark. A message is put, got and deleted; the dead man's switch has a row too, which is written and read. Once
    an hour each shard is looked through for calls that ended long ago.
    """
    pages = math.ceil((load.calls / SHARDS + HEAD_ROWS) / PAGE)
    return sweeps(load) * (1 + SHARDS * (pages + 1) + 2) + messages(load) * 3 + HOURS * SHARDS


def telemetry_gb(load: Load) -> float:
    """Records: two an execution (its request and its event), one a request to storage, and some metrics a sweep.

    A keepAlive leaves none.
    """
    return (2 * executions(load) + transactions(load) + 10 * sweeps(load)) * load.record_kb / 1e6


def stored_gb(load: Load) -> float:
    """Calls on record: the live ones, and those that ended within the retention."""
    return (load.calls + ended(load) * load.retention_days * 24 / HOURS) * load.call_kb / 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the quantities, and with prices the sum; the exit code."""
    parser = _parser()
    args = vars(parser.parse_args(arguments))
    load = Load(**{field.name: args[field.name] for field in fields(Load)})
    if not all((load.call_minutes, load.sweep_minutes, load.concurrency, load.http_concurrency)):
        parser.error("minutes and concurrencies must be more than 0")
    print(f"{load.calls:,.0f} calls at once, {ended(load):,.0f} a month\n")
    items = [item for item in bill(load) if item.quantity]
    costs = [_cost(item, args) for item in items]
    for item, cost in zip(items, costs, strict=True):
        digits = 0 if item.quantity >= 100 else 2  # noqa: PLR2004 - small ones would be 0
        print(f"{item.quantity:>16,.{digits}f}  {item.name}" + ("" if cost is None else f": {cost:,.2f}"))
    print(_sum(costs))
    return 0


def _cost(item: Item, args: dict[str, float | None]) -> float | None:
    free = (args[f"free_{item.free}"] or 0) if item.free else 0
    price = args[f"price_{item.price}"]
    return None if price is None else max(0.0, item.quantity - free) / item.per * price


def _sum(costs: Sequence[float | None]) -> str:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return (
            "\nNo prices were given: see --help, and https://azure.microsoft.com/pricing/calculator for your region's"
        )
    return f"\n{'together' if len(known) == len(costs) else 'together, of what has a price'}: {sum(known):,.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m release.cost", description="What a month of Call Keeper is billed by."
    )
    helps = get_type_hints(Load, include_extras=True)
    for field in fields(Load):
        told = f"{helps[field.name].__metadata__[0]} (default: %(default)g)"
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=_amount, default=field.default, help=told)
    prices = parser.add_argument_group("unit prices and free grants of your region and contract, in your currency")
    for item in bill(Load()):
        told = f"{item.per:,.0f} x {item.name}" if item.per > 1 else f"one of {item.name}"
        prices.add_argument(f"--price-{item.price.replace('_', '-')}", type=_amount, metavar="PRICE", help=told)
        if item.free:
            prices.add_argument(
                f"--free-{item.free.replace('_', '-')}", type=_amount, metavar="N", default=0, help="a month"
            )
    return parser


def _amount(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 upwards")


if __name__ == "__main__":
    sys.exit(main())
