"""Every setting of the app, from environment variables: the one place that reads them."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, to_jsonable_python
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.apps import Apps, BotApp, CredentialKind, check_apps, parse_apps, refuse_unparsed
from shared.callers import Scope
from shared.clouds import CLOUDS, Cloud
from shared.errors import SettingsInvalid
from shared.identifiers import guids_in
from shared.leases import LEASE, Timing
from shared.setting_types import Authority, Callers, CloudName, CommaSeparated, Duration, Guid, Host, Schedule, Url
from shared.urls import is_loopback, origin

MAX_SWEEP_BUDGET = timedelta(minutes=4, seconds=10)  # it may go on for 25 s, write for 20; functionTimeout is 5 minutes


class Settings(BaseSettings):
    """The settings, checked. Each is the environment variable of its name in upper case, or of its alias."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=True, env_ignore_empty=True)

    graph_cloud: CloudName = Field("global", description="Graph's cloud: `global`, `usgov-l4` or `usgov-l5`.")
    allow_custom_graph_base_url: bool = Field(
        False,
        description="Whether GRAPH_BASE_URL may be another host's than Graph's own, which gets Graph's tokens, and "
        "AZURE_AUTHORITY_HOST another's than Entra's, which gets the app's secret.",
    )
    graph_base_url: Url | None = Field(
        None,
        description="Where Graph is, instead of the cloud's address: Graph's own in another cloud, or this machine "
        "(a simulator; http too). Another https address only with ALLOW_CUSTOM_GRAPH_BASE_URL=true.",
    )
    graph_app_id: Guid = Field(description="The calling bot's application (client) id.")
    graph_tenant_id: Guid | None = Field(
        None, description="The tenant of calls that are registered without one, a GUID: notifications carry that."
    )
    azure_client_id: Guid | None = Field(
        None, description="Client id of a user-assigned managed identity; without it the system-assigned one is used."
    )
    azure_authority_host: Authority | None = Field(
        None,
        description="Where tokens are issued, instead of the cloud's authority: another cloud's, or this machine (a "
        "simulator). Another https address only with ALLOW_CUSTOM_GRAPH_BASE_URL=true.",
    )
    graph_credential: CredentialKind = Field(
        "managedIdentity",
        description="How the app proves who it is: `managedIdentity`, `federated` (a managed identity vouches for the "
        "app), `certificate` or `secret`.",
    )
    graph_client_secret: SecretStr | None = Field(None, description="The app's secret, for GRAPH_CREDENTIAL=secret.")
    graph_certificate_path: str | None = Field(
        None, description="Path of a PEM or PKCS12 file with certificate and key, for GRAPH_CREDENTIAL=certificate."
    )
    graph_certificate_password: SecretStr | None = Field(None, description="The password of that file, if it has one.")
    graph_record_api: Literal["recordResponse", "record"] = Field(
        "recordResponse", description="Graph's action for recordings: `recordResponse`, or the old beta `record`."
    )
    graph_timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(minutes=1))] = Field(
        timedelta(seconds=10), description="How long one request to Graph may take, up to PT1M."
    )
    graph_requests_per_second: int = Field(
        500,
        ge=1,
        le=10_000,
        description="The most requests that an instance sends to Graph in any second, of all kinds, 1 to 10000. "
        "A tenth is never used by sweeps.",
    )
    keep_alive_concurrency: int = Field(
        32, ge=1, le=256, description="keepAlive requests of sweeps in flight at once, 1 to 256."
    )
    keep_alive_schedule: Schedule = Field(
        description="When all calls are renewed: NCRONTAB, six fields, UTC; `0 */15 * * * *` is every 15 minutes. "
        "Without it the Functions host does not load the timer."
    )
    keep_alive_lease: Annotated[Duration, Field(gt=timedelta(0), le=LEASE)] = Field(
        LEASE,
        description="How long a call lives without keepAlive. Only for a simulator with time sped up; Graph's is "
        "45 minutes.",
    )
    sweep_budget: Annotated[Duration, Field(gt=timedelta(0), le=MAX_SWEEP_BUDGET)] = Field(
        timedelta(minutes=4),
        description="How long one sweep may take, up to PT4M10S; what it leaves goes to the queue. The host ends a "
        "function after 5 minutes.",
    )
    sweep_fan_out_above: int = Field(
        20_000,
        ge=0,
        description="With more active calls than about this the shards are swept by one queue message each.",
    )
    ended_call_retention: Annotated[Duration, Field(gt=timedelta(0))] = Field(
        timedelta(days=30), description="How long ended calls stay on record."
    )
    calls_storage: SecretStr | None = Field(
        None, description="Connection string of the storage account for calls (Azurite); in Azure use the URIs below."
    )
    calls_storage_table_service_uri: Url | None = Field(
        None, alias="CALLS_STORAGE__tableServiceUri", description="Table endpoint, reached by managed identity."
    )
    calls_storage_queue_service_uri: Url | None = Field(
        None, alias="CALLS_STORAGE__queueServiceUri", description="Queue endpoint, reached by managed identity."
    )
    calls_storage_credential: Literal["managedidentity"] | None = Field(
        None,
        alias="CALLS_STORAGE__credential",
        description="`managedidentity`: what the Functions host asks for beside CALLS_STORAGE__clientId.",
    )
    calls_storage_client_id: Guid | None = Field(
        None, alias="CALLS_STORAGE__clientId", description="Client id of the identity that reaches the storage account."
    )
    notification_audiences: CommaSeparated[str] = Field(
        (),
        description="Audiences of Graph's notification tokens of the legacy kind; GRAPH_APP_ID if not set. Tokens of "
        "Entra are for GRAPH_APP_ID.",
    )
    graph_apps: Annotated[tuple[BotApp, ...], NoDecode, BeforeValidator(refuse_unparsed)] = Field(
        (), description="Further bots beside GRAPH_APP_ID, a JSON list; see [Several bots](#several-bots)."
    )
    notification_issuers: CommaSeparated[str] = Field(
        ("https://api.botframework.com", "https://graph.microsoft.com"),
        description="Issuers of Graph's notification tokens of the legacy kind. Tokens of Entra are taken "
        "too, whatever it says.",
    )
    notification_metadata_urls: CommaSeparated[Url] = Field(
        (),
        description="OpenID metadata that leads to the keys of notification tokens of the legacy kind; the "
        "cloud's if not set. Keys of Entra's are those of the authority.",
    )
    notification_app_ids: CommaSeparated[Guid] = Field(
        (),
        description="The only apps, by client id, that may send notifications (`appid` or `azp` of a token). If "
        "not set: with tokens of Entra Microsoft's calling service, with those of the legacy kind all.",
    )
    signing_key_hosts: CommaSeparated[Host] = Field(
        (), description="Hosts that OpenID metadata may lead to for keys, besides the metadata's own."
    )
    allowed_tenant_ids: CommaSeparated[Guid] = Field(
        (), description="The only tenants whose calls are kept, by GUID; all if not set."
    )
    management_audience: CommaSeparated[str] = Field(
        (), description="Audiences of the Entra tokens that management routes then need beside the function key."
    )
    management_tenant_id: Guid | None = Field(None, description="The tenant that issues those tokens.")
    management_issuers: CommaSeparated[str] = Field(
        (), description="Their issuers; MANAGEMENT_TENANT_ID's, v1 and v2, if not set."
    )
    management_metadata_url: Url | None = Field(
        None, description="Their OpenID metadata; MANAGEMENT_TENANT_ID's if not set."
    )

    management_callers: Callers = Field(
        None,
        description='Which calls each caller may see and touch: JSON, such as `{"<client id>": {"tenants": '
        '["<tenant id>"], "apps": ["<app id>"]}, "*": "all"}`: those of these tenants and of these bots, either alone '
        "or both. If MANAGEMENT_ISSUERS names several tenants, a client of another tenant than MANAGEMENT_TENANT_ID is "
        "`<client id>@<tenant id>`. Callers that it does not name are refused; without it all see all.",
    )

    @field_validator("graph_client_secret", "graph_certificate_path")
    @classmethod
    def _credential_is_whole[Value](cls, value: Value, info: ValidationInfo) -> Value:
        needed = {"graph_client_secret": "secret", "graph_certificate_path": "certificate"}[str(info.field_name)]
        if info.data.get("graph_credential") == needed and not value:
            raise ValueError(f"is missing: GRAPH_CREDENTIAL={needed} needs it")
        return value

    @field_validator("graph_base_url", "azure_authority_host")
    @classmethod
    def _secrets_stay_with_microsoft(cls, value: str | None, info: ValidationInfo) -> str | None:
        is_graph = info.field_name == "graph_base_url"
        known = {cloud.graph_root if is_graph else cloud.authority for cloud in CLOUDS.values()}
        if value is None or is_loopback(value) or origin(value) in known:
            return value
        if info.data.get("allow_custom_graph_base_url", True):  # what is wrong there is told there
            return value
        whose, gets = ("Graph's", "Graph's tokens") if is_graph else ("Entra's", "the app's secret")
        raise ValueError(
            f"is neither {whose} address nor this machine's, and would get {gets}: remove it, or set "
            "ALLOW_CUSTOM_GRAPH_BASE_URL=true if the host is to have them"
        )

    @field_validator("graph_apps")
    @classmethod
    def _told_apart(cls, value: tuple[BotApp, ...], info: ValidationInfo) -> tuple[BotApp, ...]:
        if {"graph_app_id", "notification_audiences"} <= info.data.keys():  # what is wrong there is told there
            check_apps(value, _first_app(info.data))
        return value

    @field_validator("calls_storage_table_service_uri", "calls_storage_queue_service_uri")
    @classmethod
    def _storage_is_one[Value](cls, value: Value, info: ValidationInfo) -> Value:
        connection_string = info.data.get("calls_storage", value)
        if not connection_string and not value:
            raise ValueError("is missing: set it, or CALLS_STORAGE to a connection string")
        if connection_string and connection_string is not value and value:
            raise ValueError("and CALLS_STORAGE exclude each other: keep the one or the other")
        return value

    @field_validator("calls_storage_client_id")
    @classmethod
    def _host_reads_client_id[Value](cls, value: Value, info: ValidationInfo) -> Value:
        if value and info.data.get("calls_storage_credential", "wrong") is None:
            raise ValueError(
                "needs CALLS_STORAGE__credential=managedidentity beside it: the Functions host asks for both"
            )
        return value

    @field_validator("notification_audiences", "notification_metadata_urls")
    @classmethod
    def _graphs_own(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value or not {"graph_app_id", "graph_cloud"} <= info.data.keys():  # what is wrong there is told there
            return value
        if info.field_name == "notification_audiences":
            return (info.data["graph_app_id"],)
        return CLOUDS[info.data["graph_cloud"]].metadata_urls

    @field_validator("management_tenant_id", "management_issuers", "management_metadata_url", "management_callers")
    @classmethod
    def _guards_have_an_audience[Value](cls, value: Value, info: ValidationInfo) -> Value:
        if value and not info.data.get("management_audience", "wrong"):
            raise ValueError(
                "needs MANAGEMENT_AUDIENCE: without it no token is asked for, and the function key alone, which does "
                "not tell who asks, opens everything"
            )
        return value

    @field_validator("management_callers")
    @classmethod
    def _clients_are_named_once(cls, value: Mapping[str, Scope] | None, info: ValidationInfo) -> object:
        home = f"@{info.data.get('management_tenant_id')}"
        plain = [(name.removesuffix(home), scope) for name, scope in (value or {}).items()]
        if len(dict(plain)) < len(plain):
            raise ValueError("names a client of MANAGEMENT_TENANT_ID twice: with its tenant and without")
        return value and dict(plain)

    @field_validator("management_issuers", "management_metadata_url")
    @classmethod
    def _managements_own(cls, value: object, info: ValidationInfo) -> object:
        wrong = {"management_tenant_id", "azure_authority_host", "graph_cloud"} - info.data.keys()
        if value or wrong or not info.data.get("management_audience"):
            return value
        tenant = info.data["management_tenant_id"]
        if tenant is None:
            raise ValueError("is missing: MANAGEMENT_AUDIENCE needs it, or MANAGEMENT_TENANT_ID")
        authority = f"{info.data['azure_authority_host'] or CLOUDS[info.data['graph_cloud']].authority}/{tenant}/v2.0"
        if info.field_name == "management_metadata_url":
            return f"{authority}/.well-known/openid-configuration"
        return (authority, f"https://sts.windows.net/{tenant}/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 pydantic-settings passes it
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the values that `load_settings` read, and nothing else: no second look at the environment."""
        return (init_settings,)

    @property
    def cloud(self) -> Cloud:
        """The cloud's own addresses."""
        return CLOUDS[self.graph_cloud]

    @property
    def graph_root(self) -> str:
        """Where Graph is, without a version and a slash."""
        return self.graph_base_url or self.cloud.graph_root

    @property
    def graph_scope(self) -> str:
        """The scope of Graph's tokens."""
        return f"{origin(self.graph_root)}/.default"

    @property
    def authority(self) -> str:
        """Where tokens are issued."""
        return self.azure_authority_host or self.cloud.authority

    def management_client(self, app_id: str, tenant_id: str) -> str:
        """How a calling app is written: by its client id, and by `@` and its tenant if several tenants issue tokens.

        An app has one client id in all tenants, and each tenant gives it app roles of its own. Clients of
        MANAGEMENT_TENANT_ID are written by their client id alone.
        """
        tenants = {tenant for issuer in self.management_issuers for tenant in guids_in(issuer)}
        is_home = len(tenants) <= 1 or tenant_id == self.management_tenant_id
        return app_id if is_home else f"{app_id}@{tenant_id}"

    @property
    def apps(self) -> Apps:
        """The bots: that of GRAPH_APP_ID first."""
        return Apps((_first_app(dict(self)), *self.graph_apps))

    @property
    def timing(self) -> Timing:
        """How long things may take, in proportion to the lease."""
        return Timing(self.keep_alive_lease)


def _first_app(fields: Mapping[str, Any]) -> BotApp:
    """The app of GRAPH_APP_ID; its fields were checked where they are declared."""
    return BotApp.model_construct(
        app_id=fields["graph_app_id"],
        credential=fields.get("graph_credential", "managedIdentity"),
        tenant_id=fields.get("graph_tenant_id"),
        client_secret=fields.get("graph_client_secret"),
        certificate_path=fields.get("graph_certificate_path"),
        certificate_password=fields.get("graph_certificate_password"),
        notification_audiences=fields["notification_audiences"],
    )


def setting_name(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return Settings.model_fields[field].alias or field.upper()


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """The settings from `env`, or from the environment. Empty variables count as absent.

    Raises
    ------
    SettingsInvalid
        Names every setting that is missing or wrong and what to do, never a value.
    """
    source = EnvSettingsSource(Settings)
    variables = os.environ if env is None else env
    source.env_vars = {name.lower(): value for name, value in variables.items() if value}
    values = source()
    if "graph_apps" in values:
        values["graph_apps"] = parse_apps(values["graph_apps"], source.env_vars)
    try:
        return Settings(**values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        faults = tuple((_setting_of(fault["loc"]), _app_location(fault["loc"]) + _fault_text(fault)) for fault in found)
        listed = "; ".join(f"{name} {fault}" for name, fault in faults)
        raise SettingsInvalid(f"Settings to correct: {listed}.", faults) from None


def _setting_of(loc: tuple[int | str, ...]) -> str:
    field = str(loc[0])
    return setting_name(field) if field in Settings.model_fields else field


def _app_location(loc: tuple[int | str, ...]) -> str:
    """Which app and which of its words, in a list of apps; nothing elsewhere."""
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
            limits = Settings.model_fields[str(fault["loc"][0])].metadata  # pydantic tells a duration as Python's repr
            limit = next(getattr(each, bound) for each in limits if hasattr(each, bound))
            return f"must be {word} {to_jsonable_python(limit)}"
        case _:
            return f"is wrong: {message[0].lower()}{message[1:]}"
