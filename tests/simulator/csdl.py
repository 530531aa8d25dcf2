"""Graph's published types, and what is said beyond them, with the reason for each."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.wire import Json

_FILE = Path(__file__).parents[1] / "data" / "graph-types.json"

# type.member: why it is sent or taken although the published type has no such member
EXTRAS = {
    "commsNotification.resource": "observed: real payloads still carry the old path beside resourceUrl",
    "commsNotification.resourceData": "documented on the commsNotification page; the type is open",
    "commsNotification.callbackUri": "documented in the examples of application-post-calls",
    "call.meetingCapability": "observed in terminated and in later established notifications",
    "call.coOrganizers": "observed in terminated notifications",
    "recordOperation.completionReason": "documented on the cancelMediaProcessing page and in beta",
    "recordOperation.recordResourceLocation": "the record page of 2018",
    "recordOperation.recordResourceAccessToken": "the record page of 2018",
    "identity.tenantId": "documented in the meeting examples of application-post-calls; the type is open",
    "identity.identityProvider": "beta; the type is open",
    "identitySet.applicationInstance": "documented for calls to a phone; the type is open",
    "identitySet.phone": "documented for calls to a phone; the type is open",
    "identitySet.guest": "documented for participants; the type is open",
    "identitySet.encrypted": "documented for callers without permission; the type is open",
    "invitationParticipantInfo.endpointType": "documented in the answer example of application-post-calls",
    "organizerMeetingInfo.allowConversationWithoutHost": "documented in the meeting examples; the type is open",
    "joinMeetingIdMeetingInfo.allowConversationWithoutHost": "documented in beta; the type is open",
    "serviceHostedMediaConfig.removeFromDefaultAudioGroup": "documented in the example of a group call",
    "appHostedMediaConfig.removeFromDefaultAudioGroup": "documented in the example of a group call",
    "mediaPrompt.loop": "the record page of 2018",
}
# Types that the published document lacks: nothing to hold them to.
UNPUBLISHED = {"meetingCapability": "observed, always empty"}


class _Member(BaseModel):
    type: str


class _Type(BaseModel):
    base: str | None = None
    properties: dict[str, _Member] = {}


class _Action(BaseModel):
    parameters: dict[str, _Member] = {}
    returns: str | None = None


class Csdl(BaseModel):
    types: dict[str, _Type]
    enums: dict[str, list[str]]
    actions: dict[str, _Action]

    def members(self, name: str) -> dict[str, str]:
        """The members of a type, its bases' included, each with its type."""
        found: dict[str, str] = {}
        current: str | None = name
        while current is not None:
            found = {member: each.type for member, each in self.types[current].properties.items()} | found
            current = self.types[current].base
        return found

    def is_a(self, name: str, base: str) -> bool:
        """Whether a type is another one, or descends from it."""
        current: str | None = name
        while current is not None and current != base:
            current = self.types[current].base
        return current is not None

    def faults(self, value: Json, declared: str, where: str = "") -> Iterator[str]:
        """What in a value is not as published, nor on the list of extras."""
        if value is None:
            return
        if declared.startswith("Collection("):
            if not isinstance(value, list):
                yield f"{where}: not a list"
                return
            for index, each in enumerate(value):
                yield from self.faults(each, declared[11:-1], f"{where}[{index}]")
        elif declared in self.enums:
            # Published as PascalCase for operationStatus alone, written in camelCase in all examples.
            if str(value).lower() not in {each.lower() for each in self.enums[declared]}:
                yield f"{where}: {value!r} is no {declared}"
        elif declared.startswith("Edm."):
            yield from _primitive_faults(value, declared, where)
        else:
            yield from self._object_faults(value, declared, where)

    def _object_faults(self, value: Json, declared: str, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: not an object"
            return
        name = str(value.get("@odata.type", declared)).removeprefix("#microsoft.graph.")
        if name in UNPUBLISHED:
            return
        if name not in self.types or not self.is_a(name, declared):
            yield f"{where}: {name} is no {declared}"
            return
        members = self.members(name)
        for member, each in value.items():
            if member in members:
                yield from self.faults(each, members[member], f"{where}.{member}")
            elif not member.startswith("@odata.") and f"{name}.{member}" not in EXTRAS:
                yield f"{where}: {name} has no {member}"


@cache
def published() -> Csdl:
    """Graph's published types."""
    return Csdl.model_validate_json(_FILE.read_text())


def notification_faults(body: dict[str, Json]) -> list[str]:
    """What in a body of notifications is not as published; `resourceData` is held to its own type."""
    csdl = published()
    found = list(csdl.faults(body, "commsNotifications", "body"))
    items = body["value"]
    assert isinstance(items, list)
    for item in items:
        data = item["resourceData"]
        declared = "commsOperation" if "/operations/" in str(item.get("resourceUrl", item.get("resource"))) else "call"
        found += csdl.faults(data, declared, "resourceData")
    return found


def _primitive_faults(value: Json, declared: str, where: str) -> Iterator[str]:
    kinds = {"Edm.String": str, "Edm.Boolean": bool, "Edm.Int32": int, "Edm.Int64": int}
    kind = kinds.get(declared, str)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        yield f"{where}: {json.dumps(value)} is no {declared}"
