"""The billed quantities of a month: the figures follow from the load, and the output from the figures."""

import json
import re
from dataclasses import replace

import pytest

from release import cost
from release.cost import Load
from shared.config.settings import Settings
from shared.storage.store import SHARDS
from tests.release.reading import ROOT

IDLE = Load(calls=0)
SWEEPS = 730 * 4  # in a month of 730 hours, one every 15 minutes
MAIN = (ROOT / "infra" / "main.bicep").read_text(encoding="utf-8")
COST = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")


def test_the_constants_are_those_of_the_app() -> None:
    fields = Settings.model_fields
    assert cost.SHARDS == SHARDS
    assert Load().fan_out_threshold == fields["sweep_fan_out_threshold"].default
    assert Load().concurrency == fields["keep_alive_concurrency"].default
    assert f"param keepAliveSchedule string = '0 */{Load().sweep_minutes} * * * *'" in MAIN
    assert f"param instanceMemoryMB int = {Load().memory_gb * 1024}" in MAIN
    assert f"param httpConcurrency int = {Load().http_concurrency}" in MAIN
    assert Load().retention_days == fields["ended_call_retention"].default.days
    queues = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
    assert queues["batchSize"] + queues["newBatchThreshold"] == cost.QUEUE_CONCURRENCY


def test_a_month_without_calls_costs_the_timer_and_its_watchdog() -> None:
    assert cost.executions(IDLE) == 2 * SWEEPS  # the timer and the watchdog
    assert cost.active_gb_seconds(IDLE) == 2 * SWEEPS * 2  # one second each, 2 GB
    # A sweep: query and watermark of each shard, one watermark read, two for the watchdog's row, three for its message.
    # Once an hour each shard is searched for expired calls.
    assert cost.transactions(IDLE) == SWEEPS * (SHARDS * 2 + 1 + 2 + 3) + cost.HOURS * SHARDS
    assert cost.stored_gb(IDLE) == 0


def test_calls_bring_requests() -> None:
    load = Load(calls=100, call_minutes=60, notifications=4, requests=3)
    ended, requests = 100 * 730, 4 + 3  # each of 100 calls is replaced once an hour
    assert cost.ended(load) == ended
    assert cost.executions(load) == 2 * SWEEPS + ended * requests
    per_call = requests * 2 + cost.PURGE_TRANSACTIONS  # a read and a write for each request
    assert cost.transactions(load) == cost.sweep_transactions(load) + ended * per_call
    retained = 100 * 24 * 30  # 30 days of ENDED_CALL_RETENTION
    assert cost.stored_gb(load) == pytest.approx((100 + retained) * 4 / 1e6)  # 4 KB for each call


LOOKS = 730 * 60  # of the relay's timer, one each minute
IDLE_RELAY = LOOKS * (SHARDS + 1) + 730 * SHARDS * 2  # transactions


def test_without_targets_the_relay_costs_nothing() -> None:
    assert cost.deliveries(Load(calls=100)) == cost.relay_looks(Load(calls=100)) == 0
    assert cost.relay_transactions(Load(calls=100)) == 0


def test_an_idle_relay_costs_the_timer_that_looks_at_the_outbox_each_minute() -> None:
    off, on = Load(calls=0.001), Load(calls=0.001, relayed=4)  # so few calls that only the looks count
    assert cost.executions(on) - cost.executions(off) == pytest.approx(LOOKS, rel=1e-4)
    # A second each, 2 GB; a look reads the lanes of each shard, and the destinations in trouble. Two searches an hour.
    assert cost.active_gb_seconds(on) - cost.active_gb_seconds(off) == pytest.approx(2 * LOOKS, rel=1e-4)
    assert cost.transactions(on) - cost.transactions(off) == pytest.approx(IDLE_RELAY, rel=1e-4)


def test_a_notification_is_relayed_in_its_request_and_an_event_by_a_message() -> None:
    load = Load(calls=100, relayed=4, relayed_events=2, relay_failures=0.5)
    ended = 100 * 730
    messages = ended * (2 + 6 * 0.5)  # two events, and a retry for half of six deliveries
    assert cost.relay_messages(load) == messages
    results, purged = ended * 4, ended * 2  # one write for each notification; a query and a batch for each call
    assert cost.relay_transactions(load) == IDLE_RELAY + results + messages * 7 + purged
    assert cost.executions(load) == 2 * SWEEPS + ended * (4 + 3) + LOOKS + messages
    retained = 100 + 100 * 24 * 30
    assert cost.stored_gb(load) == pytest.approx(retained * (4 + 6 * 2) / 1e6)  # 4 KB a call, 2 KB a delivery


