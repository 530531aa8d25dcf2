"""The base class of all models of JSON that others read, and the types of fields that several of them use."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A model with camelCase names in JSON and snake_case names in Python, made from JSON or from an object."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True, frozen=True)


def to_utc(moment: datetime) -> datetime:
    """Return the time in UTC. Raise `ValueError` if it is outside the years that `datetime` has."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time whose year in UTC is between 1 and 9999") from None


type Moment = Annotated[AwareDatetime, AfterValidator(to_utc)]
