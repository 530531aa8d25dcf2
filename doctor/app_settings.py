"""The settings of a local app: the environment, which overrides `local.settings.json`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError


class SettingsUnreadable(Exception):
    """local.settings.json cannot be read. The message is one line and contains no value of a setting."""


class _File(BaseModel):
    encrypted: bool = Field(default=False, alias="IsEncrypted")
    values: dict[str, str] = Field(default_factory=dict, alias="Values")


def local_settings(root: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the settings as the local host has them: the environment overrides the file.

    Parameters
    ----------
    root
        The folder of the app. `local.settings.json` may be missing.
    environment
        The environment variables.

    Raises
    ------
    SettingsUnreadable
        The file exists, but is encrypted or has the wrong form.
    """
    path = root / "local.settings.json"
    return {**(_values(path) if path.is_file() else {}), **environment}


def _values(path: Path) -> dict[str, str]:
    try:
        file = _File.model_validate(json.loads(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        member = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        raise SettingsUnreadable(f"local.settings.json: {member} is wrong: all values must be text") from None
    except (ValueError, OSError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SettingsUnreadable(f"local.settings.json cannot be read ({type(error).__name__}{line})") from None
    if file.encrypted:
        raise SettingsUnreadable("local.settings.json is encrypted: run func settings decrypt")
    return file.values
