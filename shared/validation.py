"""From pydantic's findings to `InvalidRequest`, for every body that comes in."""

from pydantic import BaseModel, ValidationError

from shared.errors import InvalidRequest


def read_json[Model: BaseModel](model: type[Model], raw: bytes, context: object = None) -> Model:
    """The model that a JSON body holds. `context` is for the model's own validators.

    Raises
    ------
    InvalidRequest
        The body is no JSON, or not as the model wants it; each fault has the JSON pointer of its place.
    """
    try:
        return model.model_validate_json(raw, context=context)
    except ValidationError as error:
        raise invalid_request(error) from None


def invalid_request(error: ValidationError) -> InvalidRequest:
    """The faults, each with its JSON pointer and what to send instead; never with the value that was sent."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    if faults[0]["type"] == "json_invalid":
        return InvalidRequest("The body is not JSON.", (("", faults[0]["msg"]),))
    errors = tuple((_pointer(fault["loc"]), _detail(fault["type"], fault["msg"])) for fault in faults)
    listed = "; ".join(f"{pointer or 'the body'}: {detail}" for pointer, detail in errors)
    return InvalidRequest(f"The request is not valid. {listed}.", errors)


def _pointer(loc: tuple[int | str, ...]) -> str:
    """RFC 6901."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in loc)


def _detail(kind: str, message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "no such property here"
        case "missing":
            return "is required"
        case _:
            return message.removeprefix("Value error, ")
