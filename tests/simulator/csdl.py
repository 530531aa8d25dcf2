"""Graph's published types, and the members that the simulator uses beyond them, each with its reason."""

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

# type.member: the reason to send or accept it, although the published type has no such member
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
# Types that the published document lacks, so that their members cannot be checked.
UNPUBLISHED = {"meetingCapability": "observed, always empty"}


class _Member(BaseModel):
    type: str


class _Type(BaseModel):
    base: str | None = None
    properties: dict[str, _Member] = {}
    navigation: dict[str, str] = {}  # the members that are entities of their own, each with its type


class _Action(BaseModel):
    parameters: dict[str, _Member] = {}
    returns: str | None = None


class Csdl(BaseModel):
    types: dict[str, _Type]
    enums: dict[str, list[str]]
    actions: dict[str, _Action]

    def members(self, name: str) -> dict[str, str]:
        """Return the members of a type and of its bases, each with its type."""
        found: dict[str, str] = {}
        current: str | None = name
        while current is not None:
            properties = {member: each.type for member, each in self.types[current].properties.items()}
            found = properties | self.types[current].navigation | found
            current = self.types[current].base
        return found

    def is_a(self, name: str, base: str) -> bool:
        """True if a type is `base`, or descends from it."""
        current: str | None = name
        while current is not None and current != base:
            current = self.types[current].base
        return current is not None

    def differences(self, value: Json, declared: str, path: str = "") -> Iterator[str]:
        """Yield the differences between a value and the published type, except those in EXTRAS."""
        if value is None:
            return
        if declared.startswith("Collection("):
            if not isinstance(value, list):
                yield f"{path}: not a list"
                return
            for index, each in enumerate(value):
                yield from self.differences(each, declared[11:-1], f"{path}[{index}]")
        elif declared in self.enums:
            # operationStatus alone is published in PascalCase; all examples have it in camelCase.
            if str(value).lower() not in {each.lower() for each in self.enums[declared]}:
                yield f"{path}: {value!r} is not a {declared}"
        elif declared.startswith("Edm."):
            yield from _primitive_differences(value, declared, path)
        else:
            yield from self._object_differences(value, declared, path)

    def _object_differences(self, value: Json, declared: str, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path}: not an object"
            return
        name = str(value.get("@odata.type", declared)).removeprefix("#microsoft.graph.")
        if name in UNPUBLISHED:
            return
        if name not in self.types or not self.is_a(name, declared):
            yield f"{path}: {name} is not a {declared}"
            return
        members = self.members(name)
        for member, each in value.items():
            if member in members:
                yield from self.differences(each, members[member], f"{path}.{member}")
            elif not member.startswith("@odata.") and f"{name}.{member}" not in EXTRAS:
                yield f"{path}: {name} has no {member}"


@cache
def published() -> Csdl:
    """Return Graph's published types."""
    return Csdl.model_validate_json(_FILE.read_text())


def notification_differences(body: dict[str, Json]) -> list[str]:
    """Return the differences between a body of notifications and the published types.

    `resourceData` is declared without a type, so it is compared with the type of its resource.
    """
    csdl = published()
    found = list(csdl.differences(body, "commsNotifications", "body"))
    items = body["value"]
    assert isinstance(items, list)
    for item in items:
        data = item["resourceData"]
        declared = "commsOperation" if "/operations/" in str(item.get("resourceUrl", item.get("resource"))) else "call"
        if str(data.get("@odata.type")).endswith("participantJoiningNotification"):
            declared = "participantJoiningNotification"
        found += csdl.differences(data, declared, "resourceData")
    return found


def _primitive_differences(value: Json, declared: str, path: str) -> Iterator[str]:
    kinds = {"Edm.String": str, "Edm.Boolean": bool, "Edm.Int32": int, "Edm.Int64": int}
    kind = kinds.get(declared, str)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        yield f"{path}: {json.dumps(value)} is not a {declared}"
