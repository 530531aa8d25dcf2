"""Models of what callers send: the bodies of a registration and of a replay, and the queries of lists."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from shared.domain.calls import Status
from shared.domain.deliveries import DeliveryStatus
from shared.identifiers import NOT_A_GUID, is_guid
from shared.model import Model, to_utc

MAX_METADATA_KEYS = 50
MAX_METADATA_SIZE = 16_384  # characters in all; Table Storage takes 32,768 in one property
DEFAULT_PAGE_SIZE = 100  # calls, or deliveries
MAX_PAGE_SIZE = 200  # calls, or deliveries
TARGET_NAME_PATTERN = "^[a-z0-9-]{1,40}$"
GUID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

# JSON writes other control characters as escapes, but these unescaped.
_REFUSED_CHARACTERS = re.compile("[\x7f\ufffe\uffff]")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_MIN_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)  # Graph has no older call; times of Table Storage begin in 1601
_PAGE_SIZE = re.compile("[0-9]{1,3}")


def _check_rfc3339(given: object) -> object:
    """Accept only RFC 3339. Pydantic would read a number in quotes as seconds or milliseconds."""
    if not isinstance(given, str) or not _RFC3339.fullmatch(given):
        raise ValueError("must be a time of RFC 3339 with an offset, such as 2026-11-21T09:00:12Z")
    return given


def _check_plausible(moment: datetime) -> datetime:
    if moment < _MIN_MOMENT:
        raise ValueError("must be in the year 2000 or later")
    return moment


def _check_guid(text: str) -> str:
    if not is_guid(text):
        raise ValueError(NOT_A_GUID)
    return text


def _check_page_size(text: object) -> object:
    """Accept only digits. Pydantic would accept "+5", "5.0" and "1_0" too."""
    if isinstance(text, str) and not _PAGE_SIZE.fullmatch(text):
        raise ValueError(f"must be a number from 1 to {MAX_PAGE_SIZE}")
    return text


def _without_nulls(given: object) -> object:
    """Remove null members: generated clients (NSwag) send every member that was not set as null."""
    if given is None:
        return {}
    return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


type Guid = Annotated[str, AfterValidator(_check_guid), Field(json_schema_extra={"pattern": GUID_PATTERN})]
type PlausibleMoment = Annotated[
    AwareDatetime, BeforeValidator(_check_rfc3339), AfterValidator(_check_plausible), AfterValidator(to_utc)
]

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
MetadataValue = Annotated[str, StringConstraints(max_length=4096)]


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Check the limits of metadata.

    Raises
    ------
    ValueError
        There are too many keys, too many characters in all, or characters that storage refuses.
    """
    if any(_REFUSED_CHARACTERS.search(text) for pair in metadata.items() for text in pair):
        raise ValueError("metadata must not contain U+007F, U+FFFE or U+FFFF: storage refuses them")
    if len(metadata) > MAX_METADATA_KEYS:
        raise ValueError(f"metadata must have at most {MAX_METADATA_KEYS} keys")
    if sum(len(key) + len(text) for key, text in metadata.items()) > MAX_METADATA_SIZE:
        raise ValueError(f"metadata must have at most {MAX_METADATA_SIZE} characters in all")


class RegisterCall(Model):
    """The body of a registration."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")

    tenant_id: Guid | None = Field(
        default=None, description="The tenant of the call. Optional if GRAPH_TENANT_ID is set."
    )
    app_id: Guid | None = Field(
        default=None,
        description="The client id of the call's bot. Required with GRAPH_APPS, unless the call is on record.",
    )
    started_at: PlausibleMoment | None = Field(
        default=None,
        description="The start of the call, or its last renewal by the bot: RFC 3339 with an offset. Default: now.",
    )
    to: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9-]{1,64}$")] | None = Field(
        default=None,
        description="The bot's instance, if the URL of its relay target has `{to}`. A `to` in the callbackUri wins.",
    )
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        BeforeValidator(_without_nulls, json_schema_input_type=dict[MetadataKey, MetadataValue | None] | None),
    ] = Field(
        default_factory=dict,
        max_length=MAX_METADATA_KEYS,
        description=f"The bot's own texts: at most {MAX_METADATA_KEYS}, with {MAX_METADATA_SIZE} characters in all. "
        "No secrets: every reader sees them.",
    )

    @field_validator("metadata")
    @classmethod
    def _check_limits(cls, value: dict[str, str]) -> dict[str, str]:
        check_metadata(value)
        return value


class ListCallsQuery(Model):
    """The query of a list of calls."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")

    status: Status = Field(default=Status.ACTIVE, description="The status of the calls.")
    tenant_id: Guid | None = Field(default=None, description="Only calls of this tenant.")
    limit: Annotated[int, BeforeValidator(_check_page_size)] = Field(
        default=DEFAULT_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="The largest number of calls on the page."
    )
    continuation: str | None = Field(
        default=None, description="The continuation of the page before. Send it with the same other parameters."
    )


class ListDeliveriesQuery(Model):
    """The query of a list of deliveries."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")

    status: DeliveryStatus = Field(description="The status of the deliveries.")
    limit: Annotated[int, BeforeValidator(_check_page_size)] = Field(
        default=DEFAULT_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="The largest number of deliveries on the page."
    )
    continuation: str | None = Field(
        default=None, description="The continuation of the page before. Send it with the same other parameters."
    )


class ReplayDelivery(Model):
    """The body of a replay of one delivery."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")

    force: StrictBool | None = Field(
        default=None,
        description="True: replay it although a later delivery of the same call to the same destination was delivered. "
        "A bot that keeps no order then goes back to the older state.",
    )


class ReplaySpan(Model):
    """The body of a replay of all deliveries to a target that were received in a span of time."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    target: Annotated[str, StringConstraints(pattern=TARGET_NAME_PATTERN)] = Field(
        description="The name of the target in RELAY_TARGETS."
    )
    first: PlausibleMoment = Field(
        alias="from", description="The earliest receivedAt, included: RFC 3339 with an offset."
    )
    last: PlausibleMoment = Field(
        alias="to", description="The latest receivedAt, included: RFC 3339 with an offset, not before `from`."
    )
    force: StrictBool | None = Field(
        default=None, description="True: replay also deliveries behind a later one of their call that was delivered."
    )

    @field_validator("last")
    @classmethod
    def _is_not_before_first(cls, value: datetime, info: ValidationInfo) -> datetime:
        first = info.data.get("first")
        if first is not None and value < first:
            raise ValueError("must not be before `from`")
        return value
