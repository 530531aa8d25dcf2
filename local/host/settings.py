"""The settings of an app's folder: `local.settings.json`, `host.json`, and the settings that bindings name."""

import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from local.host.errors import HostError

_TRUE = {"1", "true"}
_REFERENCE = re.compile(r"%([^%\s]+)%")
_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.\d+)?")


def _duration(text: object) -> timedelta | None:
    """Parse .NET's `[d.]hh:mm:ss`; -1 means unlimited (host.json reference, functionTimeout)."""
    if text in {-1, "-1"}:
        return None
    found = _TIME_SPAN.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a duration such as 00:05:00")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


type _Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class HttpOptions(_Section):
    """`extensions.http` of host.json."""

    route_prefix: str = "api"


class QueueOptions(_Section):
    """`extensions.queues` of host.json, with the defaults of the Storage extension 5.x."""

    batch_size: int = Field(default=16, ge=1, le=32)
    new_batch_threshold: int | None = None
    max_dequeue_count: int = Field(default=5, ge=1)
    visibility_timeout: _Duration = timedelta(0)
    max_polling_interval: _Duration = timedelta(minutes=1)
    message_encoding: Literal["base64", "none"] = "base64"

    @property
    def threshold(self) -> int:
        """The highest number of messages in process at which the next batch is fetched."""
        return self.batch_size // 2 if self.new_batch_threshold is None else self.new_batch_threshold


class _Extensions(_Section):
    http: HttpOptions = HttpOptions()
    queues: QueueOptions = QueueOptions()


class HostOptions(_Section):
    """The options of host.json that this host supports.

    `function_timeout` None is unlimited; 30 minutes is the default of the Flex Consumption plan.
    """

    version: Literal["2.0"]
    function_timeout: Annotated[timedelta | None, BeforeValidator(_duration)] = timedelta(minutes=30)
    extensions: _Extensions = _Extensions()


class _LocalSettings(BaseModel):
    is_encrypted: Literal[False] = Field(default=False, alias="IsEncrypted")
    values: dict[str, str] = Field(default_factory=dict, alias="Values")


def host_options(root: Path) -> HostOptions:
    """Read host.json. Raises `HostError` if it is missing or wrong."""
    path = root / "host.json"
    if not path.is_file():
        raise HostError(f"no host.json in {root}: give the folder of the function app with --root")
    return _read(path, HostOptions)


def prepare_environment(root: Path) -> None:
    """Export `Values` of local.settings.json, if the file exists. Variables that are set already keep their values."""
    path = root / "local.settings.json"
    values = _read(path, _LocalSettings).values if path.is_file() else {}
    for name, value in values.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("AZURE_FUNCTIONS_ENVIRONMENT", "Development")  # as Core Tools do


def resolve(text: str, settings: Mapping[str, str], *, function: str) -> str:
    """Return the text with each `%NAME%` replaced by that setting, as Azure's host does in every binding property.

    Raises
    ------
    HostError
        The setting is missing or empty.
    """

    def value(found: re.Match[str]) -> str:
        if setting := settings.get(found[1]):
            return setting
        raise HostError(
            f"function {function} needs the setting {found[1]}: set it in the environment or in local.settings.json"
        )

    return _REFERENCE.sub(value, text)


def disabled(function: str, settings: Mapping[str, str]) -> bool:
    """True if `AzureWebJobs.<function>.Disabled` is set, or its form for Linux, where names have no dots."""
    names = (f"AzureWebJobs.{function}.Disabled", f"AzureWebJobs_{function}_Disabled")
    return any(settings.get(name, "").lower() in _TRUE for name in names)


def _read[Model: BaseModel](path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HostError(f"{path.name}: {where}: {first['msg']}") from error
    except (ValueError, OSError) as error:
        raise HostError(f"{path.name} cannot be read: {error}") from error
