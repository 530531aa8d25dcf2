"""The results as tables for the terminal, and the goals that they must meet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

type Json = Mapping[str, object]

CONTESTANTS = {"bare": "(a) bare aiohttp loop", "sdk": "(b) msgraph-sdk", "sweep": "(c) our whole sweep"}
SWEEPS = {"first": "the first of a process", "next": "the next of the same process"}
NOTIFICATION_COLUMNS = ("a second", "p99 ms", "CPU ms, ours", "CPU ms, Azurite")
RELAY_COLUMNS = ("the bot hears, p50 ms", "p99 ms", "202, p50 ms", "p99 ms", "a second", "CPU ms of the host")
RELAY_VARIANTS = {"off": "without relay", "relay": "with relay", "dead_beside": "with a dead target beside"}
HANG_UP_COLUMNS = ("a hang-up", "p50 ms", "p90 ms")
_FIGURE_COLUMNS = ("requests/s", "CPU s per 1,000", "p99 ms", "peak MB")


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal with its bound in words, the measured value, True if it is met, and a note for the reader."""

    text: str
    measured: float
    met: bool
    note: str = ""


def goals(results: Json) -> list[Goal]:
    """Return the goals of the parts that were measured. For sweeps the second one of a process counts."""
    return [*_keep_alive_goals(results), *_other_goals(results)]


def tables(results: Json) -> str:
    """Return one table for each part that was measured, and the table of goals."""
    return "\n\n".join(_tables(results))


def _keep_alive_goals(results: Json) -> Iterator[Goal]:
    for size, result in _sizes(results):
        first, second = _part(result, "first"), _part(result, "next")
        for rival, letter, bound in (("bare", "a", 0.6), ("sdk", "b", 5.0)):
            if (name := f"ratio_to_{rival}") in second:
                note = f"by CPU time {_number(second, f'cpu_{name}'):.2f}; the first sweep {_number(first, name):.2f}"
                text = f"(c) / ({letter}), requests/s, {size:,} calls, {_processes(second)}"
                yield _at_least(text, _number(second, name), bound, note)
        sweep, transactions = _part(second, "sweep"), _part(second, "transactions")
        seconds = f"the first sweep {_number(_part(first, 'sweep'), 'seconds'):.1f}"
        yield _at_most(f"peak memory of a process, MB, {size:,} calls", _number(sweep, "peak_mb"), 300)
        yield _at_most(f"seconds of one sweep, {size:,} calls", _number(sweep, "seconds"), 240, seconds)
        if size >= 10_000:  # noqa: PLR2004 (with fewer calls the fixed part weighs more, so there is no goal)
            share = _number(transactions, "per_call_and_hour")
            yield _at_most(f"storage transactions per call and hour, {size:,} calls", share, 0.03)


def _other_goals(results: Json) -> Iterator[Goal]:
    if rate_limit := _maybe(results, "pace"):
        peak, limit = _number(rate_limit, "peak_per_second"), _number(rate_limit, "set")
        yield _at_most("most requests to Graph in any second", peak, limit)
    if webhook := _maybe(results, "webhook"):
        alone = 1000 / _number(_part(webhook, "bound"), "storage_cpu_ms")
        note = f"of what Azurite's CPU time would bear {_number(_part(webhook, 'host'), 'per_second') / alone:.2f}"
        yield _at_least("notifications/s, host / its writes alone", _number(webhook, "ratio_to_bound"), 0.5, note)
    if relay := _maybe(results, "relay"):
        yield from _relay_goals(relay)
    if tenants := _maybe(results, "tenants"):
        count = f"{_number(tenants, 'tenants'):,.0f} tenants"
        grown = f"grown by {_number(tenants, 'grown_mb'):.0f}"
        yield _at_most(f"peak memory of a process, MB, {count}", _number(tenants, "peak_mb"), 200, grown)
        yield _at_most(f"open descriptors, {count}", _number(tenants, "descriptors"), 200)
    if hang_up := _maybe(results, "hang_up"):
        more = _number(hang_up, "beside_p50_ms") - _number(hang_up, "idle_p50_ms")
        note = f"idle {_number(hang_up, 'idle_p50_ms'):.0f}, most requests in a second {hang_up['peak_per_second']}"
        yield _at_most("a hang-up while a sweep runs takes longer by, p50, ms", more, 50, note)
    if cold := _maybe(results, "cold_start"):
        yield _at_most("import of function_app, ms", _number(cold, "import_ms"), 600)


