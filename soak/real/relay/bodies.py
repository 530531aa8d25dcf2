"""The bodies of notifications in the forms that a relay could spoil: byte order mark, spacing, characters, size."""

import json
import uuid
from collections.abc import Callable, Mapping
from random import Random

ROSTER_PEOPLE = 1_700  # about 180 bytes each: 300 KB
ROSTER = "roster of 300 KB"

type Json = Mapping[str, object]


def body_of(call_id: str, number: int, form: str, random: Random) -> bytes:
    """Return a body with one notification, which no other body equals.

    Parameters
    ----------
    number
        The place of the notification among those of its call, from 0. The first two show the call's first states.
    form
        A key of `FORMS`.
    random
        Draws the unique part.
    """
    unique = str(uuid.UUID(int=random.getrandbits(128), version=4))
    path = f"/communications/calls/{call_id}"
    if form == ROSTER:
        people = [_person(place, random) for place in range(ROSTER_PEOPLE)]
        return _compact(_envelope(f"{path}/participants", people))
    state = "establishing" if number == 0 else "established"
    data = {"@odata.type": "#microsoft.graph.call", "state": state, "callChainId": unique}
    return FORMS[form](_envelope(path, data))


def _envelope(path: str, data: object) -> Json:
    item = {"changeType": "updated", "resource": path, "resourceUrl": path, "resourceData": data}
    return {"@odata.type": "#microsoft.graph.commsNotifications", "value": [item]}


def _person(number: int, random: Random) -> Json:
    identity = {"user": {"id": str(uuid.UUID(int=random.getrandbits(128), version=4)), "displayName": f"Ana {number}"}}
    return {"@odata.type": "#microsoft.graph.participant", "id": f"{number}", "info": {"identity": identity}}


def _compact(envelope: Json) -> bytes:
    return json.dumps(envelope, separators=(",", ":")).encode()


def _with_mark(envelope: Json) -> bytes:
    return b"\xef\xbb\xbf" + _compact(envelope)


def _spaced(envelope: Json) -> bytes:
    return ("\r\n\t " + json.dumps(envelope, indent=3, separators=(" ,", "  :  ")) + " \r\n\r\n").encode()


def _foreign(envelope: Json) -> bytes:
    """Return a body with characters outside of ASCII, some of them escaped: a relay that parses would change those."""
    text = json.dumps({**envelope, "note": "Zoë 小林 🎧"}, ensure_ascii=False)
    return text.replace("ë", "\\u00eb").replace("/", "\\/").encode()


FORMS: Mapping[str, Callable[[Json], bytes]] = {
    "compact": _compact,
    "with a byte order mark": _with_mark,
    "unusually spaced": _spaced,
    "not ASCII": _foreign,
    ROSTER: _compact,
}
