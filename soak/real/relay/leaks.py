"""A search for tokens in all that the host and its storage have written: rows, messages, files of data, logs."""

import gzip
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

from shared.storage.delivery_codec import MAX_BODY_COLUMNS

# The header and the start of the claims of each JWT. A queue message in base64 begins like its first part.
A_TOKEN = re.compile(rb"eyJ[\w-]{20,}\.eyJ[\w-]{20,}")
_COMMON_BEGINNING = b"eyJhbGciOiJSUzI1NiIs"  # of all tokens of the simulator: {"alg":"RS256",
_SIGNATURE_PART = 40  # characters of a signature that are compared; it has 342 (2,048 bits)
_LONG_WORD = re.compile(rb"[\w-]{300,}")


def find_tokens(places: Iterable[tuple[str, bytes]], tokens: Iterable[str]) -> list[str]:
    """Return a line for each place that has one of the tokens, the start of any, or any in base64.

    Parameters
    ----------
    places
        The name of each place, and its content.
    tokens
        Tokens whose signatures are searched for.

    Raises
    ------
    ValueError
        A token begins otherwise than those of the simulator, so that it would not be found in base64.
    """
    known = [token.encode() for token in tokens]
    if not all(token.startswith(_COMMON_BEGINNING) for token in known):
        raise ValueError("A token does not begin as those of the simulator: correct _COMMON_BEGINNING.")
    signatures = {token.rpartition(b".")[2][:_SIGNATURE_PART] for token in known}
    encoded = re.compile(b"|".join(map(re.escape, _encodings(_COMMON_BEGINNING))))
    return [
        f"leak: {name} has a token"
        for name, content in places
        if A_TOKEN.search(content) or encoded.search(content) or _has_signature(content, signatures)
    ]


def _has_signature(content: bytes, signatures: AbstractSet[bytes]) -> bool:
    return any(
        word[begin : begin + _SIGNATURE_PART] in signatures
        for word in _LONG_WORD.findall(content)
        for begin in range(len(word) - _SIGNATURE_PART + 1)
    )


def _encodings(text: bytes) -> Iterator[bytes]:
    """Yield the core of a text in base64, for each of the three ways in which it may be aligned."""
    for offset in range(3):
        encoded = b64encode(bytes(offset) + text)
        yield encoded[4:-4]  # the first and the last group depend on what stands before and after


def stored(connection: str) -> Iterator[tuple[str, bytes]]:
    """Yield each row of each table, its bodies unpacked, and each visible message of each queue."""
    with TableServiceClient.from_connection_string(connection) as service:
        for name in [table.name for table in service.list_tables()]:
            for row in service.get_table_client(name).list_entities():
                yield f"table {name}, row {row['RowKey']}", content_of_row(row)
    with QueueServiceClient.from_connection_string(connection) as service:
        for name in [queue.name for queue in service.list_queues()]:
            for message in service.get_queue_client(name).peek_messages(32):
                yield f"queue {name}", b64decode(message.content)


def content_of_row(row: Mapping[str, object]) -> bytes:
    """Return the values of a row, and the body of a delivery unpacked: docs/storage.md."""
    names = ["body", *(f"body{number}" for number in range(2, MAX_BODY_COLUMNS + 1))]
    parts = [value for name in names if isinstance(value := row.get(name), bytes)]
    body = gzip.decompress(b"".join(parts)) if parts else b""
    return b"\n".join([*map(_bytes_of, row.values()), body])


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file below the folders."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield f"file {path.relative_to(folder)}", path.read_bytes()


def _bytes_of(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
