"""App settings that have no place on the Flex Consumption plan, each with its reason.

The proof of a deployment, the doctor and the tests of `infra/` read the same lists.
"""

from collections.abc import Iterable, Mapping

# With one of these the app does not run as it was deployed.
BREAKING_SETTINGS: Mapping[str, str] = {
    "AzureWebJobsStorage": "the host takes this connection string, even an empty one, instead of its identity, "
    "and cannot read its function keys",  # Azure/azure-functions-host#11796
    "WEBSITE_RUN_FROM_PACKAGE": "it names another package than the one that is deployed",
}

# Flex refuses these, or nothing reads them there; APPINSIGHTS_INSTRUMENTATIONKEY would bring a key back.
REFUSED_SETTINGS: Mapping[str, str] = {
    "APPINSIGHTS_INSTRUMENTATIONKEY": "telemetry is sent with the identity",
    "AzureWebJobsDashboard": "the host has no such dashboard any more",
    "ENABLE_ORYX_BUILD": "the upload says whether Azure builds",
    "FUNCTIONS_EXTENSION_VERSION": "the plan has one version",
    "FUNCTIONS_WORKER_PROCESS_COUNT": "the plan scales by instances",
    "FUNCTIONS_WORKER_RUNTIME": "functionAppConfig.runtime says it",
    "FUNCTIONS_WORKER_RUNTIME_VERSION": "functionAppConfig.runtime says it",
    "SCM_DO_BUILD_DURING_DEPLOYMENT": "the upload says whether Azure builds",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING": "functionAppConfig.deployment says where the package is",
    "WEBSITE_CONTENTSHARE": "functionAppConfig.deployment says where the package is",
    "WEBSITE_TIME_ZONE": "schedules are in UTC",
}

HARMFUL_SETTINGS: Mapping[str, str] = {**BREAKING_SETTINGS, **REFUSED_SETTINGS}


def among(names: Iterable[str], listed: Mapping[str, str]) -> list[str]:
    """Tell those names of a list that an app has, in the list's order; the host does not mind the case of a name."""
    has = {name.lower() for name in names}
    return [name for name in listed if name.lower() in has]
