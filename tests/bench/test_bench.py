"""The bench measures what it says: counts, shapes and words. Never a time: those are the machine's."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import cold_start, contest, notifications, table
from bench.__main__ import main
from bench.graph import busiest
from bench.load import IN_FLIGHT, call_ids
from bench.measure import Measure, peak_mb, quantile
from bench.transactions import _kind
from local.processes import Children
from shared.calls import canonical_id
from shared.notifications import parse
from shared.settings import Settings
from shared.store import shard_of

FIGURES = {"done", "seconds", "cpu_seconds", "peak_mb", "p50_ms", "p99_ms", "per_second", "cpu_seconds_per_1000"}
FEW = 48  # calls

of_one_run = pytest.mark.xdist_group("bench")  # it takes half a minute


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One small run of everything, but the SDK, which is installed by `make bench` alone."""
    path = tmp_path_factory.mktemp("bench") / "report.json"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bench.__main__.SDK", Path("nowhere"))
        patched.setattr("bench.cold_start.INSTALLED", Path(sys.executable))
        asked = ["--sizes", str(FEW), "--rounds", "1", "--calls", "4", "--report", str(path)]
        assert main(asked) == 0
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@of_one_run
def test_a_run_tells_of_each_contestant(report: dict[str, Any]) -> None:
    found = report["keep_alive"][str(FEW)]

    assert found["bare"].keys() == FIGURES
    assert found["sweep"].keys() == FIGURES | {"peak_per_second", "processes"}
    assert found["bare"]["done"] == found["sweep"]["done"] == FEW
    assert found["sweep"]["processes"] == 1


@of_one_run
def test_a_sweep_of_few_calls_asks_storage_for_little(report: dict[str, Any]) -> None:
    asked = report["keep_alive"][str(FEW)]["transactions"]

    assert asked["by_kind"]["table: transaction"] == 16 + 1  # a watermark a shard, and when the switch is due
    assert asked["by_kind"]["table: make it"] == 1
    assert {kind for kind in asked["by_kind"] if kind.startswith("other")} == set()
    assert asked["a_sweep"] == sum(asked["by_kind"].values()) + contest.OF_THE_SWITCH
    assert asked["per_call_and_hour"] == asked["a_sweep"] * 4 / FEW


@of_one_run
def test_the_set_rate_is_kept(report: dict[str, Any]) -> None:
    assert report["pace"]["calls"] == FEW
    assert report["pace"]["peak_per_second"] <= report["pace"]["set"] == contest.RATE


@of_one_run
def test_the_webhook_is_measured_beside_its_bound_and_an_empty_handler(report: dict[str, Any]) -> None:
    found = report["webhook"]

    assert [found[name]["done"] for name in ("host", "bound", "empty_host")] == [4 * notifications.EACH] * 3


@of_one_run
def test_the_cold_start_tells_what_costs_and_how_large_it_is(report: dict[str, Any]) -> None:
    found = report["cold_start"]

    assert "azure.functions" in dict(found["costliest"])
    assert 0 < found["zip_bytes"] < found["libraries_bytes"]
    assert found["import_ms"] >= max(cost for _, cost in found["costliest"])


@of_one_run
def test_the_tables_hold_every_part_and_every_goal(report: dict[str, Any]) -> None:
    told = table.tables(report)

    for words in ("(a) bare aiohttp loop", "(c) our whole sweep", "our webhook", "import of function_app", "set rate"):
        assert words in told
    assert len(table.goals(report)) == 6
    assert told.count("met\n") + told.count("MISSED") + told.endswith("met") == 6


def test_a_goal_is_held_to_its_bound() -> None:
    sweep = {"peak_mb": 301, "seconds": 240}
    one = {"ratio_to_bare": 0.59, "sweep": sweep, "transactions": {"per_call_and_hour": 0.03}}

    found = {goal.text: goal.met for goal in table.goals({"keep_alive": {"10000": one}})}

    assert list(found.values()) == [False, False, True, True]


