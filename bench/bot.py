"""A bot that only answers 202 and notes when it heard what: a minimal server over a plain asyncio protocol."""

import asyncio
import time

_HEAD_END = b"\r\n\r\n"
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


class Bot:
    """The bodies that a bot has heard, each with the time of its last byte by the clock `time.monotonic`."""

    def __init__(self) -> None:
        self.heard: dict[bytes, float] = {}

    async def serve(self, port: int) -> asyncio.Server:
        """Serve on a port of 127.0.0.1."""
        return await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", port)


class _Connection(asyncio.Protocol):
    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (what create_server gives)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(_HEAD_END)) >= 0:
            begin = end + len(_HEAD_END)
            whole = begin + _content_length(self._buffer[:end])
            if len(self._buffer) < whole:
                return
            self._bot.heard.setdefault(self._buffer[begin:whole], time.monotonic())
            self._buffer = self._buffer[whole:]
            self._transport.write(_ACCEPTED)


def _content_length(head: bytes) -> int:
    found = head.lower().partition(b"\r\ncontent-length:")[2]
    return int(found.partition(b"\r\n")[0]) if found else 0
