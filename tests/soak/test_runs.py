"""Runs of the keeper under faults, shorter and fewer than those of `make soak`; and each seed gives the same run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from soak.fault_schedule import FaultProfile
from soak.isolation import measure_isolation
from soak.presets import PRESETS
from soak.runner import Totals, run_seed, runs

ROOT = Path(__file__).parents[2]
SHORT = FaultProfile(hours=6, calls=30)


def add_up(profile: FaultProfile, seeds: range) -> Totals:
    totals = Totals()
    for findings in runs(seeds, profile, workers=1):
        totals.add(findings)
    return totals


def test_no_call_lapses_and_every_end_is_recorded_under_mixed_faults() -> None:
    totals = add_up(SHORT, range(20))
    assert {each.seed: each.violations for each in totals.failed} == {}
    # The faults do not prevent everything, and they do come. The seeds are fixed, so these figures are too.
    assert totals.held > 0.7  # as `make soak` demands
    assert totals.counts["keepAlives"] > 5_000  # 20 runs x 30 calls x 6 hours x 4 ticks = 14,400 without any fault
    assert totals.counts["kills"] > 20  # one for each run
    assert totals.counts["lost"] > 20  # one message for each run


def test_no_call_lapses_if_the_timer_fans_out() -> None:
    totals = add_up(replace(PRESETS["fan-out"], hours=6, calls=30), range(6))
    assert {each.seed: each.violations for each in totals.failed} == {}


def test_the_relay_loses_nothing_and_keeps_the_order_under_mixed_faults() -> None:
    totals = add_up(replace(PRESETS["relay"], hours=3, calls=15), range(4))
    assert {each.seed: each.violations for each in totals.failed} == {}
    assert totals.counts["posts acknowledged"] > 1_000  # 4 runs x 3 hours x 15 calls x 7 updates = 1,260
    assert totals.counts["relay messages"] > 40  # ten retries for each run
    assert totals.counts["kills"] > 20  # five for each run


def test_without_faults_hardly_anything_arrives_twice() -> None:
    totals = add_up(PRESETS["relay-calm"], range(2))
    assert {each.seed: each.violations for each in totals.failed} == {}
    assert totals.counts["arrived twice"] <= 0.01 * totals.counts["deliveries"]


def test_a_dead_bot_delays_the_others_by_a_tenth_at_most() -> None:
    assert measure_isolation(replace(PRESETS["relay-dead-bot"], hours=0.5), range(2), workers=1).is_kept


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    profile = FaultProfile(hours=3, calls=20)
    findings, lines = run_seed(7, profile, trace=True)
    again, _ = run_seed(7, profile)
    command = [sys.executable, "-m", "soak", "--seeds", "7", "--hours", "3", "--calls", "20", "--trace"]
    printed = {
        hash_seed: subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for hash_seed in ("1", "2")
    }
    assert findings.digest == again.digest
    assert printed["1"][: len(lines)] == lines
    assert printed["1"] == printed["2"]


@pytest.mark.parametrize("preset", ["usual", "relay"])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_does_not_change_the_runs(workers: int, preset: str) -> None:
    profile = replace(PRESETS[preset], hours=1, calls=5)  # ids of deliveries are random, and must not matter
    digests = [findings.digest for findings in runs(range(3), profile, workers)]
    assert digests == [run_seed(seed, profile)[0].digest for seed in range(3)]
