"""The counts, shapes and words of the bench's results. No test checks a time, because times depend on the machine."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import cold_start, comparison, notifications, processes, table
from bench.__main__ import PARTS, main
from bench.graph import Counts, busiest
from bench.measure import Measure, cpu_seconds_of, open_descriptors, peak_mb, quantile, resident_mb
from bench.rounds import READY_ROUND, ROUNDS, START_SIGNAL, pattern_of_round
from bench.sampler import group_of
from bench.transactions import _kind
from bench.workload import IN_FLIGHT, call_ids
from local.stack.processes import Children, ProcessError
from shared.config.settings import Settings
from shared.domain.calls import canonical_id
from shared.domain.notifications import parse_notifications
from shared.storage.store import SHARDS, shard_of

FIGURES = {"done", "seconds", "cpu_seconds", "peak_mb", "p50_ms", "p99_ms", "per_second", "cpu_seconds_per_1000"}
FEW = 48  # calls


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of one small run of all parts but the relay. The SDK is left out: only `make bench` installs it."""
    return _report(tmp_path_factory, *(part for part in PARTS if part != "relay"))


@pytest.fixture(scope="module")
def relay_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of one small run of the relay."""
    return _report(tmp_path_factory, "relay")


def _report(tmp_path_factory: pytest.TempPathFactory, *parts: str) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "report.json"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bench.__main__.SDK", Path("nowhere"))
        patched.setattr("bench.cold_start.INSTALLED", Path(sys.executable))
        asked = ["--sizes", str(FEW), "--rounds", "1", "--calls", "4", "--report", str(path)]
        assert main([*asked, "--parts", ",".join(parts)]) == 0
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_each_contestant_has_figures_for_both_rounds(report: dict[str, Any]) -> None:
    for found in report["keep_alive"][str(FEW)].values():
        assert found["bare"].keys() == found["sweep"].keys() == FIGURES | {"peak_per_second", "processes"}
        assert found["bare"]["done"] == found["sweep"]["done"] == FEW
        assert found["sweep"]["processes"] == 1


def test_a_sweep_of_few_calls_makes_few_storage_requests(report: dict[str, Any]) -> None:
    for sweep in ("first", "next"):
        asked = report["keep_alive"][str(FEW)][sweep]["transactions"]

        assert asked["by_kind"]["table: query"] == (
            SHARDS + SHARDS if sweep == "first" else SHARDS
        )  # active calls; expired calls
        assert asked["by_kind"]["table: write"] == SHARDS + 1  # a watermark for each shard, and the watchdog's row
        assert "table: make it" not in asked["by_kind"]
        assert {kind for kind in asked["by_kind"] if kind.startswith("other")} == set()
        assert asked["a_sweep"] == sum(asked["by_kind"].values()) + comparison.WATCHDOG_HOST_TRANSACTIONS
        assert asked["per_call_and_hour"] == (asked["a_sweep"] * comparison.SWEEPS_AN_HOUR + SHARDS) / FEW


def test_while_graph_is_away_each_call_leaves_a_row_and_a_retry(report: dict[str, Any]) -> None:
    found = report["outage"]

    assert found["messages_left"] == FEW + 1  # a retry for each call, and the watchdog
    assert found["by_kind"]["table: transaction"] == FEW
    assert found["by_kind"]["table: write"] == SHARDS + 1  # watermarks, and the watchdog's row
    assert found["by_kind"]["table: read"] < 2 * FEW  # fewer than two reads for each call


def test_a_profile_has_groups_layers_and_requests(report: dict[str, Any]) -> None:
    found = report["profile"]

    for samples in (found["sweep"], found["notification"]):
        assert samples["samples"] > 0
        assert sum(samples["groups"].values()) == pytest.approx(1)
        assert "our code" in samples["groups"] or samples["samples"] < 30  # too few samples to hit every group
    assert len(found["layers"]) == 4  # bare POST, client, Graph client, sweep
    assert found["notification"]["requests"]["table: transaction"] >= 1  # one for each notification
    assert found["notification"]["requests"]["table: read"] < 2  # one read and, rarely, a retry


def test_the_set_rate_is_kept(report: dict[str, Any]) -> None:
    assert report["pace"]["calls"] == FEW
    assert report["pace"]["peak_per_second"] <= report["pace"]["set"] == comparison.RATE


def test_the_webhook_is_compared_with_its_bound_and_an_empty_handler(report: dict[str, Any]) -> None:
    found = report["webhook"]

    assert [found[name]["done"] for name in ("host", "bound", "empty_host")] == [
        4 * notifications.NOTIFICATIONS_PER_CALL
    ] * 3  # --calls 4


def test_the_relay_is_measured_beside_the_same_host_without_it(relay_report: dict[str, Any]) -> None:
    """tests/shared/relay/test_storage_requests.py counts the requests to storage exactly: this machine may be busy."""
    found = relay_report["relay"]

    assert found["rate"] == 50  # notifications a second, of the goal
    for name, heard in (("off", 0), ("relay", 1), ("dead_beside", 1)):
        figures = found["variants"][name]
        assert figures["heard"] == heard * notifications.NOTIFICATIONS_PER_CALL  # 0.4 of 4 calls, rounded down: one
        assert figures["flooded"] == 4 * notifications.NOTIFICATIONS_PER_CALL  # --calls 4
        assert found["transactions"][name].keys() == {"changing", "repeated", "roster"}
    counts = [sum(found["transactions"][name]["changing"].values()) for name in ("off", "relay", "dead_beside")]
    assert 2 <= counts[0] < counts[1] < counts[2]  # a read and a transaction at least


def test_many_tenants_share_their_connections(report: dict[str, Any]) -> None:
    """The bench itself fails if a tenant's token is requested more than once."""
    found = report["tenants"]

    assert found["tenants"] == found["done"] == FEW
    assert found["descriptors"] < 200  # the goal of bench/table.py
    assert found["peak_mb"] < 200  # the goal of bench/table.py


