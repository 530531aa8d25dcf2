"""Where the settings come from: the environment over `local.settings.json`, or a deployed app."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError


class SettingsUnreadable(Exception):
    """local.settings.json cannot be read. The message is one line, and has no value."""


class _File(BaseModel):
    encrypted: bool = Field(default=False, alias="IsEncrypted")
    values: dict[str, str] = Field(default_factory=dict, alias="Values")


def local_settings(root: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The settings as the host on a laptop has them: what the environment has wins over the file.

    Raises
    ------
    SettingsUnreadable
        The file is there, but is not what it should be.
    """
    path = root / "local.settings.json"
    return {**(_values(path) if path.is_file() else {}), **environment}


def _values(path: Path) -> dict[str, str]:
    try:
        found = _File.model_validate(json.loads(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        raise SettingsUnreadable(f"local.settings.json: {where} is wrong: all values must be text") from None
    except (ValueError, OSError) as error:
        place = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SettingsUnreadable(f"local.settings.json cannot be read ({type(error).__name__}{place})") from None
    if found.encrypted:
        raise SettingsUnreadable("local.settings.json is encrypted: run func settings decrypt")
    return found.values