def test_a_slow_bot_makes_requests_longer() -> None:
    quick, slow = (Load(calls=10_000, relayed=4, bot_seconds=seconds) for seconds in (0.1, 1.5))
    assert cost.active_gb_seconds(slow) > cost.active_gb_seconds(quick)


def test_many_calls_are_handed_over_by_a_message_a_shard() -> None:
    few, many = Load(calls=20_000), Load(calls=20_001)
    assert cost.messages(many) - cost.messages(few) == SWEEPS * SHARDS


def test_requests_that_overlap_are_billed_once_and_an_instance_is_never_busier_than_always() -> None:
    busy = Load(calls=10_000, keep_alive_seconds=0)
    of_http = cost.active_gb_seconds(busy) - cost.active_gb_seconds(replace(busy, notifications=0, requests=0))
    always = 2 * cost.SECONDS  # 2 GB in every second of the month
    assert 0.99 * always < of_http <= always
    rare = Load(calls=1, call_minutes=1440)
    alone = cost.active_gb_seconds(rare) - cost.active_gb_seconds(replace(rare, notifications=0, requests=0))
    assert alone == pytest.approx(2 * cost.requests(rare), rel=0.01)  # 2 GB for one second each; 1 % overlap


def test_each_request_to_storage_is_a_record_of_telemetry() -> None:
    load = Load(calls=1_000, record_kb=1)
    records = cost.telemetry_gb(load) * 1e6
    assert records == 2 * cost.executions(load) + cost.transactions(load) + 10 * cost.sweeps(load)


def test_many_calls_need_more_instances() -> None:
    assert cost.active_gb_seconds(Load(calls=1_000_000)) > 3 * cost.active_gb_seconds(Load(calls=100_000))


def test_an_always_ready_instance_is_billed_each_second_and_has_no_free_grant() -> None:
    items = {item.name: item for item in cost.bill(Load(always_ready=1, memory_gb=2))}
    assert items["GB-seconds of always-ready instances"].quantity == 2 * 730 * 3600  # 2 GB, every second of a month
    assert [item.name for item in items.values() if item.free] == []


def test_without_prices_only_quantities_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--calls", "100"]) == 0
    printed = capsys.readouterr().out
    assert "73,000 a month" in printed  # 100 calls x 730 hours, of an hour each
    assert "No prices were given" in printed
    assert "together" not in printed


def test_prices_and_free_grants_make_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    cost.main(
        ["--calls", "0", "--price-executions", "1000000", "--free-executions", "5000", "--price-transactions", "2"]
    )
    printed = capsys.readouterr().out
    assert "5,840  executions: 840.00" in printed  # 2 x 2,920 executions, 5,000 of them free, at 1 each
    transactions = SWEEPS * (SHARDS * 2 + 1 + 2 + 3) + 730 * SHARDS
    assert f"storage transactions: {transactions / 10_000 * 2:.2f}" in printed
    assert f"together, of what has a price: {840 + transactions / 10_000 * 2:.2f}" in printed


def test_more_free_than_used_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    cost.main(["--calls", "0", "--price-executions", "1", "--free-executions", "1000000"])
    assert "executions: 0.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--calls", "-1"], ["--calls", "nan"], ["--call-minutes", "0"], ["--calls", "many"]], ids=" ".join
)
def test_an_impossible_load_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cost.main(wrong)


@pytest.mark.parametrize("arguments", ["--calls 100", "--calls 10000", "--calls 100 --relayed 4 --relayed-events 2"])
def test_the_document_shows_the_output_of_the_program(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    cost.main(arguments.split())
    printed = capsys.readouterr().out.split("\n\n")[1]
    shown = re.search(rf"python -m release\.cost {arguments}\n```\n\n```text\n(.*?)\n```", COST, re.DOTALL)
    assert shown
    assert printed in shown[1]


@pytest.mark.parametrize("calls", ["100", "10000"])
def test_the_example_with_prices_is_the_output_of_the_program(calls: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.search(rf"release\.cost (--calls {calls} --price.*)\n```\n\n```text\n([^`]*)\n```", COST)
    assert shown
    cost.main(shown[1].split())
    assert capsys.readouterr().out.rstrip() == shown[2]


def test_the_help_says_that_zones_need_two_ready_instances_for_each_scaling_group(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cost.main(["--help"])
    assert "at least two for each of HTTP, timer and queue" in " ".join(capsys.readouterr().out.split())
    for text in (COST, MAIN):
        assert "at least two always-ready instances for each scaling group (HTTP, timer, queue)" in text
