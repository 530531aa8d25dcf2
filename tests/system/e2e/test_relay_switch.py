"""RELAY_TARGETS switches the relay on: the host then has its functions and its queue, and a poison queue if need be."""

import json
from collections.abc import Iterator

import pytest
from azure.storage.queue import QueueServiceClient

from local.stack.stack import Options
from shared.storage.relay_queue import RELAY_QUEUE_NAME
from soak.real.world import World, running

pytestmark = pytest.mark.timeout(180)

TARGETS = json.dumps([{"name": "bot", "url": "http://127.0.0.1:9/bot", "format": "graph"}])
POISON_QUEUE = f"{RELAY_QUEUE_NAME}-poison"
FUNCTIONS = {f"function.loaded function={name}" for name in ("relay_queue", "relay_timer")}


@pytest.fixture
def world() -> Iterator[World]:
    with running(Options()) as world:
        yield world


def test_the_host_has_queue_and_functions_of_the_relay_only_with_targets(world: World) -> None:
    with QueueServiceClient.from_connection_string(world.stack.storage.connection_string) as queues:
        assert not {function for function in FUNCTIONS if function in world.stack.host.output}
        assert _names(queues) == {"keep-alive"}

        world.stack.host.stop()
        world.stack.hosts[0].start(RELAY_TARGETS=TARGETS)
        assert {function for function in FUNCTIONS if function in world.stack.host.output} == FUNCTIONS
        assert _names(queues) == {"keep-alive", RELAY_QUEUE_NAME}

        queues.get_queue_client(RELAY_QUEUE_NAME).send_message("this is not base64!")
        world.wait_until(lambda: POISON_QUEUE in _names(queues))
        poison = queues.get_queue_client(POISON_QUEUE)
        world.wait_until(lambda: [message.content for message in poison.peek_messages()] == ["this is not base64!"])


def _names(queues: QueueServiceClient) -> set[str]:
    return {str(queue.name) for queue in queues.list_queues()}
