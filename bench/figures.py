"""Figures of several runs or processes, put together into one."""

import statistics
from collections.abc import Mapping, Sequence

from bench.measure import Figures


def median_of(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure over some runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def median_figures(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure over some runs; of `peak_mb` the maximum.

    It adds `per_second`, requests a second, and `cpu_seconds_per_1000`, CPU seconds per 1,000 requests.
    """
    figures = median_of(runs)
    figures["peak_mb"] = max(run["peak_mb"] for run in runs)
    figures["per_second"] = statistics.median(run["done"] / run["seconds"] for run in runs)
    figures["cpu_seconds_per_1000"] = statistics.median(1000 * run["cpu_seconds"] / run["done"] for run in runs)
    return figures


def median_ratio(upper: Sequence[Figures], lower: Sequence[Figures], name: str) -> float:
    """Return the median of the ratios of one figure, round by round, because a disturbance hits both of a round."""
    pairs = zip(upper, lower, strict=True)
    return statistics.median(median_figures([one])[name] / median_figures([other])[name] for one, other in pairs)


def numbers_of(printed: Mapping[str, object]) -> Figures:
    """Return the numeric members of what a contestant printed, without the number of its round."""
    return {name: value for name, value in printed.items() if isinstance(value, int | float) and name != "round"}
