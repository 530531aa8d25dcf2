"""What comes in, refused by name where it is off: bodies, and the parameters of a query."""

import json
from collections.abc import Set as AbstractSet
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from shared.errors import InvalidRequest
from shared.untrusted_json import DuplicateName, refuse_duplicates

FUNCTION_KEY_PARAMETERS = frozenset({"code", "clientId"})  # Azure's host takes the function key by these
_MAX_PARAMETERS = 50


def check_query(url: str, known: AbstractSet[str]) -> None:
    """Hold a query to the parameters that a route has, each once. Those without a value count as left out.

    Azure's host joins what is repeated by commas, so that the address alone tells.

    Raises
    ------
    InvalidRequest
        Names each parameter that is unknown or repeated.
    """
    try:
        given = [name for name, _ in parse_qsl(url.partition("?")[2], max_num_fields=_MAX_PARAMETERS)]
    except ValueError:
        raise InvalidRequest("The query has too many parameters.", (("", "too many parameters"),)) from None
    faults = {name: "no such parameter here" for name in given if name not in known | FUNCTION_KEY_PARAMETERS}
    faults |= {name: "stands more than once" for name in given if given.count(name) > 1}
    if faults:
        listed = "; ".join(f"{name}: {detail}" for name, detail in faults.items())
        raise InvalidRequest(f"The query is not valid. {listed}.", tuple(faults.items()))


def read_json[Model: BaseModel](model: type[Model], raw: bytes, context: object = None) -> Model:
    """The model that a JSON body holds. `context` is for the model's own validators.

    Raises
    ------
    InvalidRequest
        The body is no JSON, has a name twice in an object, or is not as the model wants it; each fault has the JSON
        pointer of its place.
    """
    _refuse_duplicates(raw)
    try:
        return model.model_validate_json(raw, context=context)
    except ValidationError as error:
        raise invalid_request(error) from None


def _refuse_duplicates(raw: bytes) -> None:
    """Parsers differ in which of the two they take, so that one would check what another uses."""
    try:
        json.loads(raw, object_pairs_hook=refuse_duplicates)
    except DuplicateName as error:
        raise InvalidRequest(
            f"The body is not valid. A name stands twice in one object: {error}.", (("", f"{error} stands twice"),)
        ) from None
    except (ValueError, RecursionError):  # the model finds words for it
        return


def invalid_request(error: ValidationError) -> InvalidRequest:
    """The faults, each with its JSON pointer and what to send instead; never with the value that was sent."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    if faults[0]["type"] == "json_invalid":
        return InvalidRequest("The body is not JSON.", (("", faults[0]["msg"]),))
    errors = tuple((_pointer(fault["loc"]), _describe_fault(fault["type"], fault["msg"])) for fault in faults)
    listed = "; ".join(f"{pointer or 'the body'}: {detail}" for pointer, detail in errors)
    return InvalidRequest(f"The request is not valid. {listed}.", errors)


def _pointer(loc: tuple[int | str, ...]) -> str:
    """RFC 6901."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in loc)


def _describe_fault(kind: str, message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "no such property here"
        case "missing":
            return "is required"
        case _:
            return message.removeprefix("Value error, ")
