"""Requirements of Azure's documents and of the project for the infrastructure, each with its reason or its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

# The lowest API version that is allowed for each resource type. Flex Consumption needs Microsoft.Web 2024-04-01, and
# siteUpdateStrategy 2024-11-01; the others are those of Azure's own samples of 2026.
API_VERSIONS: Mapping[str, str] = {
    "Microsoft.Authorization/locks": "2020-05-01",
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/diagnosticSettings": "2021-05-01-preview",
    "Microsoft.Insights/metricAlerts": "2018-03-01",
    "Microsoft.Insights/scheduledQueryRules": "2023-12-01",
    "Microsoft.Insights/webtests": "2022-06-15",
    "Microsoft.Insights/workbooks": "2023-06-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2024-11-30",
    "Microsoft.Network": "2024-06-01",
    "Microsoft.OperationalInsights/workspaces": "2025-07-01",
    "Microsoft.Resources/resourceGroups": "2025-04-01",
    "Microsoft.Storage/storageAccounts": "2025-06-01",
    "Microsoft.Web/serverfarms": "2025-03-01",
    "Microsoft.Web/sites": "2025-03-01",
}

# The compiler calls a version old (use-recent-api-versions) if it is two years old and a newer one exists. Here the two
# years are counted back from the day of the last review, so that no test fails because time passes. If you raise the
# compiler's version, set the day to today and complete the two tables below.
VERSIONS_REVIEWED = date(2026, 11, 30)


@dataclass(frozen=True, slots=True)
class OldVersion:
    """An old version that is kept although a newer one exists, and the reason."""

    version: str
    why: str


# Each has a `#disable-next-line` directive in its template.
OLD_VERSIONS: Mapping[str, OldVersion] = {
    "Microsoft.Insights/diagnosticSettings": OldVersion(
        "2021-05-01-preview", "Microsoft's samples use it, in every cloud; it is a preview"
    ),
    "Microsoft.Insights/metricAlerts": OldVersion(
        "2018-03-01", "2026-01-01 compiles; whether Azure Government takes it is not known"
    ),
    "Microsoft.Insights/scheduledQueryRules": OldVersion(
        "2023-12-01", "2026-03-01 compiles; whether Azure Government takes it is not known"
    ),
}

# Old versions that are the newest of their type: the compiler does not report them.
NEWEST_VERSIONS: Mapping[str, str] = {
    "Microsoft.Authorization/locks": "2020-05-01",
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/webtests": "2022-06-15",
    "Microsoft.Insights/workbooks": "2023-06-01",
    "Microsoft.Network/privateDnsZones": "2024-06-01",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": "2024-06-01",
}

# Microsoft: "Azure built-in roles" page.
ROLE_IDS: Mapping[str, str] = {
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
}

# The roles that the app's identity needs, and no others. The scope is given by the param that names it.
ROLES: frozenset[tuple[str, str]] = frozenset(
    {
        ("hostAccountName", "Storage Blob Data Owner"),  # leases of timers, function keys, the deployed package
        ("hostAccountName", "Storage Table Data Contributor"),  # the host's diagnostic events
        ("callsAccountName", "Storage Table Data Contributor"),  # calls
        ("callsAccountName", "Storage Queue Data Contributor"),  # wake-ups
        ("componentName", "Monitoring Metrics Publisher"),  # telemetry without a key
    }
)

# The settings of the function app that belong to the platform, not to Call Keeper.
PLATFORM_SETTINGS: Mapping[str, str] = {
    "AzureWebJobsStorage__accountName": "the host's account by name; used in the global cloud",
    "AzureWebJobsStorage__blobServiceUri": "the host's account by address; used in other clouds",
    "AzureWebJobsStorage__queueServiceUri": "the same for queues",
    "AzureWebJobsStorage__tableServiceUri": "the same for tables",
    "AzureWebJobsStorage__credential": "the host needs it for a user-assigned identity",
    "AzureWebJobsStorage__clientId": "the host needs it too for a user-assigned identity",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "the host refuses larger bodies before the app reads them into memory",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "the address of telemetry; no secret, as local authentication is disabled",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "telemetry is sent with the identity's token",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "the worker configures OpenTelemetry",
    "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME": "the logger whose lines are sent: Call Keeper's, not those of libraries",
    "OTEL_TRACES_SAMPLER": "spans are sampled by a fixed share instead of five per second",
    "OTEL_TRACES_SAMPLER_ARG": "the share: all spans",
}

# Settings of Call Keeper that a deployment must not have.
NOT_DEPLOYED: Mapping[str, str] = {
    "GRAPH_BASE_URL": "an address other than the cloud's Graph is a simulator",
    "ALLOW_CUSTOM_ENDPOINTS": "it allows a simulator",
    "LEASE_DURATION": "only a simulator has another lease than Graph",
    "CALLS_STORAGE": "a connection string is a secret; the addresses are deployed instead",
    "GRAPH_CLIENT_SECRET": "a secret; the app uses its managed identity instead",
    "GRAPH_CERTIFICATE_PATH": "the package has no such file; the app uses its managed identity instead",
    "GRAPH_CERTIFICATE_PASSWORD": "the password of that file",
}

# Properties that Azure documents but the published types lack: a directive suppresses the compiler's BCP037.
SUPPRESSED: frozenset[tuple[str, str]] = frozenset(
    {
        ("modules/function-app.bicep", "functionsRuntimeAdminIsolationEnabled"),
        ("modules/function-app.bicep", "siteUpdateStrategy"),
    }
)


@dataclass(frozen=True, slots=True)
class Must:
    """A property that every resource of a type must have, as a literal, with one of these values."""

    resource: str
    path: str
    values: tuple[str | int | bool, ...]
    why: str


MUSTS = (
    Must("Microsoft.Web/sites", "properties.httpsOnly", (True,), "requests carry tokens"),
    Must("Microsoft.Web/sites", "properties.siteConfig.minTlsVersion", ("1.2", "1.3"), "older TLS is broken"),
    Must("Microsoft.Web/sites", "properties.siteConfig.scmMinTlsVersion", ("1.2", "1.3"), "older TLS is broken"),
    Must("Microsoft.Web/sites", "properties.siteConfig.remoteDebuggingEnabled", (False,), "production is not debugged"),
    Must(
        "Microsoft.Web/sites",
        "properties.functionsRuntimeAdminIsolationEnabled",
        (True,),
        "/admin is closed to the outside",
    ),
    Must("Microsoft.Web/sites", "properties.clientAffinityEnabled", (False,), "all instances are equal"),
    Must("Microsoft.Web/sites", "identity.type", ("UserAssigned",), "the identity has its roles before the app starts"),
    Must("Microsoft.Web/sites", "properties.functionAppConfig.runtime.name", ("python",), "the app is Python"),
    Must("Microsoft.Web/sites", "properties.functionAppConfig.runtime.version", ("3.13",), "as .python-version says"),
    Must(
        "Microsoft.Web/sites",
        "properties.functionAppConfig.deployment.storage.authentication.type",
        ("UserAssignedIdentity",),
        "the package is read without a key",
    ),
    Must(
        "Microsoft.Web/sites",
        "properties.functionAppConfig.siteUpdateStrategy.type",
        ("Recreate",),
        "one version runs at a time",
    ),
    Must("Microsoft.Web/sites/basicPublishingCredentialsPolicies", "properties.allow", (False,), "no passwords"),
    Must("Microsoft.Web/serverfarms", "sku.name", ("FC1",), "Flex Consumption"),
    Must("Microsoft.Web/serverfarms", "properties.reserved", (True,), "Linux"),
    Must("Microsoft.Storage/storageAccounts", "properties.allowSharedKeyAccess", (False,), "identity only"),
    Must("Microsoft.Storage/storageAccounts", "properties.defaultToOAuthAuthentication", (True,), "identity only"),
    Must("Microsoft.Storage/storageAccounts", "properties.allowBlobPublicAccess", (False,), "nothing is public"),
    Must(
        "Microsoft.Storage/storageAccounts",
        "properties.allowCrossTenantReplication",
        (False,),
        "data stays in the tenant",
    ),
    Must("Microsoft.Storage/storageAccounts", "properties.isLocalUserEnabled", (False,), "identity only"),
    Must(
        "Microsoft.Storage/storageAccounts",
        "properties.isHnsEnabled",
        (False,),
        "the Functions host refuses accounts with hierarchical namespaces",
    ),
    Must("Microsoft.Storage/storageAccounts", "properties.minimumTlsVersion", ("TLS1_2", "TLS1_3"), "older is broken"),
    Must("Microsoft.Storage/storageAccounts", "properties.supportsHttpsTrafficOnly", (True,), "no unencrypted traffic"),
    Must(
        "Microsoft.Storage/storageAccounts/blobServices/containers",
        "properties.publicAccess",
        ("None",),
        "nothing is public",
    ),
    Must(
        "Microsoft.Insights/components",
        "properties.DisableLocalAuth",
        (True,),
        "the connection string alone gives no access",
    ),
    Must("Microsoft.OperationalInsights/workspaces", "properties.features.disableLocalAuth", (True,), "identity only"),
    Must(
        "Microsoft.Authorization/roleAssignments",
        "properties.principalType",
        ("ServicePrincipal",),
        "Azure finds a new identity",
    ),
    Must("Microsoft.Insights/scheduledQueryRules", "properties.enabled", (True,), "a disabled alert never fires"),
)
