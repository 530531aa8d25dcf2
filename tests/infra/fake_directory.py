"""A fake directory of Graph, over HTTP, with the few objects that granting permissions reads and writes."""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler

from tests.support.http_server import Quiet, serving

type Json = dict[str, object]
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
BOT = "11111111-0000-4000-8000-000000000001"
MANAGEMENT = "11111111-0000-4000-8000-000000000002"
IDENTITY = "22222222-0000-4000-8000-000000000001"
GRAPH = "00000003-0000-0000-c000-000000000000"
_BY_APP = re.compile(r"/(applications|servicePrincipals)\(appId='(.+)'\)")


@dataclass
class FakeDirectory:
    """The objects of a directory.

    `writes` are the requests that changed something. `broken` maps a request to the answer that replaces the real one.
    `late` maps a request to its first answers: those of a replica that does not have the newest objects yet.
    """

    url: str = ""
    applications: list[Json] = field(default_factory=list)
    principals: list[Json] = field(default_factory=list)
    lists: dict[str, list[Json]] = field(default_factory=dict)
    writes: list[tuple[str, str, Json]] = field(default_factory=list)
    broken: dict[str, tuple[int, Json]] = field(default_factory=dict)
    late: dict[str, list[tuple[int, Json]]] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    waited: list[timedelta] = field(default_factory=list)  # the pauses of the program under test

    def __post_init__(self) -> None:
        other: Json = {"id": "9", "value": "Other.Role", "isEnabled": True}
        self.applications = [
            {"id": "app-bot", "appId": BOT, "appRoles": [other]},
            {"id": "app-management", "appId": MANAGEMENT, "appRoles": []},
        ]
        roles: list[Json] = [
            {"id": "role-initiate", "value": "Calls.Initiate.All"},
            {"id": "role-media", "value": "Calls.AccessMedia.All"},
        ]
        self.principals = [
            {"id": "sp-graph", "appId": GRAPH, "appRoles": roles, "servicePrincipalType": "Application"},
            {"id": IDENTITY, "appId": str(uuid.uuid4()), "servicePrincipalType": "ManagedIdentity"},
        ]
        self.lists = {"/organization": [{"id": TENANT}]}

    def answer(self, method: str, path: str, body: Json) -> tuple[int, Json]:
        """Return the status and the body with which Graph would answer."""
        where, _, query = path.removeprefix("/v1.0").partition("?")
        if f"{method} {where}" in self.broken:
            return self.broken[f"{method} {where}"]
        if late := next((self.late[known] for known in self.late if _matches(known, method, where)), None):
            return late.pop(0)
        if method != "GET":
            self.writes.append((method, where, body))
            return self._write(method, where, body)
        found = self._object(where)
        if found is not None:
            return 200, found
        if where.count("/") == 3 or where in self.lists:
            return 200, self._page(where, int(query.partition("skip=")[2] or 0))
        return _error(404, "Request_ResourceNotFound", "Resource does not exist.")

    def _object(self, where: str) -> Json | None:
        collections = {"applications": self.applications, "servicePrincipals": self.principals}
        if by_app := _BY_APP.fullmatch(where):
            return next((item for item in collections[by_app[1]] if item["appId"] == by_app[2]), None)
        collection, _, key = where[1:].partition("/")
        return next((item for item in collections.get(collection, []) if item["id"] == key), None)

    def _page(self, where: str, skip: int) -> Json:
        """Return a page with one item, so that a program that reads only the first page fails."""
        items = self.lists.get(where, [])
        page: Json = {"value": items[skip : skip + 1]}
        if skip + 1 < len(items):
            page["@odata.nextLink"] = f"{self.url}/v1.0{where}?skip={skip + 1}"
        return page

    def _write(self, method: str, where: str, body: Json) -> tuple[int, Json]:
        if method == "PATCH":
            holder = self._object(where)
            parent, _, key = where.rpartition("/")
            holder = holder or next(item for item in self.lists[parent] if item["id"] == key)
            holder.update(body)
            return 204, {}
        made = {"id": str(uuid.uuid4()), **body}
        if where == "/servicePrincipals":
            self.principals.append(made)
        else:
            self.lists.setdefault(where, []).append(made)
        return 201, made


def _matches(known: str, method: str, where: str) -> bool:
    """Return True if a request has this method and this end of its path. Paths hold random ids of created objects."""
    wanted, _, end = known.partition(" ")
    return method == wanted and where.endswith(end)


def _error(status: int, code: str, message: str) -> tuple[int, Json]:
    return status, {"error": {"code": code, "message": message}}


@contextmanager
def running() -> Iterator[FakeDirectory]:
    """Serve a directory on a free port of 127.0.0.1."""
    directory = FakeDirectory()

    class Handler(Quiet, BaseHTTPRequestHandler):
        def handle_one_method(self) -> None:
            directory.tokens.add(self.headers["Authorization"])
            length = int(self.headers["Content-Length"] or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, answer = directory.answer(self.command, self.path, body)
            payload = b"" if status == 204 else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PATCH = handle_one_method  # noqa: N815 (the names that http.server calls)

    with serving(Handler) as address:
        directory.url = address
        yield directory
