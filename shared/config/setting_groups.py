"""The settings in groups: the fields of each group, what they mean, and the checks of their values."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.config.apps import BotApp, CredentialKind, check_apps, refuse_unparsed
from shared.config.clouds import CLOUDS
from shared.config.relay_targets import RelayTarget, complete_targets, refuse_unparsed_targets
from shared.config.types import Authority, Callers, CloudName, CommaSeparated, Duration, Guid, Host, Schedule, Url
from shared.domain.leases import LEASE
from shared.domain.scopes import Scope
from shared.urls import is_loopback, origin

# A sweep may exceed its budget by 25 s, and then write for 20 s. functionTimeout of host.json is 5 minutes.
MAX_SWEEP_BUDGET = timedelta(minutes=4, seconds=10)
MAX_RELAY_BUDGET = timedelta(seconds=10)
MAX_RELAY_SYNC_BUDGET = timedelta(seconds=12)  # Graph lets 15 s pass for an answer (its page call: answer)


def guards(kept_shut: str) -> dict[str, JsonValue]:
    """Return the metadata of a setting that guards something. The text says what its default keeps shut."""
    return {"guards": kept_shut}


class SettingsGroup(BaseSettings):
    """A group of settings. `table` is the name of its table in docs/settings.md.

    A check may read the settings before its own (`info.data`). One that is wrong is missing there: its own fault is
    reported, so the check passes.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", validate_default=True, env_ignore_empty=True, defer_build=True
    )
    table: ClassVar[str]


