"""Bodies that come with Graph's own token, and must be refused all the same: 400, 413 or 415."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote

from tests.system.attacks.cases import Case, all_refused, refused
from tests.system.attacks.raw_http import Request
from tests.system.attacks.request_builders import Build, RequestBuilder, with_body, with_item

MIB = 1024 * 1024
BOMB = "CWE-409: a body that grows when it is opened"
ENDLESS = "CWE-400, OWASP API4"
READERS = "RFC 8259 section 4: readers differ; CWE-436"
STRICT = "RFC 8259; CWE-20"
ENCODING = "RFC 8259 section 8.1: UTF-8 alone; CWE-176"
SHAPES = "CWE-674, CWE-843"
PATHS = "CWE-22"
KEYS = "Table Storage: characters that keys refuse; CWE-74"
QUERIES = "OData injection into a query of the table; CWE-943"

type Change = Callable[[bytes], bytes]

PACKERS: dict[str, Change] = {"gzip": gzip.compress, "deflate": zlib.compress, "br": bytes, "zstd": bytes}
OTHER_TYPES = (
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/html", "application/xml"),
)
REPEATED_NAMES: dict[str, Change] = {
    "value twice": lambda b: b'{"value": [],' + b[1:],
    "resourceUrl twice": lambda b: b.replace(
        b'"resourceUrl"', b'"resourceUrl": "/communications/calls/1", "resourceUrl"'
    ),
    "a name twice, once escaped": lambda b: b'{"v\\u0061lue": [],' + b[1:],
}
NOT_JSON: dict[str, Change] = {
    "NaN": lambda b: b'{"x": NaN,' + b[1:],
    "Infinity": lambda b: b'{"x": -Infinity,' + b[1:],
    "a comment": lambda b: b"/* */" + b,
    "a comma too many": lambda b: b[:-1] + b",}",
    "single quotes": lambda b: b.replace(b'"', b"'"),
    "two documents": lambda b: b + b,
    "something behind it": lambda b: b + b"\0",
    "cut off": lambda b: b[:-2],
    "nothing": lambda _: b"",
    "white space": lambda _: b"  \n",
    "a number with a leading zero": lambda b: b'{"x": 01,' + b[1:],
    "a control character in text": lambda b: b'{"x": "\x01",' + b[1:],
    "XML with an entity": lambda _: b'<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
    "YAML": lambda _: b"value: !!python/object/apply:os.system ['true']",
    "a form": lambda _: b"value=1&validationToken=x",
}
NOT_UTF_8: dict[str, Change] = {
    "a byte that is no UTF-8": lambda b: b'{"x": "\xff",' + b[1:],
    "an overlong slash": lambda b: b.replace(b"/calls", b"\xc0\xafcalls"),
    "a surrogate in UTF-8": lambda b: b'{"x": "\xed\xa0\x80",' + b[1:],
    "UTF-16": lambda b: b.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda b: b.decode().encode("utf-16-le"),
    "UTF-32": lambda b: b.decode().encode("utf-32"),
    "UTF-7": lambda b: b.decode().encode("utf-7").replace(b"{", b"+AHs-"),
}
WRONG_SHAPES = {
    "a list": b"[]",
    "text": b'"value"',
    "a number": b"1",
    "true": b"true",
    "null": b"null",
    "no value": b"{}",
    "value null": b'{"value": null}',
    "value an object": b'{"value": {"0": {}}}',
    "value a huge number": b'{"value": 1e999}',
    "value of 100,000 digits": b'{"value": ' + b"9" * 100_000 + b"}",
    "items that are none": b'{"value": [1, null, "x", [], {}]}',
    "a prototype": b'{"__proto__": {"value": []}}',
    "65 levels deep": b'{"value": ' + b"[" * 65 + b"]" * 65 + b"}",
    "a million brackets": b"[" * 1_000_000,
    "half a million objects, never closed": b'{"a":' * 200_000,
}
IDS_WITH_A_PATH = ("..", ".", "../../me", "..\\..\\me", "a/b", "a\\b", "a?b", "a#b", "a%b")
IDS_THAT_KEYS_REFUSE = (
    *("a|b", "active|00000000", "event|x|first", "recent|0"),
    *("a b", "a\tb", "a\0b", "a\nb", "\x7f", "\x85", "\uffff"),
)
IDS_WITH_A_QUERY = ("x' or PartitionKey ge '", "x' or true or RowKey eq 'x")
BAD_PATHS = {
    "none": "/communications/calls",
    "empty": "/communications/calls//",
    "encoded twice": "/communications/calls/%252e%252e%252fme",
    "of 201 characters": "/communications/calls/" + "a" * 201,
    "of 201 UTF-16 units": "/communications/calls/" + "\U0001f600" * 101,
    "no UTF-8": "/communications/calls/%ff%fe",
    "half a character": "/communications/calls/\ud800",
    "behind a question mark": "/communications?/calls/1",
    "as a host": "https://calls/1",
    "of an operation, with a slash": "/communications/calls/1/operations/a%2Fb",
    "of an operation, with a bar": "/communications/calls/1/operations/a%7Cb",
    "of another resource": "/users/1/presence",
}
NOT_A_PATH = (5, True, {"x": 1}, ["/communications/calls/1"], None)


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _sizes()
    yield from _compressed()
    yield from _content_types()
    yield from _json()
    yield from _call_ids()


def _sizes() -> Iterator[Case]:
    builds: dict[str, Build] = {
        "a byte too much": with_body(lambda b: b + b" " * (4 * MIB + 1 - len(b))),
        "sixteen mebibytes of nothing": with_body(lambda _: b" " * (16 * MIB)),
        "too much, and no token": lambda _: Request((), b" " * (4 * MIB + 1)),
        "1,001 notifications of as many calls": _of_1001_calls,
    }
    yield from all_refused("size", ENDLESS, builds, 413)


def _compressed() -> Iterator[Case]:
    for name, pack in {**PACKERS, "gzip, gzip": bytes}.items():
        yield refused("size", f"Content-Encoding: {name}", BOMB, with_body(pack, ("Content-Encoding", name)), 415)
    bomb = with_body(lambda _: gzip.compress(b" " * (8 * MIB)), ("Content-Encoding", "gzip"))
    yield refused("size", "eight mebibytes in eight kilobytes", BOMB, bomb, 415)
    yield refused("size", "gzip, and nobody says so", BOMB, with_body(gzip.compress), 400)


def _content_types() -> Iterator[Case]:
    for kind in OTHER_TYPES:
        typed = with_body(bytes, ("Content-Type", kind))
        yield refused("JSON", f"Content-Type: {kind}", "CWE-436; OWASP API8", typed, 415)
    for charset in ("utf-16", "utf-7", "iso-8859-1"):
        typed = with_body(bytes, ("Content-Type", f"application/json; charset={charset}"))
        yield refused("JSON", f"charset={charset}", ENCODING, typed, 415)


def _json() -> Iterator[Case]:
    """Bodies that are no JSON, have two readings, or have another shape."""
    yield from all_refused("JSON", READERS, _bodies(REPEATED_NAMES), 400)
    yield from all_refused("JSON", STRICT, _bodies(NOT_JSON), 400)
    yield from all_refused("JSON", ENCODING, _bodies(NOT_UTF_8), 400)
    yield from all_refused("JSON", SHAPES, {what: _exactly(body) for what, body in WRONG_SHAPES.items()}, 400)


def _call_ids() -> Iterator[Case]:
    """Ids that would become a key, a path, a query or a line of a log."""
    encoded = {f"a call id {text!r}, percent-encoded": _with_call_id(text) for text in IDS_WITH_A_PATH}
    yield from all_refused("id", PATHS, encoded, 400)
    for source, ids in ((KEYS, IDS_THAT_KEYS_REFUSE), (QUERIES, IDS_WITH_A_QUERY)):
        yield from all_refused("id", source, {f"a call id {text!r}": _with_call_id(text) for text in ids}, 400)
    yield from all_refused(
        "id", PATHS, {f"a call id: {what}": with_item(path) for what, path in BAD_PATHS.items()}, 400
    )
    not_a_path = {f"resourceUrl {json.dumps(value)}": _with_resource_url(value) for value in NOT_A_PATH}
    yield from all_refused("id", "CWE-843", not_a_path, 400)


def _of_1001_calls(builder: RequestBuilder) -> Request:
    items = [builder.item(f"{builder.call_id[:-4]}{number:04x}") for number in range(1001)]
    return builder.post(None, builder.body(*items))


def _bodies(changes: Mapping[str, Change]) -> dict[str, Build]:
    return {what: with_body(change) for what, change in changes.items()}


def _exactly(body: bytes) -> Build:
    return with_body(lambda _: body)


def _with_call_id(call_id: str) -> Build:
    return with_item(f"/communications/calls/{quote(call_id, safe='')}")


def _with_resource_url(value: object) -> Build:
    return lambda builder: builder.post(None, builder.body({"changeType": "deleted", "resourceUrl": value}))
