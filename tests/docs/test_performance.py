"""The page on performance: its runs are complete, and its text agrees with the code."""

import json

from bench.__main__ import MAX_HANG_UP_CALLS, MAX_TENANTS
from bench.comparison import SWEEPS_AN_HOUR
from bench.table import goals
from release import cost
from shared.config.settings import Settings
from shared.storage.store import SHARDS
from tests.docs.documents import read
from tools.docs_tables import ROOT, SHARING, measured

TEN_THOUSAND = "10000"


def test_the_run_has_every_part() -> None:
    assert {"run", "cold_start", "keep_alive", "outage", "pace", "profile", "webhook"} <= measured().keys()
    for sweeps in measured()["keep_alive"][TEN_THOUSAND].values():
        assert {"bare", "sdk", "sweep", "transactions"} <= sweeps.keys()
    assert goals(measured())


def test_the_later_run_meets_its_goals() -> None:
    found = goals(measured(SHARING))

    assert len(found) == 3
    assert all(goal.met for goal in found)
    assert measured(SHARING)["tenants"]["tenants"] == MAX_TENANTS
    assert measured(SHARING)["hang_up"]["calls"] == MAX_HANG_UP_CALLS


def test_the_cost_uses_the_measured_storage_transactions_of_a_sweep() -> None:
    """A first sweep also looks for expired calls, once an hour.

    In the run on the page a new process also requested its table, which it does no longer.
    """
    for size in ("1000", TEN_THOUSAND):
        found = measured()["keep_alive"][size]
        load = cost.Load(calls=int(size), sweep_minutes=60 / SWEEPS_AN_HOUR)
        a_sweep = (cost.sweep_transactions(load) - cost.HOURS * SHARDS) / cost.sweeps(load)
        for sweep, more in (("first", 1 + SHARDS), ("next", 0)):
            assert found[sweep]["transactions"]["a_sweep"] == a_sweep + more


def test_the_page_calculates_with_the_actual_settings() -> None:
    words = " ".join(read("docs/performance.md").split())
    queues = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
    rate = Settings.model_fields["graph_requests_per_second"].default
    assert f"{1_000_000 // SHARDS:,} calls a shard" in words
    assert queues["batchSize"] + queues["newBatchThreshold"] == 4
    assert "four shards in hand at most" in words
    assert f"`GRAPH_REQUESTS_PER_SECOND` left at {rate}" in words
    assert queues["maxPollingInterval"] == "00:00:10"
