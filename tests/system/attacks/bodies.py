"""Bodies that come with Graph's own token, and still must not be taken: 400, 413 or 415."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

from tests.system.attacks.scene import Case, Request, Scene
from tests.system.attacks.tokens import refused

MIB = 1024 * 1024
BOMB = "CWE-409: a body that grows when it is opened"
ENDLESS = "CWE-400, OWASP API4"
READERS = "RFC 8259 section 4: readers differ; CWE-436"
STRICT = "RFC 8259; CWE-20"
ENCODING = "RFC 8259 section 8.1: UTF-8 alone; CWE-176"
PATHS = "CWE-22"
KEYS = "Table Storage: characters that keys refuse; CWE-74"


def telling(make: Callable[[bytes], bytes]) -> Callable[[Scene], Request]:
    """A body made of a genuine one, under a good token."""
    return lambda scene: scene.post(None, make(scene.body()))


def headed(body: Callable[[bytes], bytes], *headers: tuple[str, str]) -> Callable[[Scene], Request]:
    """The same with headers."""
    return lambda scene: scene.post(None, body(scene.body()), *headers)


def located(path: str) -> Callable[[Scene], Request]:
    """A notification of a resource at this path, and of nothing else."""
    return lambda scene: scene.post(None, scene.body(scene.item(path=path)))


def sizes() -> Iterator[Case]:
    """Too much."""
    yield refused("size", "a byte too much", ENDLESS, telling(lambda b: b + b" " * (4 * MIB + 1 - len(b))), 413)
    huge = telling(lambda _: b" " * (16 * MIB))
    yield refused("size", "sixteen mebibytes of nothing", ENDLESS, huge, 413)
    anonymous = lambda scene: Request((), b" " * (4 * MIB + 1))  # noqa: ARG005, E731 (a case is a function of its scene)
    yield refused("size", "too much, and no token", ENDLESS, anonymous, 413)
    yield refused("size", "1,001 notifications of as many calls", ENDLESS, _many, 413)
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": bytes,
        "zstd": bytes,
        "gzip, gzip": bytes,
    }
    for name, pack in packers.items():
        packed = headed(pack, ("Content-Encoding", name))
        yield refused("size", f"Content-Encoding: {name}", BOMB, packed, 415)
    bomb = headed(lambda _: gzip.compress(b" " * (8 * MIB)), ("Content-Encoding", "gzip"))
    yield refused("size", "eight mebibytes in eight kilobytes", BOMB, bomb, 415)
    yield refused("size", "gzip, and nobody says so", BOMB, telling(gzip.compress), 400)


def _many(scene: Scene) -> Request:
    items = [scene.item(f"{scene.call_id[:-4]}{number:04x}") for number in range(1001)]
    return scene.post(None, scene.body(*items))


def json_tricks() -> Iterator[Case]:
    """What is no JSON, or could be read in two ways."""
    for kind in (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/html",
        "application/xml",
    ):
        typed = headed(bytes, ("Content-Type", kind))
        yield refused("JSON", f"Content-Type: {kind}", "CWE-436; OWASP API8", typed, 415)
    for charset in ("utf-16", "utf-7", "iso-8859-1"):
        typed = headed(bytes, ("Content-Type", f"application/json; charset={charset}"))
        yield refused("JSON", f"charset={charset}", ENCODING, typed, 415)
    for what, make in {
        "value twice": lambda b: b'{"value": [],' + b[1:],
        "resourceUrl twice": lambda b: b.replace(
            b'"resourceUrl"', b'"resourceUrl": "/communications/calls/1", "resourceUrl"'
        ),
        "a name twice, once escaped": lambda b: b'{"v\\u0061lue": [],' + b[1:],
    }.items():
        yield refused("JSON", what, READERS, telling(make), 400)
    for what, make in {
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
    }.items():
        yield refused("JSON", what, STRICT, telling(make), 400)
    for what, make in {
        "a byte that is no UTF-8": lambda b: b'{"x": "\xff",' + b[1:],
        "an overlong slash": lambda b: b.replace(b"/calls", b"\xc0\xafcalls"),
        "a surrogate in UTF-8": lambda b: b'{"x": "\xed\xa0\x80",' + b[1:],
        "UTF-16": lambda b: b.decode().encode("utf-16"),
        "UTF-16 without a mark": lambda b: b.decode().encode("utf-16-le"),
        "UTF-32": lambda b: b.decode().encode("utf-32"),
        "UTF-7": lambda b: b.decode().encode("utf-7").replace(b"{", b"+AHs-"),
    }.items():
        yield refused("JSON", what, ENCODING, telling(make), 400)
    for what, body in {
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
    }.items():
        yield refused("JSON", what, "CWE-674, CWE-843", _exactly(body), 400)


def _exactly(body: bytes) -> Callable[[Scene], Request]:
    return telling(lambda _: body)


def ids() -> Iterator[Case]:
    """Ids that would become a key, a path or a line of a log."""
    for text in ("..", ".", "../../me", "..\\..\\me", "a/b", "a\\b", "a?b", "a#b", "a%b"):
        path = f"/communications/calls/{quote(text, safe='')}"
        yield refused("id", f"a call id {text!r}, percent-encoded", PATHS, located(path), 400)
    for text in (
        "a|b",
        "active|00000000",
        "event|x|first",
        "recent|0",
        "a b",
        "a\tb",
        "a\0b",
        "a\nb",
        "\x7f",
        "\x85",
        "\uffff",
    ):
        name = quote(text, safe="")
        yield refused("id", f"a call id {text!r}", KEYS, located(f"/communications/calls/{name}"), 400)
    query = "OData injection into a query of the table; CWE-943"
    for text in ("x' or PartitionKey ge '", "x' or true or RowKey eq 'x"):
        path = f"/communications/calls/{quote(text, safe='')}"
        yield refused("id", f"a call id {text!r}", query, located(path), 400)
    for what, path in {
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
    }.items():
        yield refused("id", f"a call id: {what}", PATHS, located(path), 400)
    for odd in (5, True, {"x": 1}, ["/communications/calls/1"], None):
        typed = _typed(odd)
        yield refused("id", f"resourceUrl {json.dumps(odd)}", "CWE-843", typed, 400)


def _typed(given: object) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(None, scene.body({"changeType": "deleted", "resourceUrl": given}))


def cases() -> Iterator[Case]:
    """All of them."""
    yield from sizes()
    yield from json_tricks()
    yield from ids()
