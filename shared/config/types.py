"""The types of settings. Each check has a message that says what to write."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from shared.config.clouds import get_cloud
from shared.domain.scopes import Scope, parse_callers
from shared.identifiers import canonical_guid
from shared.urls import trusted_url

_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)
_NCRONTAB = re.compile(r"[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){5}")


def _check_iso_duration(value: object) -> object:
    if isinstance(value, str) and not value.startswith("P"):
        raise ValueError("must be an ISO 8601 duration such as PT10S, PT4M or P30D")
    return value


def _split_by_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    items = tuple(filter(None, map(str.strip, value.split(","))))
    if not items:  # set to nothing: must not count as not set, which may mean "all"
        raise ValueError("names nothing: give values with commas between them, or remove it")
    return items


def _check_authority(value: str) -> str:
    url = trusted_url(value if "://" in value else f"https://{value}")
    if not url.startswith("https://"):  # azure-identity accepts nothing else
        raise ValueError("must begin with https://")
    return url


def _check_schedule(value: str) -> str:
    if not _NCRONTAB.fullmatch(value):
        raise ValueError("must be an NCRONTAB expression of six fields, seconds first, such as 0 */15 * * * *")
    return value


def _check_host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("must be a host name such as login.example.com, without https://")
    return value.lower()


def _check_cloud_name(value: str) -> str:
    return get_cloud(value).name


type Duration = Annotated[timedelta, BeforeValidator(_check_iso_duration)]
type Guid = Annotated[str, AfterValidator(canonical_guid)]
type Url = Annotated[str, AfterValidator(trusted_url)]
type Authority = Annotated[str, AfterValidator(_check_authority)]
type CommaSeparated[Item] = Annotated[tuple[Item, ...], NoDecode, BeforeValidator(_split_by_commas)]
type Callers = Annotated[Mapping[str, Scope] | None, NoDecode, BeforeValidator(parse_callers)]
type CloudName = Annotated[str, AfterValidator(_check_cloud_name)]
type Host = Annotated[str, AfterValidator(_check_host)]
type Schedule = Annotated[str, AfterValidator(_check_schedule)]
