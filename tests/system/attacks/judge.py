"""Whether an answer, or a log, tells a stranger anything."""

import json
import re

from azure.data.tables.aio import TableServiceClient

from functions.problems import GENERIC_DETAILS, RETRY_LATER_DETAIL
from tests.system.attacks.scene import Answer, Case, Request, Scene

type Key = tuple[str, str, str]  # table, PartitionKey, RowKey

_PART = re.compile(r"(?<=\.)[A-Za-z0-9_-]{25,}")  # claims or a signature; the header before them is no secret


class Ledger:
    """Every row of every table, by its key, with the ETag that each write of it changes."""

    def __init__(self, tables: TableServiceClient) -> None:
        self._tables = tables
        self.rows: dict[Key, str] = {}

    async def changed(self) -> set[Key]:
        """The rows that were written, or deleted, since the last look."""
        before, self.rows = self.rows, {}
        async for table in self._tables.list_tables():
            async for row in self._tables.get_table_client(table.name).list_entities(select=["PartitionKey", "RowKey"]):
                self.rows[table.name, row["PartitionKey"], row["RowKey"]] = str(row.metadata["etag"])
        return {key for key, _ in before.items() ^ self.rows.items()}


def secrets_of(request: Request) -> set[str]:
    """What of a token must be repeated nowhere: claims and signatures, in whatever header they were sent."""
    sent = f"{request.raw_head!r} {request.headers} {request.target}"
    return set(_PART.findall(sent)) - {part for part in _PART.findall(sent) if part.strip("A") == ""}


def assert_tells_nothing(case: Case, request: Request, answer: Answer, scene: Scene) -> None:
    """A problem of ours has its status and the one sentence that belongs to it; the server's own nothing of ours."""
    text = answer.body.decode(errors="replace")
    if answer.status == 202:
        assert answer.body == b""
        return
    assert not any(secret in text for secret in secrets_of(request))
    assert not {scene.call_id, scene.tenant, scene.victim, scene.app_id} & set(text.replace('"', " ").split())
    if text.startswith("{"):
        told = json.loads(text)
        assert told.keys() <= {"type", "title", "status", "detail"}
        assert told["detail"] == GENERIC_DETAILS.get(told["status"], RETRY_LATER_DETAIL)
    else:
        assert case.kind == "HTTP"
