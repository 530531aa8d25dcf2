"""The results as tables for the terminal, and the goals that they are held to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

type Json = Mapping[str, object]

CONTESTANTS = {"bare": "(a) bare aiohttp loop", "sdk": "(b) msgraph-sdk", "sweep": "(c) our whole sweep"}
_COLUMNS = ("requests/s", "CPU s per 1,000", "p99 ms", "peak MB")


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked for, what was measured, and whether that is enough."""

    text: str
    measured: float
    met: bool


def goals(results: Json) -> list[Goal]:
    """The goals that these results can be held to."""
    return [*_of_contest(results), *_of_the_rest(results)]


def tables(results: Json) -> str:
    """All that was measured, one table a part."""
    return "\n\n".join(_tables(results))


def _of_contest(results: Json) -> Iterator[Goal]:
    for size, result in _sizes(results):
        if "ratio_to_bare" in result:
            yield _at_least(f"(c) / (a), requests/s, {size:,} calls", _number(result, "ratio_to_bare"), 0.6)
        if "ratio_to_sdk" in result:
            yield _at_least(f"(c) / (b), requests/s, {size:,} calls", _number(result, "ratio_to_sdk"), 5)
        sweep, asked = _part(result, "sweep"), _part(result, "transactions")
        yield _at_most(f"peak memory of a process, MB, {size:,} calls", _number(sweep, "peak_mb"), 300)
        yield _at_most(f"seconds of one sweep, {size:,} calls", _number(sweep, "seconds"), 240)
        if size >= 10_000:  # noqa: PLR2004 (the goal is for so many: below, the fixed part weighs more)
            share = _number(asked, "per_call_and_hour")
            yield _at_most(f"storage transactions per call and hour, {size:,} calls", share, 0.03)


def _of_the_rest(results: Json) -> Iterator[Goal]:
    if pace := _maybe(results, "pace"):
        most = _number(pace, "set")
        yield _at_most("most requests to Graph in any second", _number(pace, "peak_per_second"), most)
    if webhook := _maybe(results, "webhook"):
        yield _at_least("notifications/s, host / storage's own writes", _number(webhook, "ratio_to_bound"), 0.5)
    if cold := _maybe(results, "cold_start"):
        yield _at_most("import of function_app, ms", _number(cold, "import_ms"), 600)


def _tables(results: Json) -> Iterator[str]:
    for size, result in _sizes(results):
        processes = _number(_part(result, "sweep"), "processes")
        head = f"{size:,} calls, {processes:.0f} process{'es' if processes > 1 else ''} of ours"
        rows = [(title, *_row(_part(result, name))) for name, title in CONTESTANTS.items() if name in result]
        yield _table((head, *_COLUMNS), rows) + "\n" + _below(result)
    if pace := _maybe(results, "pace"):
        yield _table(("set rate", "calls", "most in a second"), [_texts(pace, "set", "calls", "peak_per_second")])
    if webhook := _maybe(results, "webhook"):
        yield _webhook(webhook)
    if cold := _maybe(results, "cold_start"):
        costs = cast("Sequence[Sequence[object]]", cold["costliest"])
        rows = [(str(name), f"{cost:.0f}") for name, cost in costs]
        whole = ("import of function_app", f"{_number(cold, 'import_ms'):.0f}")
        yield _table(("what a cold start imports", "ms"), [whole, *rows]) + "\n" + _disk(cold)
    marks = [(goal.text, f"{goal.measured:,.3g}", "met" if goal.met else "MISSED") for goal in goals(results)]
    yield _table(("goal", "measured", ""), marks)


def _webhook(webhook: Json) -> str:
    titles = {"host": "our webhook", "empty_host": "an empty handler", "bound": "its transactions, sent straight"}
    rows = [
        (
            title,
            f"{_number(_part(webhook, name), 'per_second'):,.0f}",
            f"{_number(_part(webhook, name), 'p99_ms'):,.0f}",
        )
        for name, title in titles.items()
    ]
    return _table(("notifications", "a second", "p99 ms"), rows)


def _disk(cold: Json) -> str:
    app, libraries = _number(cold, "zip_bytes") / 1e6, _number(cold, "libraries_bytes") / 1e6
    return f"  on disk: package {app:.1f} MB, its libraries {libraries:.1f} MB"


def _below(result: Json) -> str:
    asked = _part(result, "transactions")
    ratios = f"(c) / (a) {_number(result, 'ratio_to_bare'):.2f}, by CPU {_number(result, 'cpu_ratio_to_bare'):.2f}"
    if "ratio_to_sdk" in result:
        ratios += f"; (c) / (b) {_number(result, 'ratio_to_sdk'):.1f}"
    storage = f"{_number(asked, 'a_sweep'):.0f} storage transactions a sweep"
    return f"  {ratios}; {storage}, {_number(asked, 'per_call_and_hour'):.4f} per call and hour"


def _row(figures: Json) -> tuple[str, ...]:
    return (
        f"{_number(figures, 'per_second'):,.0f}",
        f"{_number(figures, 'cpu_seconds_per_1000'):.3f}",
        f"{_number(figures, 'p99_ms'):,.0f}",
        f"{_number(figures, 'peak_mb'):.0f}",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = (
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    )
    return "\n".join(line.rstrip() for line in lines)


def _sizes(results: Json) -> Iterator[tuple[int, Json]]:
    return ((int(name), cast("Json", found)) for name, found in _part(results, "keep_alive").items())


def _part(results: Json, name: str) -> Json:
    return cast("Json", results.get(name, {}))


def _maybe(results: Json, name: str) -> Json | None:
    return cast("Json | None", results.get(name))


def _number(figures: Json, name: str) -> float:
    return float(cast("float", figures[name]))


def _texts(figures: Json, *names: str) -> tuple[str, ...]:
    return tuple(f"{_number(figures, name):,.0f}" for name in names)


def _at_least(text: str, measured: float, bound: float) -> Goal:
    return Goal(f"{text}: at least {bound:g}", measured, measured >= bound)


def _at_most(text: str, measured: float, bound: float) -> Goal:
    return Goal(f"{text}: at most {bound:g}", measured, measured <= bound)
