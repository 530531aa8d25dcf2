"""What Azure's and the project's documents ask of the infrastructure: tables, each entry with its reason or source."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

# The least API version of each resource type: Flex needs Microsoft.Web 2024-04-01, siteUpdateStrategy 2024-11-01; the
# others are those of Azure's own samples of 2026.
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
# years end on the day when somebody last compared the versions with Azure's, so that time alone fails nothing. Move the
# day when the compiler's version is raised, and look at what the two tables then lack.
VERSIONS_REVIEWED = date(2026, 11, 30)


@dataclass(frozen=True, slots=True)
class OldVersion:
    """A version for which a newer one exists, and why it stays."""

    version: str
    why: str


# Each has a directive in its template.
OLD_VERSIONS: Mapping[str, OldVersion] = {
    "Microsoft.Insights/diagnosticSettings": OldVersion(
        "2021-05-01-preview", "the version of Microsoft's samples, in every cloud; it is a preview"
    ),
    "Microsoft.Insights/metricAlerts": OldVersion(
        "2018-03-01", "2026-01-01 compiles; whether Azure Government takes it is not known"
    ),
    "Microsoft.Insights/scheduledQueryRules": OldVersion(
        "2023-12-01", "2026-03-01 compiles; whether Azure Government takes it is not known"
    ),
}

# Versions that are as old, but the newest: the compiler says nothing of them.
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

# What the app's identity needs, and nothing more: by the param that names the scope.
ROLES: frozenset[tuple[str, str]] = frozenset(
    {
        ("hostAccountName", "Storage Blob Data Owner"),  # leases of timers, function keys, the deployed package
        ("hostAccountName", "Storage Table Data Contributor"),  # the host's diagnostic events
        ("callsAccountName", "Storage Table Data Contributor"),  # calls
        ("callsAccountName", "Storage Queue Data Contributor"),  # wake-ups
        ("componentName", "Monitoring Metrics Publisher"),  # telemetry without a key
    }
)

# Settings of the platform that the function app has beside Call Keeper's own.
PLATFORM_SETTINGS: Mapping[str, str] = {
    "AzureWebJobsStorage__accountName": "the host's account, in the global cloud by its name",
    "AzureWebJobsStorage__blobServiceUri": "the host's account, in other clouds by its addresses",
    "AzureWebJobsStorage__queueServiceUri": "likewise",
    "AzureWebJobsStorage__tableServiceUri": "likewise",
    "AzureWebJobsStorage__credential": "with a user-assigned identity the host asks for this one",
    "AzureWebJobsStorage__clientId": "and for this one beside it",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "the host refuses larger bodies before the app has them in memory",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "where telemetry goes; no secret while local authentication is off",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "telemetry is sent with the identity's token",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "the worker configures OpenTelemetry",
    "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME": "the logger whose lines are sent: Call Keeper's, not the libraries'",
    "OTEL_TRACES_SAMPLER": "spans are sampled by share, not five a second",
    "OTEL_TRACES_SAMPLER_ARG": "the share: all",
}

# Settings of Call Keeper that are not for a deployment.
NOT_DEPLOYED: Mapping[str, str] = {
    "GRAPH_BASE_URL": "another Graph than the cloud's is a simulator",
    "ALLOW_CUSTOM_ENDPOINTS": "likewise",
    "LEASE_DURATION": "another lease than Graph's is a simulator's",
    "CALLS_STORAGE": "a connection string is a secret; the addresses are deployed",
    "GRAPH_CLIENT_SECRET": "a secret; the identity proves the app",
    "GRAPH_CERTIFICATE_PATH": "a file that the package does not hold; the identity proves the app",
    "GRAPH_CERTIFICATE_PASSWORD": "its password",
}

# What the compiler says of properties that are documented but not in the published types.
EXCUSED: frozenset[tuple[str, str]] = frozenset(
    {
        ("modules/function-app.bicep", "functionsRuntimeAdminIsolationEnabled"),
        ("modules/function-app.bicep", "siteUpdateStrategy"),
    }
)


@dataclass(frozen=True, slots=True)
class Must:
    """A property that every resource of a type must have, written out, with one of these values."""

    resource: str
    path: str
    values: tuple[str | int | bool, ...]
    why: str


MUSTS = (
    Must("Microsoft.Web/sites", "properties.httpsOnly", (True,), "tokens travel in requests"),
    Must("Microsoft.Web/sites", "properties.siteConfig.minTlsVersion", ("1.2", "1.3"), "older TLS is broken"),
    Must("Microsoft.Web/sites", "properties.siteConfig.scmMinTlsVersion", ("1.2", "1.3"), "older TLS is broken"),
    Must("Microsoft.Web/sites", "properties.siteConfig.remoteDebuggingEnabled", (False,), "nobody debugs there"),
    Must(
        "Microsoft.Web/sites",
        "properties.functionsRuntimeAdminIsolationEnabled",
        (True,),
        "/admin is shut from outside",
    ),
    Must("Microsoft.Web/sites", "properties.clientAffinityEnabled", (False,), "no instance is special"),
    Must("Microsoft.Web/sites", "identity.type", ("UserAssigned",), "its roles exist before the app starts"),
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
    Must("Microsoft.Storage/storageAccounts", "properties.allowCrossTenantReplication", (False,), "nothing leaves"),
    Must("Microsoft.Storage/storageAccounts", "properties.isLocalUserEnabled", (False,), "identity only"),
    Must("Microsoft.Storage/storageAccounts", "properties.isHnsEnabled", (False,), "the host refuses the others"),
    Must("Microsoft.Storage/storageAccounts", "properties.minimumTlsVersion", ("TLS1_2", "TLS1_3"), "older is broken"),
    Must("Microsoft.Storage/storageAccounts", "properties.supportsHttpsTrafficOnly", (True,), "nothing in the clear"),
    Must(
        "Microsoft.Storage/storageAccounts/blobServices/containers",
        "properties.publicAccess",
        ("None",),
        "nothing is public",
    ),
    Must(
        "Microsoft.Insights/components", "properties.DisableLocalAuth", (True,), "the connection string opens nothing"
    ),
    Must("Microsoft.OperationalInsights/workspaces", "properties.features.disableLocalAuth", (True,), "identity only"),
    Must(
        "Microsoft.Authorization/roleAssignments", "properties.principalType", ("ServicePrincipal",), "new identities"
    ),
    Must("Microsoft.Insights/scheduledQueryRules", "properties.enabled", (True,), "an alert that is off tells nothing"),
)
