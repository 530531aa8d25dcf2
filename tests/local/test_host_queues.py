"""The local host's queue triggers and outputs, on Azurite."""

import base64
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.queue import QueueServiceClient

from local.host.queues import VISIBILITY_TIMEOUT
from local.stack.azurite import Azurite
from local.stack.azurite import running as azurite_running
from tests.local.host_app import MASTER_KEY, running, started, write_app
from tests.local.waiting import wait_until

MARGIN = 15  # seconds for a loaded machine
HOST_JSON = """{"version": "2.0", "extensions": {"queues": {"maxDequeueCount": 2, "batchSize": 4}}}"""
CODE = """
    import json
    app = func.FunctionApp()

    @app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="AzureWebJobsStorage")
    @app.queue_output(arg_name="answers", queue_name="%QUEUE%-out", connection="AzureWebJobsStorage")
    async def work(message: func.QueueMessage, answers: func.Out[typing.List[str]]) -> None:
        text = message.get_body().decode()
        logging.info("got", extra={"text": text, "count": message.dequeue_count})
        if text == "bad":
            raise ValueError("no good")
        if text.startswith("sleep"):
            await asyncio.sleep(float(text.removeprefix("sleep")))
        if text == "answer":
            answers.set([json.dumps([message.id, message.dequeue_count, message.pop_receipt,
                message.insertion_time.isoformat(), message.expiration_time.isoformat(),
                message.time_next_visible.isoformat()]), "second"])
"""


class Box:
    """A client of one queue. Its messages are in base64, the host's default."""

    def __init__(self, connection: str, name: str) -> None:
        self.name = name
        self._queue = QueueServiceClient.from_connection_string(connection).get_queue_client(name)

    def put(self, text: str, *, raw: bool = False) -> None:
        self._queue.send_message(text if raw else base64.b64encode(text.encode()).decode())

    def texts(self) -> list[str]:
        return [base64.b64decode(message.content).decode() for message in self._queue.peek_messages(32)]

    def raw_texts(self) -> list[str]:
        return [message.content for message in self._queue.peek_messages(32)]

    def count(self) -> int:
        """Return the number of messages, including hidden ones."""
        return self._queue.get_queue_properties().approximate_message_count or 0

    def create(self) -> None:
        self._queue.create_queue()

    def close(self) -> None:
        self._queue.close()


@pytest.fixture
def name() -> str:
    """The name of a queue for this test only, because tests share one Azurite."""
    return f"q{uuid4().hex[:12]}"


@pytest.fixture
def box(azurite: str, name: str) -> Iterator[Callable[[str], Box]]:
    boxes: list[Box] = []

    def made(suffix: str = "") -> Box:
        boxes.append(Box(azurite, name + suffix))
        return boxes[-1]

    yield made
    for each in boxes:
        each.close()


@pytest.fixture
def env(azurite: str, name: str) -> dict[str, str]:
    return {"AzureWebJobsStorage": azurite, "QUEUE": name}


def seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def test_a_processed_message_is_deleted_and_its_outputs_are_sent(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:  # it has created the queue
        queue, answers = box(""), box("-out")
        queue.put("answer")
        host.child.wait_for("function=work result=succeeded")
        wait_until(lambda: queue.count() == 0)
        first, second = answers.texts()
    message_id, count, receipt, inserted, expires, visible = json.loads(first)
    assert (second, count, len(message_id) > 0, len(receipt) > 0) == ("second", 1, True, True)
    assert datetime.fromisoformat(inserted) <= datetime.fromisoformat(visible) < datetime.fromisoformat(expires)


def test_a_failing_message_is_retried_and_then_moved_to_poison(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        queue, poison = box(""), box("-poison")
        queue.put("bad")
        host.child.wait_for("got text=bad count=1")
        host.child.wait_for("got text=bad count=2")
        host.child.wait_for(rf"error local.host queue.message.poisoned function=work queue={poison.name}")
        assert (poison.texts(), queue.count()) == (["bad"], 0)
        assert "count=3" not in host.child.output


def test_an_undecodable_message_is_moved_to_poison_unchanged(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        box("").put("{not base64}", raw=True)
        host.child.wait_for("queue.message.poisoned")
        assert box("-poison").raw_texts() == ["{not base64}"]
        assert "root got" not in host.child.output


def test_messages_are_processed_concurrently_beside_a_slow_one(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        queue = box("")
        queue.put("sleep3")
        host.child.wait_for("got text=sleep3")
        quick = range(4 + 2)  # more than batchSize
        for number in quick:
            queue.put(f"quick {number}")
        for number in quick:
            host.child.wait_for(f'got text="quick {number}"')
        assert queue.count() >= 1  # the message of three seconds


def test_plain_text_messages_are_read_with_encoding_none(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON.replace('"batchSize"', '"messageEncoding": "none", "batchSize"'))
    with running(tmp_path, env=env) as host:
        box("").put("plain & <simple>", raw=True)
        host.child.wait_for('got text="plain & <simple>" count=1')


def test_a_long_message_stays_hidden_and_is_processed_once(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        queue = box("")
        duration = VISIBILITY_TIMEOUT + timedelta(seconds=3)
        queue.put(f"sleep{seconds(duration)}")
        host.child.wait_for("function=work result=succeeded", seconds(duration) + MARGIN)
        wait_until(lambda: queue.count() == 0)
        assert host.child.output.count("root got") == 1


def test_the_next_host_processes_the_message_of_a_killed_one(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        box("").put("sleep2")
        host.child.wait_for("got text=sleep2 count=1")
        host.child.kill()
    with running(tmp_path, env=env) as host:
        host.child.wait_for("got text=sleep2 count=2", seconds(VISIBILITY_TIMEOUT) + MARGIN)
        host.child.wait_for("function=work result=succeeded")


def test_an_operator_runs_a_queue_function_by_hand(tmp_path: Path, env: dict[str, str]) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        key = {"x-functions-key": MASTER_KEY}
        assert host.client.post("/admin/functions/work", headers=key, json={"input": "hello"}).status_code == 202
        host.child.wait_for("got text=hello count=1")


def test_a_returned_value_and_raw_bytes_are_sent(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(
        tmp_path,
        """
        app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

        @app.route("send", methods=["POST"])
        @app.queue_output(arg_name="one", queue_name="%QUEUE%", connection="AzureWebJobsStorage")
        @app.queue_output(arg_name="two", queue_name="%QUEUE%", connection="AzureWebJobsStorage")
        async def send(
            req: func.HttpRequest, one: func.Out[bytes], two: func.Out[func.QueueMessage]
        ) -> func.HttpResponse:
            one.set(b"bytes")
            two.set(func.QueueMessage(body="object"))
            return func.HttpResponse("sent", status_code=202)

        @app.queue_trigger(arg_name="message", queue_name="%QUEUE%-in", connection="AzureWebJobsStorage")
        @app.queue_output(arg_name="$return", queue_name="%QUEUE%", connection="AzureWebJobsStorage")
        def answer(message: func.QueueMessage) -> str:
            return "returned"
        """,
    )
    with running(tmp_path, env=env) as host:
        assert host.client.post("/api/send").text == "sent"
        box("-in").put("x")
        host.child.wait_for("function=answer result=succeeded")
        assert sorted(box("").texts()) == ["bytes", "object", "returned"]


def test_the_host_survives_an_outage_of_storage_and_logs_it_once(tmp_path: Path, name: str) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with ExitStack() as host_stack, ExitStack() as storage_stack:
        storage = storage_stack.enter_context(azurite_running())
        env = {"AzureWebJobsStorage": storage.connection_string, "QUEUE": name}
        host = host_stack.enter_context(running(tmp_path, env=env))
        storage_stack.close()
        host.child.wait_for("warning local.host queue.unreachable")
        with azurite_running(queue_port=storage.queue_port):  # empty: the host creates the queue again
            host.child.wait_for("info local.host queue.reachable")
            box = Box(storage.connection_string, name)
            box.put("after")
            host.child.wait_for("got text=after")
            box.close()
        assert host.child.output.count("queue.unreachable queue=") <= 2  # the second when this storage ends


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        pytest.param(
            "", "function work needs the setting AzureWebJobsStorage: a storage connection string", id="missing"
        ),
        pytest.param("nonsense", "the setting AzureWebJobsStorage is not a storage connection string", id="malformed"),
        pytest.param("{unreachable}", "start Azurite, or correct the setting AzureWebJobsStorage", id="unreachable"),
    ],
)
def test_an_unusable_storage_stops_the_host_with_one_line(
    tmp_path: Path, name: str, connection: str, message: str
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    connection = connection.format(unreachable=Azurite(port, port, port).connection_string)
    ended = started(tmp_path, "--port", "0", "--quiet", env={"AzureWebJobsStorage": connection, "QUEUE": name})
    assert ended.returncode == 1
    assert [line for line in ended.stderr.splitlines() if "warning root" not in line] == [ended.stderr.splitlines()[-1]]
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
