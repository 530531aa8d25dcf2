"""Validation of request bodies and query parameters, with an error for each fault."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import InvalidRequest
from shared.untrusted_json import DuplicateName, refuse_duplicates

FUNCTION_KEY_PARAMETERS = frozenset({"code", "clientId"})  # Azure's host takes the function key from these
_MAX_PARAMETERS = 50


class NoQuery(BaseModel):
    """The query of a route without query parameters."""

    model_config = ConfigDict(extra="forbid")


def query_names(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the query parameters that a model describes."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())


def check_query(url: str, known: AbstractSet[str]) -> None:
    """Check that each parameter in the query of an address is known and appears once.

    Azure's host joins the values of a repeated parameter with commas. So repetitions show only in the address.

    Raises
    ------
    InvalidRequest
        Names each parameter that is unknown or repeated. A parameter without a value counts as left out.
    """
    try:
        given = [name for name, _ in parse_qsl(url.partition("?")[2], max_num_fields=_MAX_PARAMETERS)]
    except ValueError:
        raise InvalidRequest("The query has too many parameters.", (("", "too many parameters"),)) from None
    faults = {name: "unknown parameter" for name in given if name not in known | FUNCTION_KEY_PARAMETERS}
    faults |= {name: "appears more than once" for name in given if given.count(name) > 1}
    if faults:
        raise _invalid_query(tuple(faults.items()))


def read_query[Model: BaseModel](model: type[Model], params: Mapping[str, str]) -> Model:
    """Return the query parameters of a request as a model. A parameter without a value counts as left out.

    Parameters
    ----------
    params
        The decoded parameters. `check_query` has refused repeated ones.

    Raises
    ------
    InvalidRequest
        Names each parameter that is not valid.
    """
    given = {name: text for name, text in params.items() if text and name not in FUNCTION_KEY_PARAMETERS}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise _invalid_query(
            tuple((str(fault["loc"][0]), _describe_fault(fault["type"], fault["msg"])) for fault in faults)
        ) from None


def _invalid_query(faults: tuple[tuple[str, str], ...]) -> InvalidRequest:
    listed = "; ".join(f"{name}: {detail}" for name, detail in faults)
    return InvalidRequest(f"The query is not valid. {listed}.", faults)


def read_json[Model: BaseModel](model: type[Model], raw: bytes, context: object = None) -> Model:
    """Return a JSON body as a model.

    Parameters
    ----------
    raw
        The body, in UTF-8.
    context
        Passed to the validators of the model.

    Raises
    ------
    InvalidRequest
        The body is not JSON, has a name twice in one object, or does not fit the model. Each fault has its JSON
        pointer.
    """
    _refuse_duplicates(raw)
    try:
        return model.model_validate_json(raw, context=context)
    except ValidationError as error:
        raise invalid_request(error) from None


def _refuse_duplicates(raw: bytes) -> None:
    """Raise an error if a name appears twice: JSON parsers differ in which value they take."""
    try:
        json.loads(raw, object_pairs_hook=refuse_duplicates)
    except DuplicateName as error:
        raise InvalidRequest(
            f"The body is not valid. A name appears twice in one object: {error}.", (("", f"{error} appears twice"),)
        ) from None
    except (ValueError, RecursionError):  # the model describes these faults
        return


def invalid_request(error: ValidationError) -> InvalidRequest:
    """Return an error with the JSON pointer of each fault and what to send instead, without the value that was sent."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    if faults[0]["type"] == "json_invalid":
        return InvalidRequest("The body is not JSON.", (("", faults[0]["msg"]),))
    errors = tuple((_pointer(fault["loc"]), _describe_fault(fault["type"], fault["msg"])) for fault in faults)
    listed = "; ".join(f"{pointer or 'the body'}: {detail}" for pointer, detail in errors)
    return InvalidRequest(f"The request is not valid. {listed}.", errors)


def _pointer(loc: tuple[int | str, ...]) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in loc)


def _describe_fault(kind: str, message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "unknown property"
        case "missing":
            return "is required"
        case _:
            return message.removeprefix("Value error, ")