def _relay_goals(relay: Json) -> Iterator[Goal]:
    off, on, dead = (_part(_part(relay, "variants"), name) for name in RELAY_VARIANTS)
    answers = f"202 at p99 {_number(on, 'p99_ms'):.0f}, without relay {_number(off, 'p99_ms'):.0f}"
    text = f"the bot hears, {relay['rate']} notifications/s, p99, ms"
    yield _at_most(text, _number(on, "heard_p99_ms"), 30, answers)
    slower = _number(dead, "heard_p99_ms") / _number(on, "heard_p99_ms")
    yield _at_most("the bot hears, with a dead target beside / without, p99", slower, 1.1)
    transactions = _part(relay, "transactions")
    counts = [sum(_numbers(_part(_part(transactions, name), "changing"))) for name in ("off", "relay")]
    note = f"{counts[1]:.2f} a notification, without relay {counts[0]:.2f}"
    yield _at_most("storage transactions that a healthy delivery adds", round(counts[1] - counts[0], 1), 1, note)


def _tables(results: Json) -> Iterator[str]:
    yield from _keep_alive_tables(results)
    if rate_limit := _maybe(results, "pace"):
        yield _table(("set rate", "calls", "most in a second"), [_texts(rate_limit, "set", "calls", "peak_per_second")])
    if outage := _maybe(results, "outage"):
        yield _table(("a sweep while Graph is away", ""), outage_rows(outage))
    if webhook := _maybe(results, "webhook"):
        yield _table(("notifications", *NOTIFICATION_COLUMNS), webhook_rows(webhook))
    if relay := _maybe(results, "relay"):
        yield from (_table(head, rows) for head, rows in relay_tables(relay))
    if tenants := _maybe(results, "tenants"):
        yield _table(("many tenants", ""), tenant_rows(tenants))
    if hang_up := _maybe(results, "hang_up"):
        yield _table(HANG_UP_COLUMNS, hang_up_rows(hang_up))
    if profile := _maybe(results, "profile"):
        yield from (_table(head, rows) for head, rows in profile_tables(profile))
    if cold := _maybe(results, "cold_start"):
        yield _cold_start_table(cold)
    marks = [(it.text, f"{it.measured:,.3g}", "met" if it.met else "MISSED", it.note) for it in goals(results)]
    yield _table(("goal", "measured", "", ""), marks)


def _keep_alive_tables(results: Json) -> Iterator[str]:
    for size, result in _sizes(results):
        for sweep, title in SWEEPS.items():
            found = _part(result, sweep)
            head = f"{size:,} calls, {_processes(found)} of ours, {title}"
            rows = [(name, *figures_row(_part(found, key))) for key, name in CONTESTANTS.items() if key in found]
            yield _table((head, *_FIGURE_COLUMNS), rows) + "\n" + _ratios_line(found)


def _cold_start_table(cold: Json) -> str:
    costs = cast("Sequence[Sequence[object]]", cold["costliest"])
    rows = [(str(name), f"{cost:.0f}") for name, cost in costs]
    whole = ("import of function_app", f"{_number(cold, 'import_ms'):.0f}")
    return _table(("what a cold start imports", "ms"), [whole, *rows]) + "\n" + _disk_line(cold)


def figures_row(figures: Json) -> tuple[str, ...]:
    """Return the cells of a contestant: requests a second, CPU seconds per 1,000, p99, peak memory."""
    return (
        f"{_number(figures, 'per_second'):,.0f}",
        f"{_number(figures, 'cpu_seconds_per_1000'):.3f}",
        f"{_number(figures, 'p99_ms'):,.0f}",
        f"{_number(figures, 'peak_mb'):.0f}",
    )


