"""Whether an answer, or a log, tells a stranger anything."""

import json
import re

from functions.problems import DISCREET, LATER
from tests.attacks.scene import Answer, Case, Request, Scene

_PART = re.compile(r"(?<=\.)[A-Za-z0-9_-]{25,}")  # claims or a signature; the header before them is no secret


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
        assert told["detail"] == DISCREET.get(told["status"], LATER)
    else:
        assert case.kind == "HTTP"
