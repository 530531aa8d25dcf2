"""A counter of the requests that a process sends to storage, by kind. Azure bills each as a transaction."""

import re
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from azure.core.pipeline.transport import AioHttpTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_TOKENS = "/msi/token"  # the same library requests tokens, which are no storage transactions
_KINDS = (
    ("POST", r"/\$batch", "table: transaction"),
    ("POST", r"/Tables", "table: make it"),
    ("GET", r"/\w+\(\)\?.*RowKey(%20|\+)eq", "table: read"),  # by both keys: one row
    ("GET", r"/\w+\(\)", "table: query"),
    ("PUT", r"/\w+\(PartitionKey", "table: write"),
    ("GET", r"/messages", "queue: get"),
    ("POST", r"/messages", "queue: put"),
    ("DELETE", r"/messages", "queue: delete"),
    ("PUT", r"", "queue: make it"),
)


class Transactions:
    """A context manager that counts requests, including retries, in the SDK's method that sends them.

    It costs almost nothing. The SDK's log has the same facts, but takes as much time as some requests.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._send: Callable[..., Awaitable[object]] = AioHttpTransport.send

    def __enter__(self) -> Self:
        send = self._send

        async def counted(transport: AioHttpTransport, request: _Request, **config: object) -> object:
            if _TOKENS not in request.url:
                self.counts[_kind(request.method, request.url)] += 1
            return await send(transport, request, **config)

        AioHttpTransport.send = counted  # wraps the method with a counter
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        AioHttpTransport.send = self._send


class _Request(Protocol):
    url: str
    method: str


def _kind(method: str, url: str) -> str:
    return next((kind for verb, path, kind in _KINDS if verb == method and re.search(path, url)), f"other: {method}")
