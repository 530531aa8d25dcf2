// For azd, which begins with a subscription: a resource group, and main.bicep in it.
targetScope = 'subscription'

@description('Name of the azd environment; its first 13 characters name the deployment, with hyphens for what names of resources do not take.')
@minLength(2)
@maxLength(64)
param environmentName string

// Regions of the global cloud that offer Flex Consumption, as Microsoft's quickstarts list them. azd offers these alone, so
// that no deployment ends with an error of the plan. docs/regions.md says how to see whether there are more by now.
@description('Azure region of the resource group and all in it. It offers Flex Consumption.')
@allowed([
  'australiaeast'
  'australiasoutheast'
  'brazilsouth'
  'canadacentral'
  'centralindia'
  'centralus'
  'eastasia'
  'eastus'
  'eastus2'
  'francecentral'
  'germanywestcentral'
  'italynorth'
  'japaneast'
  'koreacentral'
  'northcentralus'
  'northeurope'
  'norwayeast'
  'southafricanorth'
  'southcentralus'
  'southeastasia'
  'southindia'
  'spaincentral'
  'swedencentral'
  'uaenorth'
  'uksouth'
  'ukwest'
  'westcentralus'
  'westeurope'
  'westus'
  'westus2'
  'westus3'
])
@metadata({ azd: { type: 'location' } })
param location string

@description('The calling bot\'s application (client) id.')
param graphAppId string

@description('The tenant, by GUID, of calls that are registered without one; empty to refuse those.')
param graphTenantId string = ''

@description('Address that alerts are sent to; empty for none.')
param alertEmail string = ''

@description('Whether the app reaches its storage by private endpoints. Billed by the hour.')
param privateNetwork bool = false

// azd takes these in the name of an environment; a resource group may have them, a function app may not. `take` comes
// first, as the compiler loses the least length of a text in `replace`, and would warn of a name that may be empty.
var name = replace(replace(replace(replace(take(environmentName, 13), '_', '-'), '.', '-'), '(', '-'), ')', '-')

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-call-keeper-${environmentName}'
  location: location
  // azd finds what belongs to its environment by this tag.
  tags: { 'azd-env-name': environmentName }
}

module keeper 'main.bicep' = {
  name: 'call-keeper'
  scope: group
  params: {
    name: name
    location: location
    tags: { 'azd-env-name': environmentName }
    graphAppId: graphAppId
    graphTenantId: graphTenantId
    alertEmails: empty(alertEmail) ? [] : [alertEmail]
    privateNetwork: privateNetwork
  }
}

@description('Resource group that azd deployed to.')
output AZURE_RESOURCE_GROUP string = group.name

@description('Name of the function app.')
output FUNCTION_APP_NAME string = keeper.outputs.functionAppName

@description('Where Graph sends notifications: the bot\'s callbackUri.')
output WEBHOOK_URL string = keeper.outputs.webhookUrl

@description('Where bots and operators ask.')
output API_BASE_URL string = keeper.outputs.apiBaseUrl

@description('Client id of the app\'s identity.')
output IDENTITY_CLIENT_ID string = keeper.outputs.identityClientId

@description('Object id of the app\'s identity: what infra.grant_graph_permissions asks for.')
output IDENTITY_PRINCIPAL_ID string = keeper.outputs.identityPrincipalId

@description('Resource id of the Log Analytics workspace.')
output WORKSPACE_ID string = keeper.outputs.workspaceId
