"""App settings that must not be set on the Flex Consumption plan, each with its reason.

The proof of a deployment, the doctor and the tests of `infra/` read these lists.
"""

from collections.abc import Iterable, Mapping

# With one of these the deployed app does not run, or does not run as deployed.
BREAKING_SETTINGS: Mapping[str, str] = {
    "AzureWebJobsStorage": "the host uses this connection string, even an empty one, instead of its identity, "
    "and cannot read its function keys",  # Azure/azure-functions-host#11796
    "WEBSITE_RUN_FROM_PACKAGE": "it names another package than the deployed one",
}

# Flex refuses these, or nothing reads them there; two of them would contain a key again. Sources: `az functionapp
# flex-migration` does not copy them (azure-cli, appservice/custom.py); Microsoft's page 'Flex Consumption plan',
# Considerations, for time zones and certificates.
REFUSED_SETTINGS: Mapping[str, str] = {
    "APPINSIGHTS_INSTRUMENTATIONKEY": "telemetry is sent with the identity",
    "AzureWebJobsDashboard": "the host no longer has this dashboard",
    "ENABLE_ORYX_BUILD": "the upload says whether Azure builds",
    "FUNCTIONS_EXTENSION_VERSION": "the plan has one version",
    "FUNCTIONS_MAX_HTTP_CONCURRENCY": "functionAppConfig.scaleAndConcurrency says it",
    "FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED": "the plan scales by instances",
    "FUNCTIONS_WORKER_PROCESS_COUNT": "the plan scales by instances",
    "FUNCTIONS_WORKER_RUNTIME": "functionAppConfig.runtime says it",
    "FUNCTIONS_WORKER_RUNTIME_VERSION": "functionAppConfig.runtime says it",
    "SCM_DO_BUILD_DURING_DEPLOYMENT": "the upload says whether Azure builds",
    "TZ": "schedules are in UTC",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING": "functionAppConfig.deployment says where the package is",
    "WEBSITE_CONTENTOVERVNET": "functionAppConfig.deployment says where the package is",
    "WEBSITE_CONTENTSHARE": "functionAppConfig.deployment says where the package is",
    "WEBSITE_DNS_SERVER": "the virtual network says which server answers",
    "WEBSITE_LOAD_CERTIFICATES": "the plan loads no certificates",
    "WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT": "functionAppConfig.scaleAndConcurrency says it",
    "WEBSITE_MOUNT_ENABLED": "functionAppConfig.deployment says where the package is",
    "WEBSITE_NODE_DEFAULT_VERSION": "functionAppConfig.runtime says it",
    "WEBSITE_SKIP_CONTENTSHARE_VALIDATION": "functionAppConfig.deployment says where the package is",
    "WEBSITE_TIME_ZONE": "schedules are in UTC",
    "WEBSITE_USE_PLACEHOLDER_DOTNETISOLATED": "functionAppConfig.runtime says it",
    "WEBSITE_VNET_ROUTE_ALL": "all traffic already uses the virtual network",
}

HARMFUL_SETTINGS: Mapping[str, str] = {**BREAKING_SETTINGS, **REFUSED_SETTINGS}


def among(names: Iterable[str], listed: Mapping[str, str]) -> list[str]:
    """Return the names of a list that an app has, in the order of the list. The host ignores the case of a name."""
    present = {name.lower() for name in names}
    return [name for name in listed if name.lower() in present]
