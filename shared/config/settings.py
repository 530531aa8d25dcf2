"""Every setting of the app, from environment variables. Only this module reads them."""

import os
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, to_jsonable_python
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from shared.config.apps import Apps, parse_apps
from shared.config.clouds import CLOUDS, Cloud
from shared.config.setting_groups import (
    BotSettings,
    CredentialSettings,
    GraphSettings,
    KeepAliveSettings,
    ManagementSettings,
    NotificationSettings,
    StorageSettings,
    default_app,
)
from shared.domain.leases import Timing
from shared.errors import SettingsInvalid
from shared.identifiers import guids_in
from shared.urls import origin


class Settings(
    ManagementSettings,
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
    def timing(self) -> Timing:
        """The durations that follow from the lease."""
        return Timing(self.lease_duration)


class _Variables(EnvSettingsSource):
    """The values of settings in a set of environment variables. Empty variables count as absent."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(Settings)
        self.env_vars = {name.lower(): value for name, value in variables.items() if value}

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: object, value_is_complex: bool) -> object:
        """Return the value of a field; the apps of GRAPH_APPS get the secrets of the variables that they name."""
        if field_name == "graph_apps":
            return parse_apps(value, self.env_vars)
        return super().prepare_field_value(field_name, field, value, value_is_complex)


def setting_name(field: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return Settings.model_fields[field].alias or field.upper()


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from `env`, or from the environment if it is None.

    Raises
    ------
    SettingsInvalid
        Names every setting that is missing or wrong and what to do, never a value.
    """
    try:
        return Settings(**_Variables(os.environ if env is None else env)())
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        faults = tuple((_setting_of(fault["loc"]), _app_location(fault["loc"]) + _fault_text(fault)) for fault in found)
        listed = "; ".join(f"{name} {fault}" for name, fault in faults)
        raise SettingsInvalid(f"Settings to correct: {listed}.", faults) from None


def _setting_of(loc: tuple[int | str, ...]) -> str:
    field = str(loc[0])
    return setting_name(field) if field in Settings.model_fields else field


def _app_location(loc: tuple[int | str, ...]) -> str:
    """Return the number of the app in GRAPH_APPS and the name of its member. Empty for other settings."""
    if loc[0] != "graph_apps" or len(loc) == 1:
        return ""
    number, *words = loc[1:]
    return f"app {int(number) + 1}: {''.join(f'{to_camel(str(word))} ' for word in words)}"


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
