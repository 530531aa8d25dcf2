// For real calls: zones, an instance always ready, private storage, locks, people to notify.
using '../main.bicep'

// Zeros stand for what is not in the environment, so that the file compiles; a deployment with them is refused.
param name = 'prod'
param tags = {
  service: 'call-keeper'
  environment: 'production'
}
param deleteLock = true

param graphAppId = readEnvironmentVariable('GRAPH_APP_ID', '00000000-0000-0000-0000-000000000000')
param graphTenantId = readEnvironmentVariable('GRAPH_TENANT_ID', '')
// Calls of other tenants than these are refused. Several: divide the variable with commas.
param allowedTenantIds = empty(readEnvironmentVariable('ALLOWED_TENANT_IDS', ''))
  ? []
  : split(readEnvironmentVariable('ALLOWED_TENANT_IDS', ''), ',')

// An app registration of its own for management: who holds its roles does not depend on the bot's registration.
param managementAudiences = [
  readEnvironmentVariable('MANAGEMENT_APP_ID', '00000000-0000-0000-0000-000000000000')
  'api://${readEnvironmentVariable('MANAGEMENT_APP_ID', '00000000-0000-0000-0000-000000000000')}'
]
param managementTenantId = readEnvironmentVariable('MANAGEMENT_TENANT_ID', '00000000-0000-0000-0000-000000000000')

// With zones Flex keeps at least two always-ready instances for each scaling group (HTTP, timer, queue) and bills them as
// such: six at the least. Where that is too dear, take zoneRedundant = false.
param alwaysReadyHttp = 2
param zoneRedundant = true
param storageSku = 'Standard_ZRS'
param privateNetwork = true

// Without an address alerts show in the portal alone.
param alertEmails = empty(readEnvironmentVariable('ALERT_EMAIL', ''))
  ? []
  : [readEnvironmentVariable('ALERT_EMAIL', '')]
param healthTestLocations = ['emea-nl-ams-azr', 'emea-gb-db3-azr', 'us-va-ash-azr']
param logRetentionDays = 90
