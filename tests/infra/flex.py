"""Properties that Flex Consumption refuses, ignores or accepts, and its regions, with sources as of 2026-11-30.

`release/flex.py` has the app settings that it refuses, because the proof of a deployment and the doctor use them too.
"""

from collections.abc import Mapping

_ERROR_51021 = "named in ARM's error 51021: Azure/terraform-azurerm-avm-res-web-site#345, #360"
_AZURERM = "azurerm sends it for azurerm_function_app_flex_consumption"
# learn.microsoft.com/azure/azure-functions/functions-app-settings. If a repository names a property too, it is the
# source.
_DEPRECATED = "Microsoft's page of app settings, Flex Consumption plan deprecations"
_GUIDE = "repository azure-functions-flex-consumption-migration-guide: to be removed"

# Properties of a site that Flex Consumption refuses or ignores. Older scale units of Azure ignore what newer ones
# refuse, so one successful deployment does not prove that a property is accepted.
FLEX_REFUSES: Mapping[str, str] = {
    "properties.siteConfig.ftpsState": f"{_ERROR_51021}. FTP is disabled by basicPublishingCredentialsPolicies/ftp",
    "properties.siteConfig.functionAppScaleLimit": f"Azure/azure-functions-host#10643. {_ERROR_51021}",
    "properties.siteConfig.functionsRuntimeScaleMonitoringEnabled": _ERROR_51021,
    "properties.siteConfig.linuxFxVersion": f"{_ERROR_51021}. functionAppConfig.runtime replaces it",
    "properties.siteConfig.netFrameworkVersion": _ERROR_51021,
    "properties.siteConfig.preWarmedInstanceCount": f"{_ERROR_51021}. alwaysReady replaces it",
    "properties.siteConfig.use32BitWorkerProcess": _ERROR_51021,
    "properties.siteConfig.alwaysOn": "terraform-azurerm-avm-res-web-site#345 leaves it out",
    "properties.siteConfig.javaVersion": _DEPRECATED,
    "properties.siteConfig.powerShellVersion": _DEPRECATED,
    "properties.siteConfig.vnetRouteAllEnabled": f"{_GUIDE}. All traffic takes the virtual network",
    "properties.siteConfig.windowsFxVersion": f"Flex Consumption is Linux. {_GUIDE}",
    "properties.siteConfig.minimumElasticInstanceCount": "for Elastic Premium: terraform-azurerm-avm-res-web-site#353",
    "properties.siteConfig.healthCheckPath": "microsoft/azure-skills, functions/reliability.md: not supported",
    "properties.containerSize": f"{_DEPRECATED}. instanceMemoryMB replaces it",
    "properties.dailyMemoryTimeQuota": "REST reference of Microsoft.Web/sites: applicable on dynamic apps only",
    "properties.isXenon": _DEPRECATED,
    "properties.outboundVnetRouting": "holds the vnet* properties since API version 2025-03-01: azure-sdk-for-net",
    "properties.reserved": f"isReserved in {_DEPRECATED}. The plan says that it is Linux",
    "properties.vnetBackupRestoreEnabled": _GUIDE,
    "properties.vnetContentShareEnabled": _GUIDE,
    "properties.vnetImagePullEnabled": _GUIDE,
    "properties.vnetRouteAllEnabled": _GUIDE,
}

# Properties of a Flex site that are known to deploy. A new property needs an entry here, with its source.
FLEX_ACCEPTS: Mapping[str, Mapping[str, str]] = {
    "properties": {
        "clientAffinityEnabled": "AVM module web/site; false is Azure's default",
        "functionAppConfig": "required: error of Azure/bicep-registry-modules#3389",
        "functionsRuntimeAdminIsolationEnabled": "Microsoft's page of app settings: a property of the site",
        "keyVaultReferenceIdentity": "hashicorp/terraform-provider-azurerm#31439 sends it; null without references",
        "httpsOnly": "functions-quickstart-python-http-azd, by AVM module web/site",
        "publicNetworkAccess": _AZURERM,
        "serverFarmId": "azure-functions-flex-consumption-samples, IaC/bicep",
        "siteConfig": "azure-functions-flex-consumption-samples, IaC/bicep",
        "virtualNetworkSubnetId": "functions-quickstart-python-http-azd; null without a network",
    },
    "properties.siteConfig": {
        "appSettings": "azure-functions-flex-consumption-samples, IaC/bicep",
        "http20Enabled": _AZURERM,
        "minTlsVersion": _AZURERM,
        "remoteDebuggingEnabled": _AZURERM,
        "scmMinTlsVersion": _AZURERM,
    },
}

# Regions of the global cloud that offer Flex Consumption, without the canary region eastus2euap. Source: `location` in
# infra/main.bicep of functions-quickstart-python-http-azd and of remote-mcp-functions-python (Azure-Samples).
FLEX_REGIONS = (
    "australiaeast",
    "australiasoutheast",
    "brazilsouth",
    "canadacentral",
    "centralindia",
    "centralus",
    "eastasia",
    "eastus",
    "eastus2",
    "francecentral",
    "germanywestcentral",
    "italynorth",
    "japaneast",
    "koreacentral",
    "northcentralus",
    "northeurope",
    "norwayeast",
    "southafricanorth",
    "southcentralus",
    "southeastasia",
    "southindia",
    "spaincentral",
    "swedencentral",
    "uaenorth",
    "uksouth",
    "ukwest",
    "westcentralus",
    "westeurope",
    "westus",
    "westus2",
    "westus3",
)