def test_what_cannot_be_done_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.cold_start.INSTALLED", Path("/bin/false"))

    assert main(["--parts", "cold-start"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("bench: failed: ")


@pytest.mark.parametrize("wrong", [["--sizes", "0"], ["--sizes", "many"], ["--parts", "webhooks"], ["--rounds", "-1"]])
def test_what_is_no_measure_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(wrong)


def test_a_contestant_that_fails_is_no_result() -> None:
    with pytest.raises(contest.BenchError, match=r"bench\.bare"):
        contest.run([sys.executable, "-m", "bench.bare", "http://127.0.0.1:9", "1"])


def test_calls_that_were_left_out_or_asked_twice_are_no_result() -> None:
    with Children() as children, contest.graph(children) as url:
        contest.run([sys.executable, "-m", "bench.bare", url, "3"])
        with pytest.raises(contest.BenchError, match="once for each of 4 calls"):
            contest.counts(url, 4)
        assert contest.counts(url, 0, exactly=False)["asked"] == 0
        for _ in range(2):
            contest.run([sys.executable, "-m", "bench.bare", url, "3"])
        with pytest.raises(contest.BenchError, match="'repeated': 3"):
            contest.counts(url, 3)


async def test_graph_takes_requests_in_pieces_and_with_bodies() -> None:
    with Children() as children, contest.graph(children, '{"keys": []}') as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        for piece in (
            b"POST /calls/x/keep",
            b"Alive HTTP/1.1\r\nContent-Length: 2\r\n\r\n{",
            b"}GET /keys HTTP/1.1\r\n\r\n",
        ):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        answers = await reader.readuntil(b'{"keys": []}')
        writer.close()
        asked = await asyncio.to_thread(contest.counts, url, 0, exactly=False)

    assert asked["asked"] == 1
    assert answers.count(b"HTTP/1.1 200 OK") == 2


def test_the_busiest_second_is_found_wherever_it_lies() -> None:
    assert busiest([]) == 0
    assert busiest([0.0, 0.9, 1.0, 1.1, 1.95]) == 3
    assert busiest([number / 128 for number in range(300)]) == 128


def test_ids_are_graphs_form_all_different_and_in_every_shard() -> None:
    ids = list(call_ids(2_000))

    assert len(set(ids)) == 2_000
    assert [canonical_id(call_id) for call_id in ids] == ids
    assert min(Counter(map(shard_of, ids)).values()) > 60


def test_a_calls_notifications_are_read_by_the_app() -> None:
    read = [parse(body) for body in notifications.bodies(next(call_ids(1)))]

    assert [len(parsed.notifications) for parsed in read] == [1, 1, 1]
    assert not any(parsed.faults for parsed in read)


def test_what_is_not_set_is_the_apps_default() -> None:
    assert Settings.model_fields["keep_alive_concurrency"].default == IN_FLIGHT
    assert Settings.model_fields["graph_requests_per_second"].default == contest.RATE
    assert Settings.model_fields["sweep_fan_out_above"].default == contest.FAN_OUT_ABOVE


@pytest.mark.parametrize(
    ("method", "url", "kind"),
    [
        ("POST", "http://127.0.0.1:1/account/$batch", "table: transaction"),
        ("GET", "http://127.0.0.1:1/account/calls()?$filter=x", "table: query"),
        ("GET", "http://127.0.0.1:1/account/calls(PartitionKey='00',RowKey='switch')", "table: read"),
        ("POST", "http://127.0.0.1:1/account/keep-alive/messages?visibilitytimeout=1200", "queue: put"),
        ("DELETE", "http://127.0.0.1:1/account/keep-alive/messages/1?popreceipt=x", "queue: delete"),
        ("PATCH", "http://127.0.0.1:1/account", "other: PATCH"),
    ],
)
def test_a_request_to_storage_is_told_by_its_kind(method: str, url: str, kind: str) -> None:
    assert _kind(method, url) == kind


def test_figures_are_of_this_process() -> None:
    measure = Measure()
    measure.latencies += [0.001] * 98 + [0.5] * 2

    figures = measure.figures(100)

    assert (figures["done"], figures["p50_ms"], figures["p99_ms"]) == (100, 1.0, 500.0)
    assert quantile([], 0.99) == 0
    assert 10 < peak_mb() < 10_000


def test_a_table_of_import_times_is_read() -> None:
    told = "import time: self [us] | cumulative | imported package\nimport time:      1000 |       3000 |   azure.x\n"

    (found,) = cold_start.read(told)

    assert (found.name, found.own, found.whole, found.depth) == ("azure.x", 1.0, 3.0, 1)


def test_the_sdk_has_an_environment_of_its_own_by_pins() -> None:
    pins = (Path(contest.ROOT) / "bench" / "sdk" / "requirements.txt").read_text(encoding="utf-8")

    assert "\nmsgraph-sdk==" in pins
    assert all("==" in line for line in pins.splitlines() if line and not line.lstrip().startswith("#"))
    shown = subprocess.run(
        ["make", "-n", "-o", "setup", "bench"], cwd=contest.ROOT, capture_output=True, text=True, check=True
    )
    assert "-m bench" in shown.stdout