def outage_rows(outage: Json) -> list[tuple[str, str]]:
    """Return what a sweep costs while Graph is away."""
    kinds = cast("Mapping[str, int]", outage["by_kind"])
    return [
        ("calls", f"{_number(outage, 'calls'):,.0f}"),
        ("seconds", f"{_number(outage, 'seconds'):.1f}"),
        ("CPU seconds", f"{_number(outage, 'cpu_seconds'):.1f}"),
        ("peak memory, MB", f"{_number(outage, 'peak_mb'):.0f}"),
        ("messages left on the queue", f"{_number(outage, 'messages_left'):,.0f}"),
        ("storage transactions a call", f"{_number(outage, 'per_call'):.2f}"),
        *((f"of which {kind}", f"{count / _number(outage, 'calls'):.2f}") for kind, count in sorted(kinds.items())),
    ]


def tenant_rows(tenants: Json) -> list[tuple[str, str]]:
    """Return what many tenants cost a process."""
    return [
        ("tenants", f"{_number(tenants, 'tenants'):,.0f}"),
        ("seconds, with a token for each", f"{_number(tenants, 'seconds'):.1f}"),
        ("CPU seconds", f"{_number(tenants, 'cpu_seconds'):.1f}"),
        ("memory grown by, MB", f"{_number(tenants, 'grown_mb'):.1f}"),
        ("grown once more by the second keepAlives, MB", f"{_number(tenants, 'again_mb'):.1f}"),
        ("peak memory, MB", f"{_number(tenants, 'peak_mb'):.0f}"),
        ("open descriptors", f"{_number(tenants, 'descriptors'):.0f}"),
    ]


def hang_up_rows(hang_up: Json) -> list[tuple[str, ...]]:
    """Return the duration of a hang-up, in an idle process and while a sweep runs."""
    calls, rate = _number(hang_up, "calls"), _number(hang_up, "set")
    titles = {
        "idle": "in an idle process",
        "beside": f"while {calls:,.0f} calls are swept, {rate:.0f} a second at most",
    }
    return [
        (title, *(f"{_number(hang_up, f'{name}_{share}_ms'):.0f}" for share in ("p50", "p90")))
        for name, title in titles.items()
    ]


def webhook_rows(webhook: Json) -> list[tuple[str, ...]]:
    """Return notifications a second, their p99, and the CPU time that one takes of each process."""
    rows: list[tuple[str, ...]] = []
    for name, title in {"host": "our webhook", "empty_host": "an empty handler", "bound": "its writes alone"}.items():
        found = _part(webhook, name)
        own = _number(found, "cpu_seconds_per_1000") if name == "bound" else _number(found, "host_cpu_ms")
        storage = _number(found, "storage_cpu_ms")
        rate, p99 = _number(found, "per_second"), _number(found, "p99_ms")
        rows.append((title, f"{rate:,.0f}", f"{p99:,.0f}", f"{own:.2f}", f"{storage:.2f}"))
    return rows