class GraphSettings(SettingsGroup):
    """The address of Graph, the bot, and the limits of requests."""

    table: ClassVar[str] = "graph"

    graph_cloud: CloudName = Field(
        "global",
        description="Graph's cloud: `global`, `usgov-l4` or `usgov-l5`.",
        json_schema_extra=guards("tokens go only to Graph's public cloud"),
    )
    allow_custom_endpoints: bool = Field(
        False,
        description="`true` allows GRAPH_BASE_URL and AZURE_AUTHORITY_HOST to name a host that belongs to neither "
        "Microsoft nor this machine. The first host gets Graph's tokens, the second the app's secret.",
        json_schema_extra=guards(
            "tokens and secrets go to no other host, even if `GRAPH_BASE_URL` or `AZURE_AUTHORITY_HOST` names one"
        ),
    )
    graph_base_url: Url | None = Field(
        None,
        description="Address of Graph, if it is not the address of GRAPH_CLOUD: Graph in another cloud, or a simulator "
        "on this machine (http is allowed). Any other https address needs ALLOW_CUSTOM_ENDPOINTS=true.",
        json_schema_extra=guards(
            "tokens go only to the cloud's own address; another one must be https, or this machine"
        ),
    )
    graph_app_id: Guid = Field(description="Application (client) id of the calling bot.")
    graph_tenant_id: Guid | None = Field(
        None,
        description="Tenant of calls that are registered without a tenant. It must be a GUID, because notifications "
        "name tenants by GUID.",
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

    @field_validator("graph_base_url")
    @classmethod
    def _only_graph_gets_tokens(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = {cloud.graph_root for cloud in CLOUDS.values()}
        return _check_endpoint(value, info, known, "Graph's", "Graph's tokens")


class CredentialSettings(SettingsGroup):
    """The credential of the bot of GRAPH_APP_ID."""

    table: ClassVar[str] = "credential"

    graph_credential: CredentialKind = Field(
        "managedIdentity",
        description="How the app authenticates to Entra: `managedIdentity`, `federated` (the token of a managed "
        "identity proves the app), `certificate` or `secret`.",
        json_schema_extra=guards("there is no secret that could be stolen"),
    )
    graph_client_secret: SecretStr | None = Field(
        None,
        description="Secret of the app, for GRAPH_CREDENTIAL=secret.",
        json_schema_extra=guards("as above"),
    )
    graph_certificate_path: str | None = Field(
        None,
        description="Path of a PEM or PKCS12 file with certificate and key, for GRAPH_CREDENTIAL=certificate.",
        json_schema_extra=guards("as above"),
    )
    graph_certificate_password: SecretStr | None = Field(
        None,
        description="Password of the file at GRAPH_CERTIFICATE_PATH, if it has one.",
        json_schema_extra=guards("as above"),
    )
    azure_client_id: Guid | None = Field(
        None,
        description="Client id of a user-assigned managed identity. If not set, the system-assigned identity is used.",
    )
    azure_authority_host: Authority | None = Field(
        None,
        description="Address that issues tokens, if it is not the authority of GRAPH_CLOUD: the authority of another "
        "cloud, or a simulator on this machine. Any other https address needs ALLOW_CUSTOM_ENDPOINTS=true.",
        json_schema_extra=guards(
            "tokens come only from the cloud's own authority; a host that is not Entra's gets no secret"
        ),
    )

    @field_validator("graph_client_secret", "graph_certificate_path")
    @classmethod
    def _credential_is_complete[Value](cls, value: Value, info: ValidationInfo) -> Value:
        needed = {"graph_client_secret": "secret", "graph_certificate_path": "certificate"}[str(info.field_name)]
        if info.data.get("graph_credential") == needed and not value:
            raise ValueError(f"is missing: GRAPH_CREDENTIAL={needed} needs it")
        return value

    @field_validator("azure_authority_host")
    @classmethod
    def _only_entra_gets_the_secret(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = {cloud.authority for cloud in CLOUDS.values()}
        return _check_endpoint(value, info, known, "Entra's", "the app's secret")


class KeepAliveSettings(SettingsGroup):
    """The schedule and the limits of sweeps."""

    table: ClassVar[str] = "keep-alive"

    keep_alive_schedule: Schedule = Field(
        description="Schedule of the timer that renews all calls: NCRONTAB, six fields, UTC. `0 */15 * * * *` is every "
        "15 minutes. If not set, the Functions host does not load the timer."
    )
    keep_alive_concurrency: int = Field(
        32, ge=1, le=256, description="Number of keepAlive requests that sweeps send concurrently, 1 to 256."
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


class StorageSettings(SettingsGroup):
    """The storage of calls, and the time for which they are kept."""

    table: ClassVar[str] = "storage"

    calls_storage: SecretStr | None = Field(
        None,
        description="Connection string of the storage account for calls, for Azurite. In Azure set the two service "
        "URIs instead.",
        json_schema_extra=guards("no account key: the app's identity gives access to storage"),
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
    ended_call_retention: Annotated[Duration, Field(gt=timedelta(0))] = Field(
        timedelta(days=30),
        description="How long ended calls stay on record before they are deleted.",
        json_schema_extra=guards("data of ended calls is not kept for ever"),
    )

    @field_validator("calls_storage_table_service_uri", "calls_storage_queue_service_uri")
    @classmethod
    def _storage_is_named_once[Value](cls, value: Value, info: ValidationInfo) -> Value:
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


class NotificationSettings(SettingsGroup):
    """The notifications that are accepted."""

    table: ClassVar[str] = "notifications"

    notification_audiences: CommaSeparated[str] = Field(
        (),
        description="Accepted audiences of Graph's legacy notification tokens; GRAPH_APP_ID if not set. Tokens of "
        "Entra always need GRAPH_APP_ID as audience.",
        json_schema_extra=guards("only tokens for the bot's own app"),
    )
    notification_issuers: CommaSeparated[str] = Field(
        ("https://api.botframework.com", "https://graph.microsoft.com"),
        description="Accepted issuers of Graph's legacy notification tokens. Tokens of Entra are accepted too; this "
        "setting does not apply to them.",
        json_schema_extra=guards("only the two issuers of the legacy kind"),
    )
    notification_metadata_urls: CommaSeparated[Url] = Field(
        (),
        description="URLs of the OpenID metadata with the signing keys of legacy notification tokens; the URLs of "
        "GRAPH_CLOUD if not set. Tokens of Entra are verified with the keys of the authority.",
        json_schema_extra=guards("only keys of the cloud's own calling service, and of Entra"),
    )
    notification_app_ids: CommaSeparated[Guid] = Field(
        (),
        description="Client ids of the only apps that may send notifications (`appid` or `azp` of the token). If not "
        "set, tokens of Entra must name Microsoft's calling service, and legacy tokens may name any app.",
        json_schema_extra=guards(
            "only Microsoft's calling service may send tokens of Entra; open for the legacy kind, whose "
            "keys belong to that service"
        ),
    )
    allowed_tenant_ids: CommaSeparated[Guid] = Field(
        (),
        description="GUIDs of the only tenants whose calls are kept alive; all tenants if not set.",
        json_schema_extra=guards("open: a bot may serve any tenant. Name the tenants that you serve"),
    )
    signing_key_hosts: CommaSeparated[Host] = Field(
        (),
        description="Hosts, besides the host of the OpenID metadata, from which signing keys may be fetched.",
        json_schema_extra=guards("metadata cannot lead to keys at another host"),
    )

    @field_validator("notification_audiences")
    @classmethod
    def _default_notification_audience(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return value or ((info.data["graph_app_id"],) if "graph_app_id" in info.data else ())

    @field_validator("notification_metadata_urls")
    @classmethod
    def _default_notification_metadata(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return value or (CLOUDS[info.data["graph_cloud"]].metadata_urls if "graph_cloud" in info.data else ())


class BotSettings(SettingsGroup):
    """The bots in addition to that of GRAPH_APP_ID."""

    table: ClassVar[str] = "several-bots"

    graph_apps: Annotated[tuple[BotApp, ...], NoDecode, BeforeValidator(refuse_unparsed)] = Field(
        (), description="JSON list of bots in addition to GRAPH_APP_ID; see [Several bots](#several-bots)."
    )

    @field_validator("graph_apps")
    @classmethod
    def _apps_differ(cls, value: tuple[BotApp, ...], info: ValidationInfo) -> tuple[BotApp, ...]:
        if {"graph_app_id", "notification_audiences"} <= info.data.keys():
            check_apps(value, default_app(info.data))
        return value


class RelaySettings(SettingsGroup):
    """The relay of notifications and events to bots. If one of these settings is wrong, the relay alone is off."""

    table: ClassVar[str] = "relay"

    relay_allow_private_addresses: bool = Field(
        False,
        description="`true` allows targets with a private address, over https. Link-local addresses are never allowed.",
        json_schema_extra=guards(
            "notifications and tokens go to no address that is not globally routable, such as a host of the network "
            "that the app runs in"
        ),
    )
    relay_targets: Annotated[tuple[RelayTarget, ...], NoDecode, BeforeValidator(refuse_unparsed_targets)] = Field(
        (),
        description="JSON list of the bots that receive Graph's notifications or events through Call Keeper; see "
        "[Relay targets](#relay-targets). If not set, the relay is off.",
        json_schema_extra=guards("nothing is relayed, and no body of a notification is stored"),
    )
    relay_budget: Annotated[Duration, Field(gt=timedelta(0), le=MAX_RELAY_BUDGET)] = Field(
        timedelta(seconds=1.5),
        description="How long the first attempt to deliver a notification may take, connecting included, at most "
        "PT10S. Graph is answered after it.",
    )
    relay_sync_budget: Annotated[Duration, Field(gt=timedelta(0), le=MAX_RELAY_SYNC_BUDGET)] = Field(
        timedelta(seconds=10),
        description="How long a bot may take to answer a notification whose answer Graph wants in the response, at "
        "most PT12S.",
    )
    relay_body_retention: Annotated[Duration, Field(gt=timedelta(0))] = Field(
        timedelta(days=7),
        description="How long the body of a dead or disabled delivery is kept for a replay. The body of a delivered "
        "one is deleted at once.",
        json_schema_extra=guards("bodies of notifications, which may hold personal data, are not kept for ever"),
    )

    @field_validator("relay_targets")
    @classmethod
    def _targets_fit(cls, value: tuple[RelayTarget, ...], info: ValidationInfo) -> tuple[RelayTarget, ...]:
        if not {"graph_app_id", "graph_apps"} <= info.data.keys():
            return value
        default: str = info.data["graph_app_id"]
        app_ids = {default, *(app.app_id for app in info.data["graph_apps"])}
        allow_private = info.data.get("relay_allow_private_addresses", True)
        return complete_targets(value, default, app_ids, allow_private=allow_private)


class ManagementSettings(SettingsGroup):
    """The callers of management routes, and the calls that they may manage."""

    table: ClassVar[str] = "management"

    management_audience: CommaSeparated[str] = Field(
        (),
        description="Accepted audiences of access tokens of Entra. If set, management routes need such a token in "
        "addition to the function key.",
        json_schema_extra=guards(
            "only the function key is required, for a laptop; `infra/` always sets an audience and refuses an empty one"
        ),
    )
    management_tenant_id: Guid | None = Field(
        None,
        description="Tenant that issues the access tokens for management routes.",
        json_schema_extra=guards("no tenant: required once `MANAGEMENT_AUDIENCE` is set"),
    )
    management_issuers: CommaSeparated[str] = Field(
        (),
        description="Accepted issuers of these tokens; the v1 and v2 issuers of MANAGEMENT_TENANT_ID if not set.",
        json_schema_extra=guards("only the issuers of that tenant"),
    )
    management_metadata_url: Url | None = Field(
        None,
        description="URL of the OpenID metadata of these tokens; the URL of MANAGEMENT_TENANT_ID if not set.",
        json_schema_extra=guards("only the keys of that tenant"),
    )
    management_callers: Callers = Field(
        None,
        description='Calls that each caller may read and manage, as JSON: `{"<client id>": {"tenants": '
        '["<tenant id>"], "apps": ["<app id>"]}, "*": "all"}`. A call must match `tenants` and `apps`; either may be '
        "left out. If MANAGEMENT_ISSUERS names several tenants, write a client of another tenant than "
        "MANAGEMENT_TENANT_ID as `<client id>@<tenant id>`. Callers that are not named are refused. If not set, every "
        "caller may access all calls.",
        json_schema_extra=guards(
            "open: each caller with a role sees all calls. Bind callers to tenants or apps if several "
            "share a deployment"
        ),
    )

    @field_validator("management_tenant_id", "management_issuers", "management_metadata_url", "management_callers")
    @classmethod
    def _guards_need_an_audience[Value](cls, value: Value, info: ValidationInfo) -> Value:
        if value and not info.data.get("management_audience", "wrong"):
            raise ValueError(
                "needs MANAGEMENT_AUDIENCE: without it no token is required, and the function key, which does not "
                "identify the caller, gives access to all calls"
            )
        return value

    @field_validator("management_callers")
    @classmethod
    def _callers_are_named_once(cls, value: Mapping[str, Scope] | None, info: ValidationInfo) -> object:
        home = f"@{info.data.get('management_tenant_id')}"
        plain = [(name.removesuffix(home), scope) for name, scope in (value or {}).items()]
        if len(dict(plain)) < len(plain):
            raise ValueError("names a client of MANAGEMENT_TENANT_ID twice: with its tenant and without")
        return value and dict(plain)

    @field_validator("management_issuers")
    @classmethod
    def _default_management_issuers(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value or not (authority := _management_authority(info)):
            return value
        return f"{authority}/v2.0", f"https://sts.windows.net/{info.data['management_tenant_id']}/"

    @field_validator("management_metadata_url")
    @classmethod
    def _default_management_metadata(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value or not (authority := _management_authority(info)):
            return value
        return f"{authority}/v2.0/.well-known/openid-configuration"


def default_app(settings: Mapping[str, Any]) -> BotApp:
    """Return the app of GRAPH_APP_ID. Its settings are checked by their groups, so it is not checked again."""
    return BotApp.model_construct(
        app_id=settings["graph_app_id"],
        credential=settings.get("graph_credential", "managedIdentity"),
        tenant_id=settings.get("graph_tenant_id"),
        client_secret=settings.get("graph_client_secret"),
        certificate_path=settings.get("graph_certificate_path"),
        certificate_password=settings.get("graph_certificate_password"),
        notification_audiences=settings["notification_audiences"],
    )


def _check_endpoint(
    url: str | None, info: ValidationInfo, known: AbstractSet[str], whose: str, gets: str
) -> str | None:
    """Refuse an address that belongs neither to Microsoft nor to this machine, unless ALLOW_CUSTOM_ENDPOINTS is set."""
    if url is None or is_loopback(url) or origin(url) in known or info.data.get("allow_custom_endpoints", True):
        return url
    raise ValueError(
        f"is neither {whose} address nor this machine's, and would receive {gets}: remove it, or set "
        "ALLOW_CUSTOM_ENDPOINTS=true if that is intended"
    )


def _management_authority(info: ValidationInfo) -> str | None:
    """Return the address of Entra for MANAGEMENT_TENANT_ID. None if no tokens are required, or a setting is wrong."""
    if not {"management_tenant_id", "azure_authority_host", "graph_cloud"} <= info.data.keys():
        return None
    if not info.data.get("management_audience"):
        return None
    tenant = info.data["management_tenant_id"]
    if tenant is None:
        raise ValueError("is missing: MANAGEMENT_AUDIENCE needs it, or MANAGEMENT_TENANT_ID")
    return f"{info.data['azure_authority_host'] or CLOUDS[info.data['graph_cloud']].authority}/{tenant}"