def test_hang_ups_are_timed_idle_and_while_a_sweep_runs(report: dict[str, Any]) -> None:
    """tests/shared/graph/test_rate_limit.py checks the order of requests in virtual time: this machine may be busy."""
    found = report["hang_up"]

    assert (found["calls"], found["renewed"], found["set"]) == (FEW, FEW, comparison.RATE)
    assert found["hung_up"] > 0
    assert found["idle_p50_ms"] > 0
    assert found["peak_per_second"] <= comparison.RATE


async def test_memory_and_descriptors_are_of_this_process(tmp_path: Path) -> None:
    before = open_descriptors()
    with (tmp_path / "a").open("w"), (tmp_path / "b").open("w"):
        assert open_descriptors() == before + 2
    assert 10 < resident_mb() <= peak_mb() + 1  # MB; 1 MB for what is allocated between the two reads


def test_the_cold_start_names_the_expensive_imports_and_the_sizes(report: dict[str, Any]) -> None:
    found = report["cold_start"]

    assert "azure.functions" in dict(found["costliest"])
    assert 0 < found["app_bytes"] < found["libraries_bytes"]
    assert found["import_ms"] >= max(cost for _, cost in found["costliest"])


def test_the_tables_hold_every_part_and_every_goal(report: dict[str, Any], relay_report: dict[str, Any]) -> None:
    results = report | relay_report
    printed = table.tables(results)

    for words in ("(a) bare aiohttp loop", "(c) our whole sweep", "our webhook", "import of function_app", "set rate"):
        assert words in printed
    for words in (
        "a sweep while Graph is away",
        "GraphCalls.keep_alive",
        "the host, notified",
        "the first of a process",
        "many tenants",
        "a hang-up",
        "with a dead target beside",
    ):
        assert words in printed
    # keep-alive: ratio, memory, seconds; rate; webhook; relay: p99, dead target, transactions;
    # tenants: memory, descriptors; hang-up; cold start
    assert len(table.goals(results)) == 3 + 1 + 1 + 3 + 2 + 1 + 1
    assert len(re.findall(r"\b(met|MISSED)\b", printed)) == len(table.goals(results))


def test_the_second_sweep_decides_whether_a_goal_is_met() -> None:
    of_sweep = {"transactions": {"per_call_and_hour": 0.03}, "cpu_ratio_to_bare": 0.4}
    first = {"ratio_to_bare": 0.9, "sweep": {"peak_mb": 1, "seconds": 1, "processes": 3}, **of_sweep}
    after = {"ratio_to_bare": 0.59, "sweep": {"peak_mb": 301, "seconds": 240, "processes": 3}, **of_sweep}

    found = table.goals({"keep_alive": {"10000": {"first": first, "next": after}}})

    assert [goal.met for goal in found] == [False, False, True, True]
    assert "3 processes" in found[0].text
    assert found[0].note == "by CPU time 0.40; the first sweep 0.90"


