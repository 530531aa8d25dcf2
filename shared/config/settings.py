"""Every setting of the app, from environment variables. Only this module reads them."""

import os
from collections.abc import Mapping

from pydantic import PrivateAttr, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, to_jsonable_python
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from shared.config.apps import Apps, parse_apps
from shared.config.clouds import CLOUDS, Cloud
from shared.config.relay_targets import RelayTargets, parse_targets
from shared.config.setting_groups import (
    BotSettings,
    CredentialSettings,
    GraphSettings,
    KeepAliveSettings,
    ManagementSettings,
    NotificationSettings,
    RelaySettings,
    StorageSettings,
    default_app,
)
from shared.domain.leases import Timing
from shared.errors import SettingsInvalid
from shared.identifiers import guids_in
from shared.urls import origin


class Settings(
    ManagementSettings,
    RelaySettings,
    BotSettings,
    NotificationSettings,
    StorageSettings,
    KeepAliveSettings,
    CredentialSettings,
    GraphSettings,
):
    """The settings, checked. Each is the environment variable of its name in upper case, or of its alias.

    Fields are checked from the last group to the first, as Python's inheritance orders them: a check can read the
    settings of groups below its own.
    """

    model_config = SettingsConfigDict(defer_build=False)
    _relay_error: SettingsInvalid | None = PrivateAttr(None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 pydantic-settings passes it
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values that `load_settings` has read. The environment is not read a second time."""
        return (init_settings,)

    @property
    def cloud(self) -> Cloud:
        """The addresses of GRAPH_CLOUD."""
        return CLOUDS[self.graph_cloud]

    @property
    def graph_root(self) -> str:
        """The address of Graph, without a version and a final slash."""
        return self.graph_base_url or self.cloud.graph_root

    @property
    def graph_scope(self) -> str:
        """The scope of Graph's tokens."""
        return f"{origin(self.graph_root)}/.default"

    @property
    def authority(self) -> str:
        """The address that issues the app's tokens."""
        return self.azure_authority_host or self.cloud.authority

    def management_client(self, app_id: str, tenant_id: str) -> str:
        """Return the name of a calling app: `<client id>@<tenant id>`, or its client id alone.

        The tenant is left out if only one tenant issues tokens, and for MANAGEMENT_TENANT_ID. An app has one client id
        in all tenants, but each tenant grants it app roles of its own.
        """
        tenants = {tenant for issuer in self.management_issuers for tenant in guids_in(issuer)}
        is_home = len(tenants) <= 1 or tenant_id == self.management_tenant_id
        return app_id if is_home else f"{app_id}@{tenant_id}"

    @property
    def apps(self) -> Apps:
        """The bots; that of GRAPH_APP_ID is the first."""
        return Apps((default_app(dict(self)), *self.graph_apps))

    @property
    def relay(self) -> RelayTargets:
        """The targets of the relay, by name and by app."""
        return RelayTargets(self.relay_targets, self.graph_app_id)

    @property
    def relay_fault(self) -> str | None:
        """The text that names the relay's wrong settings, without their values. None if they are right.

        If they are wrong, the relay is off and the settings of the relay have their defaults.
        """
        return str(self._relay_error) if self._relay_error else None

    @property
    def relay_faults(self) -> tuple[tuple[str, str], ...]:
        """The names of the relay's wrong settings, each with what is wrong. Empty if they are right."""
        return self._relay_error.faults if self._relay_error else ()

    @property
    def timing(self) -> Timing:
        """The durations that follow from the lease."""
        return Timing(self.lease_duration)


class _Variables(EnvSettingsSource):
    """The values of settings in a set of environment variables. Empty variables count as absent."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(Settings)
        self.env_vars = {name.lower(): value for name, value in variables.items() if value}

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: object, value_is_complex: bool) -> object:
        """Return the value of a field; apps and relay targets get the secrets of the variables that they name."""
        if field_name == "graph_apps":
            return parse_apps(value, self.env_vars)
        if field_name == "relay_targets":
            return parse_targets(value, self.env_vars)
        return super().prepare_field_value(field_name, field, value, value_is_complex)


def setting_name(field: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return Settings.model_fields[field].alias or field.upper()


def has_relay_targets() -> bool:
    """True if RELAY_TARGETS is set, correct or not: then the functions of the relay are loaded."""
    return bool(os.environ.get("RELAY_TARGETS"))


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from `env`, or from the environment if it is None.

    If settings of the relay alone are wrong, calls must be kept alive all the same: the relay is off then, and
    `Settings.relay_fault` names them.

    Raises
    ------
    SettingsInvalid
        Names every setting that is missing or wrong and what to do, never a value.
    """
    values = _Variables(os.environ if env is None else env)()
    try:
        return Settings(**values)
    except ValidationError as error:
        invalid = _invalid(error)
    if not all(name in _RELAY_SETTINGS for name, _ in invalid.faults):
        raise invalid
    settings = Settings(**{name: value for name, value in values.items() if name.upper() not in _RELAY_SETTINGS})
    settings._relay_error = invalid  # noqa: SLF001 (a field would be a setting)
    return settings


_RELAY_SETTINGS = frozenset(map(setting_name, RelaySettings.model_fields))


def _invalid(error: ValidationError) -> SettingsInvalid:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    faults = tuple((_setting_of(fault["loc"]), _entry_location(fault["loc"]) + _fault_text(fault)) for fault in found)
    listed = "; ".join(f"{name} {fault}" for name, fault in faults)
    return SettingsInvalid(f"Settings to correct: {listed}.", faults)


def _setting_of(loc: tuple[int | str, ...]) -> str:
    field = str(loc[0])
    return setting_name(field) if field in Settings.model_fields else field


_ENTRIES = {"graph_apps": "app", "relay_targets": "target"}  # settings that are lists, and the word for an entry


def _entry_location(loc: tuple[int | str, ...]) -> str:
    """Return the number of the entry of a list and the name of its member. Empty for other settings."""
    if loc[0] not in _ENTRIES or len(loc) == 1:
        return ""
    number, *words = loc[1:]
    return f"{_ENTRIES[str(loc[0])]} {int(number) + 1}: {''.join(f'{to_camel(str(word))} ' for word in words)}"


_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}


def _fault_text(fault: ErrorDetails) -> str:
    message = fault["msg"]
    match fault["type"]:
        case "missing":
            return "is missing"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "greater_than" | "greater_than_equal" | "less_than_equal" as kind:
            word, bound = _BOUNDS[kind]
            limits = Settings.model_fields[
                str(fault["loc"][0])
            ].metadata  # pydantic's message has a duration as Python's repr
            limit = next(getattr(each, bound) for each in limits if hasattr(each, bound))
            return f"must be {word} {to_jsonable_python(limit)}"
        case _:
            return f"is wrong: {message[0].lower()}{message[1:]}"
