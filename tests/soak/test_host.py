"""Checks that the simulated host has the limits of host.json and of the product's settings."""

import json
from datetime import timedelta
from pathlib import Path

from functions import keep_alive
from shared.config.setting_groups import RelaySettings
from shared.keeping.renewal_pass import SweepConfig
from shared.storage.wakeup_queue import SEND_TIMEOUT
from soak import bots, liveness, relay_world, virtual_queue, virtual_storage, world

ROOT = Path(__file__).parents[2]


def seconds(text: str) -> float:
    hours, minutes, rest = map(int, text.split(":"))
    return timedelta(hours=hours, minutes=minutes, seconds=rest).total_seconds()


def test_the_simulated_host_has_the_limits_of_host_json() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    queues = host["extensions"]["queues"]
    assert seconds(host["functionTimeout"]) == world.FUNCTION_TIMEOUT
    assert seconds(queues["maxPollingInterval"]) == virtual_queue.MAX_POLLING_INTERVAL
    assert seconds(queues["visibilityTimeout"]) == virtual_queue.VISIBILITY_TIMEOUT
    assert queues["maxDequeueCount"] == virtual_queue.MAX_DEQUEUE_COUNT
    assert queues["batchSize"] + queues["newBatchThreshold"] == virtual_queue.MAX_CONCURRENT


def test_the_simulated_clients_have_the_time_outs_of_the_product() -> None:
    assert SEND_TIMEOUT.total_seconds() == virtual_storage.STORAGE_TIMEOUT
    assert timedelta(seconds=liveness.SWEEP_BUDGET) == SweepConfig().budget
    assert bots.HTTP_BUDGET == keep_alive.HTTP_BUDGET


def test_the_simulated_relay_has_the_default_settings() -> None:
    fields = RelaySettings.model_fields
    assert fields["relay_budget"].default == relay_world.BUDGET
    assert fields["relay_sync_budget"].default == relay_world.SYNC_BUDGET
    assert fields["relay_body_retention"].default == relay_world.BODY_RETENTION
