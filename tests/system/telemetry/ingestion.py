"""A stand-in for Azure Monitor's ingestion endpoint, which accepts and keeps all that the exporter sends."""

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
TIMEOUT = 60.0  # seconds
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
        """The id of the trace that the item belongs to."""
        return self.tags.get("ai.operation.id", "")

    @property
    def event(self) -> str:
        """The name of a log event, empty for another item."""
        return self.properties.get("event", "")


class Ingestion:
    """The items that have arrived. `raw` has each body, decompressed, and each header."""

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
        """All bodies and headers."""
        with self._lock:
            return "\n".join(self._raw)

    def events(self, name: str, **fields: object) -> list[Item]:
        """Return the log events of this name that have these fields."""
        wanted = {key: str(value) for key, value in fields.items()}
        return [item for item in self.items if item.event == name and wanted.items() <= item.properties.items()]

    def metrics(self, name: str) -> list[dict[str, object]]:
        """Return the data points of a metric."""
        points: list[dict[str, object]] = []
        for item in self.items:
            listed = item.data.get("metrics")
            points += [point for point in (listed if isinstance(listed, list) else []) if point["name"] == name]
        return points

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until `holds()` is true. The exporter works in another process."""
        deadline = time.monotonic() + TIMEOUT
        while not holds():
            assert time.monotonic() < deadline, "the expected telemetry did not arrive within 60 seconds"
            time.sleep(0.1)

    def keep(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Keep a body of the exporter, and return the number of its items."""
        text = gzip.decompress(body).decode() if headers.get("Content-Encoding") == "gzip" else body.decode()
        items = [_item(found) for found in _envelopes(text)]
        with self._lock:
            self._raw += [text, *map(str, headers.items())]
            self._items += items
        return len(items)


@contextmanager
def listening() -> Iterator[tuple[Ingestion, str]]:
    """Serve on a free port. Yield what is received, and the connection string, which covers live metrics as well."""
    received = Ingestion()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            count = received.keep(body, dict(self.headers)) if self.path.startswith("/v2.1/track") else 0
            answer = json.dumps({"itemsReceived": count, "itemsAccepted": count, "errors": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield received, f"InstrumentationKey={KEY};IngestionEndpoint={address}/;LiveEndpoint={address}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _envelopes(text: str) -> list[dict[str, object]]:
    """Read JSON lines, or one JSON list."""
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