def relay_tables(relay: Json) -> Iterator[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Yield head and rows of a table of times and rates, and of one of the storage transactions a notification."""
    rows: list[tuple[str, ...]] = []
    for name, title in RELAY_VARIANTS.items():
        found = _part(_part(relay, "variants"), name)
        heard = [f"{_number(found, f'heard_{share}_ms'):.0f}" if name != "off" else "" for share in ("p50", "p99")]
        answers = [f"{_number(found, f'{share}_ms'):.0f}" for share in ("p50", "p99")]
        rate, cpu = f"{_number(found, 'per_second'):.0f}", f"{_number(found, 'host_cpu_ms'):.1f}"
        rows.append((title, *heard, *answers, rate, cpu))
    yield (f"{relay['rate']} notifications a second", *RELAY_COLUMNS), rows
    transactions = _part(relay, "transactions")
    kinds = _part(transactions, "off")
    sums = [
        (
            RELAY_VARIANTS[name],
            *(f"{sum(_numbers(_part(_part(transactions, name), kind))):.2f}" for kind in kinds),
        )
        for name in RELAY_VARIANTS
    ]
    yield ("storage transactions a notification", *kinds), sums


def profile_tables(profile: Json) -> Iterator[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Yield head and rows of a table for each of: a sweep, the layers, a notification, its storage requests."""
    sweep, notification = _part(profile, "sweep"), _part(profile, "notification")
    microseconds = 1e6 * _number(sweep, "cpu_seconds") / _number(sweep, "calls")
    shares = cast("Mapping[str, float]", sweep["groups"]).items()
    rows = [(name, f"{100 * share:.0f} %", f"{microseconds * share:.0f}") for name, share in shares]
    head = f"the next sweep of {_number(sweep, 'calls'):,.0f} calls"
    yield (head, "CPU time", "microseconds a call"), [*rows, ("all", "100 %", f"{microseconds:.0f}")]
    layers = cast("Mapping[str, Json]", profile["layers"]).items()
    layer_rows = [(name, f"{_number(it, 'median'):.0f}", f"{_number(it, 'least'):.0f}") for name, it in layers]
    yield ("a keepAlive, microseconds of CPU", "median", "least"), layer_rows
    shares = cast("Mapping[str, float]", notification["groups"]).items()
    yield ("the host, notified", "CPU time"), [(name, f"{100 * share:.0f} %") for name, share in shares]
    requests = cast("Mapping[str, float]", notification["requests"]).items()
    request_rows = [(kind, f"{count:.2f}") for kind, count in requests]
    yield ("requests to storage", "a notification"), request_rows


def _disk_line(cold: Json) -> str:
    app, libraries = _number(cold, "app_bytes") / 1e6, _number(cold, "libraries_bytes") / 1e6
    return f"  on disk: app {app:.1f} MB, its libraries {libraries:.1f} MB"


def _ratios_line(result: Json) -> str:
    transactions = _part(result, "transactions")
    ratios = f"(c) / (a) {_number(result, 'ratio_to_bare'):.2f}, by CPU {_number(result, 'cpu_ratio_to_bare'):.2f}"
    if "ratio_to_sdk" in result:
        ratios += f"; (c) / (b) {_number(result, 'ratio_to_sdk'):.1f}, by CPU {_number(result, 'cpu_ratio_to_sdk'):.1f}"
    storage = f"{_number(transactions, 'a_sweep'):.0f} storage transactions a sweep"
    return f"  {ratios}; {storage}, {_number(transactions, 'per_call_and_hour'):.4f} per call and hour"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = (
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    )
    return "\n".join(line.rstrip() for line in lines)


def _processes(found: Json) -> str:
    number = _number(_part(found, "sweep"), "processes")
    return f"{number:.0f} process{'es' if number > 1 else ''}"


def _sizes(results: Json) -> Iterator[tuple[int, Json]]:
    return ((int(name), cast("Json", found)) for name, found in _part(results, "keep_alive").items())


def _part(results: Json, name: str) -> Json:
    return cast("Json", results.get(name, {}))


def _maybe(results: Json, name: str) -> Json | None:
    return cast("Json | None", results.get(name))


def _number(figures: Json, name: str) -> float:
    return float(cast("float", figures[name]))


def _numbers(figures: Json) -> Iterator[float]:
    return (_number(figures, name) for name in figures)


def _texts(figures: Json, *names: str) -> tuple[str, ...]:
    return tuple(f"{_number(figures, name):,.0f}" for name in names)


def _at_least(text: str, measured: float, bound: float, note: str = "") -> Goal:
    return Goal(f"{text}: at least {bound:g}", measured, measured >= bound, note)


def _at_most(text: str, measured: float, bound: float, note: str = "") -> Goal:
    return Goal(f"{text}: at most {bound:g}", measured, measured <= bound, note)
