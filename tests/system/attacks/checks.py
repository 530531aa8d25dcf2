"""Checks of what a refused request may change, and what a response or a log may disclose."""

import json
import re

from azure.data.tables.aio import TableServiceClient

from functions.problems import GENERIC_DETAILS, RETRY_LATER_DETAIL
from tests.system.attacks.cases import Case
from tests.system.attacks.raw_http import Request, Response
from tests.system.attacks.request_builders import RequestBuilder

type RowKey = tuple[str, str, str]  # table, PartitionKey, RowKey

_SECRET_PART = re.compile(r"(?<=\.)[A-Za-z0-9_-]{25,}")  # claims or a signature; the header before them is no secret


class StoredRows:
    """The rows of all tables by key, with the ETag that each write of a row changes."""

    def __init__(self, tables: TableServiceClient) -> None:
        self._tables = tables
        self.etags: dict[RowKey, str] = {}

    async def changed(self) -> set[RowKey]:
        """Return the rows that were written or deleted since the last call."""
        before, self.etags = self.etags, {}
        async for table in self._tables.list_tables():
            async for row in self._tables.get_table_client(table.name).list_entities(select=["PartitionKey", "RowKey"]):
                self.etags[table.name, row["PartitionKey"], row["RowKey"]] = str(row.metadata["etag"])
        return {key for key, _ in before.items() ^ self.etags.items()}


def secrets_of(request: Request) -> set[str]:
    """Return the claims and signatures in a request, in whatever header they were sent. Nothing may repeat them."""
    sent = f"{request.raw_head!r} {request.headers} {request.target}"
    return set(_SECRET_PART.findall(sent)) - {part for part in _SECRET_PART.findall(sent) if part.strip("A") == ""}


def assert_discloses_nothing(case: Case, request: Request, response: Response, builder: RequestBuilder) -> None:
    """Check the body of a response.

    A problem of the app has its status and the one detail that belongs to it. A response of the server, which only
    requests of the kind HTTP get, has no id and no secret in it. A 202 has no body.
    """
    text = response.body.decode(errors="replace")
    if response.status == 202:
        assert response.body == b""
        return
    assert not any(secret in text for secret in secrets_of(request))
    ids = {builder.call_id, builder.tenant, builder.victim, builder.app_id}
    assert not ids & set(text.replace('"', " ").split())
    if text.startswith("{"):
        problem = json.loads(text)
        assert problem.keys() <= {"type", "title", "status", "detail"}
        assert problem["detail"] == GENERIC_DETAILS.get(problem["status"], RETRY_LATER_DETAIL)
    else:
        assert case.kind == "HTTP"
