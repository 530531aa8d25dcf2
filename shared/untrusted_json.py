"""Reading JSON from outside. Nothing of it is trusted: not its shape, case, numbers or characters."""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NoReturn

from shared.errors import InvalidRequest

MAX_MESSAGE_LENGTH = 32_768  # UTF-16 code units: the limit of Table Storage for one property
MAX_WORD_LENGTH = 100  # characters of a state, a kind, or a code that is not a number
MAX_DEPTH = 64  # objects and lists inside each other; Graph's rosters have about ten
_INT32 = 2**31  # Graph: resultInfo.code and subcode are Int32
_NUMBER = re.compile(r"([+-]?[0-9]{1,10})(?:\.0*)?")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # possessive: an unclosed string costs no backtracking
_DEPTH_CHANGES = {"[": 1, "{": 1, "]": -1, "}": -1}
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # storage and logs refuse these
_SPELLING = {  # Graph's spelling by the lower-case form
    word.lower(): word
    for words in (
        "incoming establishing ringing redirecting established hold transferring transferAccepted",
        "terminating terminated notStarted running completed failed participants contentSharingSessions",
        "audioRoutingGroups operations recordOperation playPromptOperation inviteParticipantsOperation",
        "operationCanceled stopToneDetected maxRecordDurationReached initialSilenceTimeout maxSilenceTimeout",
        "playPromptFailed playBeepFailed mediaReceiveTimeout unspecifiedError",
    )
    for word in words.split()
}

type Json = str | int | bool | list[Json] | dict[str, Json] | None
type JsonObject = Mapping[str, Json]


def parse_object(body: bytes) -> JsonObject:
    """Parse a body: a JSON object in UTF-8.

    Raises
    ------
    InvalidRequest
        It is something else, has a name twice in one object, holds NaN, or is nested too deeply.
    """
    try:
        text = body.decode("utf-8-sig")
        _check_depth(text)
        # Numbers with a fraction or with very many digits stay text. `parse_code` reads them if they are needed.
        loaded: Json = json.loads(
            text,
            parse_int=lambda digits: int(digits) if len(digits) <= MAX_WORD_LENGTH else digits,
            parse_float=str,
            parse_constant=refuse_constants,
            object_pairs_hook=refuse_duplicates,
        )
    except ValueError:
        raise InvalidRequest("The body is not valid JSON in UTF-8.") from None  # the cause repeats the body
    if not isinstance(loaded, dict):
        raise InvalidRequest("The body is not a JSON object.")
    return loaded


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    brackets = filter(_DEPTH_CHANGES.__contains__, _STRING.sub("", text))
    if max(accumulate(map(_DEPTH_CHANGES.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise InvalidRequest("The body is nested too deeply.")


def refuse_constants(name: str) -> NoReturn:
    """Raise `ValueError`: NaN, Infinity and -Infinity are not JSON (RFC 8259, 6)."""
    raise ValueError(name)


class DuplicateName(ValueError):
    """A JSON object has a name twice. The text of the error is that name."""


def refuse_duplicates[Value](pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Build a JSON object from its members: an `object_pairs_hook` for `json.loads`.

    Of two members with one name, parsers keep different ones: one program would check what another does not use.

    Raises
    ------
    DuplicateName
        Two members have the same name.
    """
    members: dict[str, Value] = {}
    for name, value in pairs:
        if name in members:
            raise DuplicateName(name)
        members[name] = value
    return members


def parse_code(given: Json) -> tuple[int | None, str | None]:
    """Return a code as a number, or else as text. Objects and lists are not codes: both are None then."""
    if isinstance(given, (dict, list)):
        return None, None
    text = bounded_text(str(given).lower() if isinstance(given, (bool, int)) else given, MAX_WORD_LENGTH)
    number = _NUMBER.fullmatch(text) if text else None
    if number and -_INT32 <= int(number[1]) < _INT32:
        return int(number[1]), None
    return None, text


def get_ignoring_case(entity: JsonObject, *names: str) -> Json:
    """Return the first value of these names that is not null. The exact spelling goes before others."""
    for name in names:
        spelled = sorted((key for key in entity if key.lower() == name.lower()), key=lambda key: (key != name, key))
        for key in spelled:
            if entity[key] is not None:
                return entity[key]
    return None


def graph_spelling(given: Json) -> str | None:
    """Return a word in Graph's spelling. An unknown word only gets a lower-case first letter."""
    text = bounded_text(given, MAX_WORD_LENGTH)
    return _SPELLING.get(text.lower(), text[0].lower() + text[1:]) if text else None


def bounded_text(given: Json, limit: int = MAX_MESSAGE_LENGTH) -> str | None:
    """Return text that storage and logs accept, of at most `limit` UTF-16 code units. None if there is no text."""
    if not isinstance(given, str):
        return None
    cut = sanitize(given).encode("utf-16-le")[: 2 * limit]
    return cut.decode("utf-16-le", "ignore") or None  # a surrogate pair that is cut in two is dropped


def sanitize(given: Json) -> str:
    """Return text without surrounding white space, with U+FFFD in place of characters that storage refuses."""
    return _UNSTORABLE.sub("\ufffd", given).strip() if isinstance(given, str) else ""


def exact_text(given: Json) -> str | None:
    """Return text unchanged, or None if it would have to be changed: half a URL or token is useless."""
    text = bounded_text(given)
    return text if text == given else None
