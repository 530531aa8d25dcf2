"""Hard lives of the keeper, shorter and fewer than `make soak` lives them; and that a life is the same each time."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from soak.fault_schedule import Climate
from soak.presets import PRESETS
from soak.runner import Sum, live, lives

ROOT = Path(__file__).parents[2]
SHORT = Climate(hours=6, calls=30)


def lived(climate: Climate, seeds: range) -> Sum:
    total = Sum()
    for findings in lives(seeds, climate, workers=1):
        total.add(findings)
    return total


def test_no_call_lapses_and_every_end_is_known_whatever_goes_wrong() -> None:
    total = lived(SHORT, range(20))
    assert {each.seed: each.violations for each in total.failed} == {}
    assert total.held > 0.7
    assert total.counts["keepAlives"] > 5_000
    assert total.counts["kills"] > 20
    assert total.counts["lost"] > 20


def test_nor_in_a_wide_fleet_whose_timer_leaves_a_message_a_shard() -> None:
    total = lived(replace(PRESETS["wide"], hours=6, calls=30), range(6))
    assert {each.seed: each.violations for each in total.failed} == {}


def test_a_seed_is_the_same_life_in_any_process() -> None:
    climate = Climate(hours=3, calls=20)
    findings, lines = live(7, climate, trace=True)
    again, _ = live(7, climate)
    command = [sys.executable, "-m", "soak", "--seeds", "7", "--hours", "3", "--calls", "20", "--trace"]
    told = {
        hashes: subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for hashes in ("1", "2")
    }
    assert findings.digest == again.digest
    assert told["1"][: len(lines)] == lines
    assert told["1"] == told["2"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    digests = [findings.digest for findings in lives(range(3), Climate(hours=1, calls=5), workers)]
    assert digests == [live(seed, Climate(hours=1, calls=5))[0].digest for seed in range(3)]
