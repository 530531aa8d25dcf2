// Azure Government. First: az cloud set --name AzureUSGovernment. Storage and login addresses follow from that cloud.
// First of all see docs/regions.md, section Clouds: that cloud may not offer Flex Consumption yet.
// Name Graph's cloud: usgov-l4 (GCC High) or usgov-l5 (DoD). Graph has no calls API in China.
using '../main.bicep'

// Zeros stand for what is not in the environment, so that the file compiles; a deployment with them is refused.
param name = 'gov'
param location = 'usgovvirginia'
param graphCloud = 'usgov-l4'
param graphAppId = readEnvironmentVariable('GRAPH_APP_ID', '00000000-0000-0000-0000-000000000000')
param graphTenantId = readEnvironmentVariable('GRAPH_TENANT_ID', '')
param managementAudiences = [readEnvironmentVariable('MANAGEMENT_APP_ID', '00000000-0000-0000-0000-000000000000')]
param managementTenantId = readEnvironmentVariable('MANAGEMENT_TENANT_ID', '00000000-0000-0000-0000-000000000000')
param deleteLock = true
param privateNetwork = true
// Without an address alerts show in the portal alone.
param alertEmails = empty(readEnvironmentVariable('ALERT_EMAIL', ''))
  ? []
  : [readEnvironmentVariable('ALERT_EMAIL', '')]
// Places in this cloud have names of their own.
param healthTestLocations = ['usgov-va-azr', 'usgov-phx-azr']
