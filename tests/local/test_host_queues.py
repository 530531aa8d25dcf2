"""The local host: queue triggers and outputs, on Azurite."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.queue import QueueServiceClient

from local.host.queues import HIDDEN
from local.stack.azurite import Azurite
from local.stack.azurite import running as azurite_running
from tests.local.host_app import MASTER_KEY, running, started, write_app

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
        if text.startswith("for"):
            await asyncio.sleep(float(text[3:]))
        if text == "tell":
            answers.set([json.dumps([message.id, message.dequeue_count, message.pop_receipt,
                message.insertion_time.isoformat(), message.expiration_time.isoformat(),
                message.time_next_visible.isoformat()]), "second"])
"""


class Box:
    """One queue of a test, by the ordinary SDK; its messages in base64, as the host's default is."""

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
        """All messages, the hidden ones too."""
        return self._queue.get_queue_properties().approximate_message_count or 0

    def create(self) -> None:
        self._queue.create_queue()

    def close(self) -> None:
        self._queue.close()


@pytest.fixture
def name() -> str:
    """A queue of this test's own: Azurite is shared."""
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


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it holds: what happens in another process cannot be stepped."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_message_is_processed_and_gone_and_its_answers_are_sent(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:  # it has created the queue by now
        queue, answers = box(""), box("-out")
        queue.put("tell")
        host.child.wait_for("function=work result=succeeded")
        until(lambda: queue.count() == 0)
        told, second = answers.texts()
    message_id, count, receipt, inserted, expires, visible = json.loads(told)
    assert (second, count, len(message_id) > 0, len(receipt) > 0) == ("second", 1, True, True)
    assert datetime.fromisoformat(inserted) <= datetime.fromisoformat(visible) < datetime.fromisoformat(expires)


def test_a_failing_message_is_tried_again_and_then_moved_to_poison(
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


def test_a_message_that_cannot_be_decoded_goes_to_poison_as_it_is(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        box("").put("{not base64}", raw=True)
        host.child.wait_for("queue.message.poisoned")
        assert box("-poison").raw_texts() == ["{not base64}"]
        assert "root got" not in host.child.output


def test_messages_are_processed_side_by_side_and_a_slow_one_holds_up_nobody(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        queue = box("")
        queue.put("for3")
        host.child.wait_for("got text=for3")
        for number in range(6):
            queue.put(f"quick {number}")
        for number in range(6):
            host.child.wait_for(f'got text="quick {number}"')
        assert queue.count() >= 1  # the one of three seconds


def test_plain_text_messages_are_read_where_host_json_says_so(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON.replace('"batchSize"', '"messageEncoding": "none", "batchSize"'))
    with running(tmp_path, env=env) as host:
        box("").put("plain & <simple>", raw=True)
        host.child.wait_for('got text="plain & <simple>" count=1')


def test_a_message_runs_longer_than_it_is_hidden_without_being_given_out_twice(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        queue = box("")
        queue.put(f"for{HIDDEN + 3}")
        host.child.wait_for("function=work result=succeeded", HIDDEN + 15)
        until(lambda: queue.count() == 0)
        assert host.child.output.count("root got") == 1


def test_the_message_of_a_killed_host_is_processed_by_the_next_one(
    tmp_path: Path, env: dict[str, str], box: Callable[[str], Box]
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        box("").put("for2")
        host.child.wait_for("got text=for2 count=1")
        host.child.kill()
    with running(tmp_path, env=env) as host:
        host.child.wait_for("got text=for2 count=2", HIDDEN + 15)
        host.child.wait_for("function=work result=succeeded")


def test_an_operator_runs_a_queue_function_by_hand(tmp_path: Path, env: dict[str, str]) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with running(tmp_path, env=env) as host:
        key = {"x-functions-key": MASTER_KEY}
        assert host.client.post("/admin/functions/work", headers=key, json={"input": "hello"}).status_code == 202
        host.child.wait_for("got text=hello count=1")


def test_a_returned_value_and_raw_bytes_are_sent_too(
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


def test_an_outage_of_the_storage_is_logged_once_and_survived(tmp_path: Path, name: str) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with ExitStack() as host_life, ExitStack() as storage_life:
        storage = storage_life.enter_context(azurite_running())
        env = {"AzureWebJobsStorage": storage.connection_string, "QUEUE": name}
        host = host_life.enter_context(running(tmp_path, env=env))
        storage_life.close()
        host.child.wait_for("warning local.host queue.unreachable")
        with azurite_running(queue_port=storage.queue_port):  # empty: the host makes the queue anew
            host.child.wait_for("info local.host queue.reachable")
            box = Box(storage.connection_string, name)
            box.put("after")
            host.child.wait_for("got text=after")
            box.close()
        assert host.child.output.count("queue.unreachable queue=") <= 2  # the second as the storage went again


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("", "function work needs the setting AzureWebJobsStorage: a storage connection string"),
        ("nonsense", "the setting AzureWebJobsStorage is no storage connection string"),
        ("{unreachable}", "start Azurite, or correct the setting AzureWebJobsStorage"),
    ],
)
def test_a_storage_that_cannot_be_used_stops_the_host_with_one_line(
    tmp_path: Path, name: str, connection: str, said: str
) -> None:
    write_app(tmp_path, CODE, HOST_JSON)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    connection = connection.format(unreachable=Azurite(port, port, port).connection_string)
    ended = started(tmp_path, "--port", "0", "--quiet", env={"AzureWebJobsStorage": connection, "QUEUE": name})
    assert ended.returncode == 1
    assert [line for line in ended.stderr.splitlines() if "warning root" not in line] == [ended.stderr.splitlines()[-1]]
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
