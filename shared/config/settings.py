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

from shared.config.apps import Apps, BotApp, CredentialKind, check_apps, parse_apps, refuse_unparsed
from shared.config.clouds import CLOUDS, Cloud
from shared.config.types import Authority, Callers, CloudName, CommaSeparated, Duration, Guid, Host, Schedule, Url
from shared.domain.leases import LEASE, Timing
from shared.domain.scopes import Scope
from shared.errors import SettingsInvalid
from shared.identifiers import guids_in
from shared.urls import is_loopback, origin

MAX_SWEEP_BUDGET = timedelta(minutes=4, seconds=10)  # it may go on for 25 s, write for 20; functionTimeout is 5 minutes


class Settings(BaseSettings):
    """The settings, checked. Each is the environment variable of its name in upper case, or of its alias."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=True, env_ignore_empty=True)

    graph_cloud: CloudName = Field("global", description="Graph's cloud: `global`, `usgov-l4` or `usgov-l5`.")
    allow_custom_endpoints: bool = Field(
        False,
        description="`true` allows GRAPH_BASE_URL and AZURE_AUTHORITY_HOST to name a host that belongs to neither "
        "Microsoft nor this machine. The first host gets Graph's tokens, the second the app's secret.",
    )
    graph_base_url: Url | None = Field(
        None,
        description="Address of Graph, if it is not the address of GRAPH_CLOUD: Graph in another cloud, or a simulator "
        "on this machine (http is allowed). Any other https address needs ALLOW_CUSTOM_ENDPOINTS=true.",
    )
    graph_app_id: Guid = Field(description="Application (client) id of the calling bot.")
    graph_tenant_id: Guid | None = Field(
        None,
        description="Tenant of calls that are registered without a tenant. It must be a GUID, because notifications "
        "name tenants by GUID.",
    )
    azure_client_id: Guid | None = Field(
        None,
        description="Client id of a user-assigned managed identity. If not set, the system-assigned identity is used.",
    )
    azure_authority_host: Authority | None = Field(
        None,
        description="Address that issues tokens, if it is not the authority of GRAPH_CLOUD: the authority of another "
        "cloud, or a simulator on this machine. Any other https address needs ALLOW_CUSTOM_ENDPOINTS=true.",
    )
    graph_credential: CredentialKind = Field(
        "managedIdentity",
        description="How the app authenticates to Entra: `managedIdentity`, `federated` (the token of a managed "
        "identity proves the app), `certificate` or `secret`.",
    )
    graph_client_secret: SecretStr | None = Field(None, description="Secret of the app, for GRAPH_CREDENTIAL=secret.")
    graph_certificate_path: str | None = Field(
        None, description="Path of a PEM or PKCS12 file with certificate and key, for GRAPH_CREDENTIAL=certificate."
    )
    graph_certificate_password: SecretStr | None = Field(
        None, description="Password of the file at GRAPH_CERTIFICATE_PATH, if it has one."
    )
    graph_record_api: Literal["recordResponse", "record"] = Field(
        "recordResponse",
        description="Graph's action for recordings: `recordResponse`, or the older `record` of the beta API.",
    )
    graph_timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(minutes=1))] = Field(
        timedelta(seconds=10), description="Timeout of one request to Graph, at most PT1M."
    )
    graph_requests_per_second: int = Field(
        500,
        ge=1,
        le=10_000,
        description="Rate limit: requests of all kinds that one instance sends to Graph in any second, 1 to 10000. "
        "Sweeps use nine tenths of it at most.",
    )
    keep_alive_concurrency: int = Field(
        32, ge=1, le=256, description="Number of keepAlive requests that sweeps send concurrently, 1 to 256."
    )
    keep_alive_schedule: Schedule = Field(
        description="Schedule of the timer that renews all calls: NCRONTAB, six fields, UTC. `0 */15 * * * *` is every "
        "15 minutes. If not set, the Functions host does not load the timer."
    )
    lease_duration: Annotated[Duration, Field(gt=timedelta(0), le=LEASE)] = Field(
        LEASE,
        description="How long Graph keeps a call alive after a keepAlive. Graph's lease is 45 minutes; set another "
        "value only for a simulator that runs faster than real time.",
    )
    sweep_budget: Annotated[Duration, Field(gt=timedelta(0), le=MAX_SWEEP_BUDGET)] = Field(
        timedelta(minutes=4),
        description="How long one sweep may take, at most PT4M10S, because the host stops a function after 5 minutes. "
        "Shards that are not swept by then are handed over to the queue.",
    )
    sweep_fan_out_threshold: int = Field(
        20_000,
        ge=0,
        description="If there are more active calls than about this number, each shard is swept by a queue message of "
        "its own.",
    )
    ended_call_retention: Annotated[Duration, Field(gt=timedelta(0))] = Field(
        timedelta(days=30), description="How long ended calls stay on record before they are deleted."
    )
    calls_storage: SecretStr | None = Field(
        None,
        description="Connection string of the storage account for calls, for Azurite. In Azure set the two service "
        "URIs instead.",
    )
    calls_storage_table_service_uri: Url | None = Field(
        None,
        alias="CALLS_STORAGE__tableServiceUri",
        description="Table endpoint of the storage account; needs a managed identity.",
    )
    calls_storage_queue_service_uri: Url | None = Field(
        None,
        alias="CALLS_STORAGE__queueServiceUri",
        description="Queue endpoint of the storage account; needs a managed identity.",
    )
    calls_storage_credential: Literal["managedidentity"] | None = Field(
        None,
        alias="CALLS_STORAGE__credential",
        description="`managedidentity`. The Functions host needs it if CALLS_STORAGE__clientId is set.",
    )
    calls_storage_client_id: Guid | None = Field(
        None,
        alias="CALLS_STORAGE__clientId",
        description="Client id of the user-assigned managed identity that accesses the storage account.",
    )
    notification_audiences: CommaSeparated[str] = Field(
        (),
        description="Accepted audiences of Graph's legacy notification tokens; GRAPH_APP_ID if not set. Tokens of "
        "Entra always need GRAPH_APP_ID as audience.",
    )
    graph_apps: Annotated[tuple[BotApp, ...], NoDecode, BeforeValidator(refuse_unparsed)] = Field(
        (), description="JSON list of bots in addition to GRAPH_APP_ID; see [Several bots](#several-bots)."
    )
    notification_issuers: CommaSeparated[str] = Field(
        ("https://api.botframework.com", "https://graph.microsoft.com"),
        description="Accepted issuers of Graph's legacy notification tokens. Tokens of Entra are accepted too; this "
        "setting does not apply to them.",
    )
    notification_metadata_urls: CommaSeparated[Url] = Field(
        (),
        description="URLs of the OpenID metadata with the signing keys of legacy notification tokens; the URLs of "
        "GRAPH_CLOUD if not set. Tokens of Entra are verified with the keys of the authority.",
    )
    notification_app_ids: CommaSeparated[Guid] = Field(
        (),
        description="Client ids of the only apps that may send notifications (`appid` or `azp` of the token). If not "
        "set, tokens of Entra must name Microsoft's calling service, and legacy tokens may name any app.",
    )
    signing_key_hosts: CommaSeparated[Host] = Field(
        (), description="Hosts, besides the host of the OpenID metadata, from which signing keys may be fetched."
    )
    allowed_tenant_ids: CommaSeparated[Guid] = Field(
        (), description="GUIDs of the only tenants whose calls are kept alive; all tenants if not set."
    )
    management_audience: CommaSeparated[str] = Field(
        (),
        description="Accepted audiences of access tokens of Entra. If set, management routes need such a token in "
        "addition to the function key.",
    )
    management_tenant_id: Guid | None = Field(
        None, description="Tenant that issues the access tokens for management routes."
    )
    management_issuers: CommaSeparated[str] = Field(
        (), description="Accepted issuers of these tokens; the v1 and v2 issuers of MANAGEMENT_TENANT_ID if not set."
    )
    management_metadata_url: Url | None = Field(
        None,
        description="URL of the OpenID metadata of these tokens; the URL of MANAGEMENT_TENANT_ID if not set.",
    )

    management_callers: Callers = Field(
        None,
        description='Calls that each caller may read and manage, as JSON: `{"<client id>": {"tenants": '
        '["<tenant id>"], "apps": ["<app id>"]}, "*": "all"}`. A call must match `tenants` and `apps`; either may be '
        "left out. If MANAGEMENT_ISSUERS names several tenants, write a client of another tenant than "
        "MANAGEMENT_TENANT_ID as `<client id>@<tenant id>`. Callers that are not named are refused. If not set, every "
        "caller may access all calls.",
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
        if info.data.get("allow_custom_endpoints", True):  # what is wrong there is told there
            return value
        whose, gets = ("Graph's", "Graph's tokens") if is_graph else ("Entra's", "the app's secret")
        raise ValueError(
            f"is neither {whose} address nor this machine's, and would receive {gets}: remove it, or set "
            "ALLOW_CUSTOM_ENDPOINTS=true if that is intended"
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
            raise ValueError("and CALLS_STORAGE exclude each other: remove one of them")
        return value

    @field_validator("calls_storage_client_id")
    @classmethod
    def _host_reads_client_id[Value](cls, value: Value, info: ValidationInfo) -> Value:
        if value and info.data.get("calls_storage_credential", "wrong") is None:
            raise ValueError("needs CALLS_STORAGE__credential=managedidentity too: the Functions host reads both")
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
                "needs MANAGEMENT_AUDIENCE: without it no token is required, and the function key, which does not "
                "identify the caller, gives access to all calls"
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
        return Timing(self.lease_duration)


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