def test_a_report_names_the_commit_that_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.cold_start.measure_cold_start", lambda *_: {})
    monkeypatch.setattr("bench.__main__.tables", lambda _: "")

    assert main(["--parts", "cold-start", "--report", str(tmp_path / "report.json")]) == 0
    command = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, check=True).stdout
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert head.startswith(report["run"]["revision"].removesuffix("+"))


def test_a_failure_is_printed_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("bench.cold_start.INSTALLED", Path("/bin/false"))

    assert main(["--parts", "cold-start"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("bench: failed: ")


@pytest.mark.parametrize(
    "wrong",
    [["--sizes", "0"], ["--sizes", "many"], ["--parts", "webhooks"], ["--rounds", "-1"]],
    ids=" ".join,
)
def test_a_wrong_option_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(wrong)


def test_a_contestant_that_fails_ends_the_bench() -> None:
    with (
        Children() as children,
        processes.graph_server(children) as url,
        pytest.raises(ProcessError, match=r"bench\.bare"),
    ):
        processes.run_exact_rounds(url, 1, [processes.module_command("bare", "http://127.0.0.1:9", 1)], {})
    with pytest.raises(processes.BenchError, match=r"bench\.fill"):
        processes.run_command(processes.module_command("fill", 1))


@pytest.mark.parametrize(
    ("size", "count"),
    [
        pytest.param(4, "'missing': 1", id="3 of 4 calls renewed"),
        pytest.param(2, "'strange': 1", id="3 renewed, 2 calls exist"),
    ],
)
def test_a_round_with_missing_or_unknown_calls_is_refused(size: int, count: str) -> None:
    with (
        Children() as children,
        processes.graph_server(children) as url,
        pytest.raises(processes.BenchError, match=f"once for each of {size} calls: .*{count}"),
    ):
        processes.run_exact_rounds(url, size, [processes.module_command("bare", url, 3)], {})


def test_a_call_that_is_renewed_twice_is_counted() -> None:
    counts = Counts()
    for call_id in [*call_ids(3), *call_ids(1)]:
        counts.count(call_id.encode())

    summary = counts.summary(3)
    assert (summary["asked"], summary["missing"], summary["strange"], summary["repeated"]) == (3 + 1, 0, 0, 1)


def test_a_fan_out_is_measured_over_its_processes() -> None:
    with Children() as children, processes.graph_server(children) as url, processes.filled_storage(url, FEW) as env:
        commands = [processes.module_command("sweep"), *[processes.module_command("sweep", "drain")] * 2]
        rounds = processes.run_exact_rounds(url, FEW, commands, {**env, "SWEEP_FAN_OUT_THRESHOLD": "1"})

    for each in rounds:
        found = comparison.sum_processes(each)
        assert (found["done"], found["processes"]) == (FEW, 1 + 2)  # the timer's process and two queue instances
        assert each.figures[0]["handed_over"] == SHARDS


def test_a_process_begins_each_round_at_the_signal() -> None:
    code = "import asyncio, bench.rounds as it\nasync def work(number): return {'done': number}\n"
    command = [sys.executable, "-c", code + "asyncio.run(it.serve_rounds(work))"]
    with Children() as children:
        child = children.start("two rounds", command, cwd=processes.ROOT)
        child.wait_for(pattern_of_round(READY_ROUND))
        for number in ROUNDS:
            child.send(START_SIGNAL)
            assert json.loads(child.wait_for(pattern_of_round(number))[0])["done"] == number
        assert child.wait() == 0


def test_a_sample_belongs_to_the_innermost_frame_of_a_named_group() -> None:
    ours, library = str(processes.ROOT / "shared" / "keeping" / "concurrency.py"), "/x/lib/python3.13/site-packages"
    assert group_of(["/usr/lib/python3.13/contextlib.py", ours, "/usr/lib/python3.13/asyncio/tasks.py"]) == "our code"
    assert group_of([f"{library}/yarl/_url.py", f"{library}/aiohttp/client.py", ours]) == "aiohttp"
    assert group_of([f"{library}/aiohttp/client.py", f"{library}/azure/core/x.py", ours]) != "aiohttp"
    assert group_of([f"{library}/azure/functions/x.py"]) == "the Functions library"
    assert group_of([str(processes.ROOT / "shared" / "telemetry.py"), ours]) == "telemetry"
    assert group_of(["/usr/lib/python3.13/asyncio/locks.py", ours]) == "asyncio"
    assert group_of(["/usr/lib/python3.13/threading.py"]) == "the rest"


def test_cpu_time_of_a_process_is_read() -> None:
    assert 0 <= cpu_seconds_of(os.getpid()) < 100_000  # seconds: more than a day of one core would be a wrong unit
    assert cpu_seconds_of(-1) == 0


async def test_graph_takes_requests_in_pieces_and_with_bodies() -> None:
    with Children() as children, processes.graph_server(children, '{"keys": []}') as url:
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
        asked = await asyncio.to_thread(processes.ask_graph, url, "counts/0")

    assert asked["asked"] == 1
    assert answers.count(b"HTTP/1.1 200 OK") == 2


def test_the_busiest_second_may_begin_at_any_time() -> None:
    assert busiest([]) == 0
    assert busiest([0.0, 0.9, 1.0, 1.1, 1.95]) == 3  # 0.9, 1.0 and 1.1; or 1.0, 1.1 and 1.95
    assert busiest([number / 128 for number in range(300)]) == 128  # 128 a second, evenly spaced


def test_ids_are_graphs_form_all_different_and_in_every_shard() -> None:
    ids = list(call_ids(2_000))

    assert len(set(ids)) == 2_000
    assert [canonical_id(call_id) for call_id in ids] == ids
    assert min(Counter(map(shard_of, ids)).values()) > 60  # 2,000 / 16 = 125 expected; half of it is far off chance


def test_a_calls_notifications_are_read_by_the_app() -> None:
    read = [parse_notifications(body) for body in notifications.bodies(next(call_ids(1)))]

    assert [len(parsed.notifications) for parsed in read] == [1, 1, 1]
    assert not any(parsed.faults for parsed in read)


def test_the_figures_of_the_bench_are_the_apps_defaults() -> None:
    assert Settings.model_fields["keep_alive_concurrency"].default == IN_FLIGHT
    assert Settings.model_fields["graph_requests_per_second"].default == comparison.RATE
    assert Settings.model_fields["sweep_fan_out_threshold"].default == comparison.FAN_OUT_THRESHOLD


@pytest.mark.parametrize(
    ("kind", "method", "path"),
    [
        pytest.param("table: transaction", "POST", "/$batch", id="transaction"),
        pytest.param("table: query", "GET", "/calls()?$filter=x", id="query"),
        pytest.param("table: read", "GET", "/calls()?$filter=PartitionKey%20eq%20x%20and%20RowKey%20eq%20y", id="read"),
        pytest.param("table: write", "PUT", "/calls(PartitionKey='00',RowKey='switch')", id="write"),
        pytest.param("queue: put", "POST", "/keep-alive/messages?visibilitytimeout=1200", id="put"),
        pytest.param("queue: delete", "DELETE", "/keep-alive/messages/1?popreceipt=x", id="delete"),
        pytest.param("other: PATCH", "PATCH", "", id="unknown method"),
    ],
)
def test_a_request_to_storage_has_a_kind(kind: str, method: str, path: str) -> None:
    assert _kind(method, f"http://127.0.0.1:1/account{path}") == kind


def test_figures_are_of_this_process() -> None:
    measure = Measure()
    measure.latencies += [0.001] * 98 + [0.5] * 2

    figures = measure.figures(100)

    assert (figures["done"], figures["p50_ms"], figures["p99_ms"]) == (100, 1.0, 500.0)
    assert quantile([], 0.99) == 0
    assert 10 < peak_mb() < 10_000  # MB: a Python process needs more than 10; bytes or KB would exceed 10,000


def test_a_table_of_import_times_is_read() -> None:
    output = "import time: self [us] | cumulative | imported package\nimport time:      1000 |       3000 |   azure.x\n"

    (found,) = cold_start.parse_import_times(output)

    assert (found.name, found.own, found.whole, found.depth) == ("azure.x", 1.0, 3.0, 1)


def test_all_packages_of_the_sdks_environment_are_pinned() -> None:
    pins = (Path(processes.ROOT) / "bench" / "sdk" / "requirements.txt").read_text(encoding="utf-8")

    assert "\nmsgraph-sdk==" in pins
    assert all("==" in line for line in pins.splitlines() if line and not line.lstrip().startswith("#"))
    shown = subprocess.run(
        ["make", "-n", "-o", "setup", "bench"], cwd=processes.ROOT, capture_output=True, text=True, check=True
    )
    assert "-m bench" in shown.stdout
