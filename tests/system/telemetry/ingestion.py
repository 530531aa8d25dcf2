"""Azure Monitor's ingestion endpoint, as far as the exporter can tell: it takes all and keeps all."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "6d3b1f0a-58c2-4e97-8a41-c0de5ca1ab1e"  # an instrumentation key is an address, no secret
PATIENCE = 60.0  # seconds
TABLES = {
    "MessageData": "AppTraces",
    "MetricData": "AppMetrics",
    "RemoteDependencyData": "AppDependencies",
    "RequestData": "AppRequests",
    "ExceptionData": "AppExceptions",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One envelope: the table that its row goes to, when it was made, its tags, and its `baseData`."""

    table: str
    time: datetime
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    data: Mapping[str, object]

    @property
    def operation_id(self) -> str:
        """The trace that it belongs to."""
        return self.tags.get("ai.operation.id", "")

    @property
    def event(self) -> str:
        """The name of a log event, empty for another item."""
        return self.properties.get("event", "")


class Ingestion:
    """What has arrived. `raw` is every byte of every body, decompressed, and every header."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[Item] = []
        self._raw: list[str] = []

    @property
    def items(self) -> list[Item]:
        """All items so far."""
        with self._lock:
            return list(self._items)

    @property
    def raw(self) -> str:
        """All that was sent."""
        with self._lock:
            return "\n".join(self._raw)

    def events(self, name: str, **fields: object) -> list[Item]:
        """The log events of this name that have these fields."""
        wanted = {key: str(value) for key, value in fields.items()}
        return [item for item in self.items if item.event == name and wanted.items() <= item.properties.items()]

    def metrics(self, name: str) -> list[dict[str, object]]:
        """The data points of a metric."""
        points: list[dict[str, object]] = []
        for item in self.items:
            listed = item.data.get("metrics")
            points += [point for point in (listed if isinstance(listed, list) else []) if point["name"] == name]
        return points

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until it holds: the exporter works in other threads of another process."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "it did not arrive"
            time.sleep(0.1)

    def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Keep a body of the exporter's; how many items it has."""
        text = gzip.decompress(body).decode() if headers.get("Content-Encoding") == "gzip" else body.decode()
        items = [_item(found) for found in _envelopes(text)]
        with self._lock:
            self._raw += [text, *map(str, headers.items())]
            self._items += items
        return len(items)


@contextmanager
def listening() -> Iterator[tuple[Ingestion, str]]:
    """An endpoint on a free port, and the connection string that leads there, for live metrics too."""
    taken = Ingestion()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            count = taken.take(body, dict(self.headers)) if self.path.startswith("/v2.1/track") else 0
            answer = json.dumps({"itemsReceived": count, "itemsAccepted": count, "errors": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing: the test speaks."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield taken, f"InstrumentationKey={KEY};IngestionEndpoint={address}/;LiveEndpoint={address}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _envelopes(text: str) -> list[dict[str, object]]:
    """JSON lines, or one list of JSON."""
    found: list[dict[str, object]] = []
    for line in text.splitlines():
        read = json.loads(line) if line.strip() else []
        found += read if isinstance(read, list) else [read]
    return found


def _item(envelope: Mapping[str, object]) -> Item:
    tags, data = envelope.get("tags"), envelope.get("data")
    assert isinstance(tags, dict)
    assert isinstance(data, dict)
    base = data["baseData"]
    kind = str(data["baseType"])
    table = TABLES.get(kind, kind)
    time = datetime.fromisoformat(str(envelope["time"]))
    return Item(table, time, tags, base.get("properties") or {}, base)
