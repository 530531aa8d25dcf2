// Call Keeper in a resource group: one deployment serves one bot, or several by graphApps. No parameter, setting or output is a secret.
targetScope = 'resourceGroup'

// --- What it is called and where it runs ---

@description('Name of this deployment, part of all names: lower-case letters, digits, hyphens. Another name is another deployment, side by side.')
@minLength(2)
@maxLength(13)
param name string

@description('Azure region. It must offer Flex Consumption: az functionapp list-flexconsumption-locations. docs/regions.md has the list of 2026-11-30.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags object = {}

@description('Whether locks refuse the deletion of both storage accounts and of the identity, until the locks are deleted.')
param deleteLock bool = false

// --- The bot ---

@description('The calling bot\'s application (client) id.')
@minLength(36)
@maxLength(36)
param graphAppId string

@description('How the app proves to be the bot: `federated`, where the bot\'s app registration trusts the identity of this deployment, or `managedIdentity`, where that identity is the bot.')
@allowed(['federated', 'managedIdentity'])
param graphCredential string = 'federated'

@description('Graph\'s cloud.')
@allowed(['global', 'usgov-l4', 'usgov-l5'])
param graphCloud string = environment().name == 'AzureUSGovernment' ? 'usgov-l4' : 'global'

@description('The tenant, by GUID, of calls that are registered without one; empty to refuse those.')
param graphTenantId string = ''

@description('Further bots beside graphAppId: appId, credential (`federated`), tenantId if they have one of their own; see docs/settings.md. No secrets here.')
param graphApps object[] = []

@description('Graph\'s action for recordings: `recordResponse`, or the old beta `record`.')
@allowed(['recordResponse', 'record'])
param graphRecordApi string = 'recordResponse'

@description('How long one request to Graph may take, up to PT1M.')
param graphTimeout string = 'PT10S'

@description('The only tenants whose calls are kept, by GUID; empty for all.')
param allowedTenantIds string[] = []

@description('Audiences of Graph\'s notification tokens of the legacy kind; empty for the bot\'s application id.')
param notificationAudiences string[] = []

@description('Issuers of Graph\'s notification tokens of the legacy kind; empty for the known ones.')
param notificationIssuers string[] = []

@description('OpenID metadata of the keys of notification tokens of the legacy kind; empty for the cloud\'s.')
param notificationMetadataUrls string[] = []

@description('The only apps, by client id, that may send notifications (`appid` or `azp` of their tokens); empty: with tokens of Entra Microsoft\'s calling service, with those of the legacy kind all.')
param notificationAppIds string[] = []

@description('Hosts that OpenID metadata may lead to for keys, besides the metadata\'s own.')
param signingKeyHosts string[] = []

// --- Who may manage calls ---

@description('Audiences of the Entra tokens that management routes need beside the function key. Never empty, so that a key alone opens nothing. By default the bot\'s own registration carries the app roles; where the identity is the bot, name another registration.')
@minLength(1)
param managementAudiences string[] = [graphAppId, 'api://${graphAppId}']

@description('The tenant that issues those tokens, by GUID.')
@minLength(36)
@maxLength(36)
param managementTenantId string = tenant().tenantId

@description('Issuers of those tokens; empty for the tenant\'s.')
param managementIssuers string[] = []

@description('OpenID metadata of the keys of those tokens; empty for the tenant\'s.')
param managementMetadataUrl string = ''

@description('Which calls each caller may see and touch: client ids, or * for all others, each with {tenants: [...], apps: [...]}, one of them or both (10 ids at most), or with \'all\'. Callers that it does not name are refused. Empty: every caller with an app role sees all calls.')
param managementCallers object = {}

// --- Keeping calls alive ---

@description('When all calls are renewed: NCRONTAB, six fields, UTC. Every 5 to 15 minutes; a lease is 45.')
param keepAliveSchedule string = '0 */15 * * * *'

@description('The most requests that an instance sends to Graph in any second.')
@minValue(1)
@maxValue(10000)
param graphRequestsPerSecond int = 500

@description('keepAlive requests in flight at once, in a sweep.')
@minValue(1)
@maxValue(256)
param keepAliveConcurrency int = 32

@description('How long one sweep may take, well below the 5 minutes of `functionTimeout`; what it leaves goes to the queue.')
param sweepBudget string = 'PT4M'

@description('With more active calls than this the shards are swept by one queue message each, on as many instances as that needs.')
@minValue(0)
param sweepFanOutThreshold int = 20000

@description('How long ended calls stay on record.')
param endedCallRetention string = 'P30D'

// --- Relay: docs/settings.md, section Relay ---

@description('Where the notifications of calls are relayed to, and their events; the members are those of RELAY_TARGETS in docs/settings.md. Empty: no relay.')
param relayTargets relayTarget[] = []

@description('How long the first attempt to deliver a notification may take, up to PT10S: Graph waits for it.')
param relayBudget string = 'PT1.5S'

@description('How long a notification whose answer Graph needs may wait for the bot, up to PT12S.')
param relaySyncBudget string = 'PT10S'

@description('How long the body of a delivery is kept that is dead or disabled, so that it can be replayed. It may hold personal data.')
param relayBodyRetention string = 'P7D'

@description('Whether a target may have a private address, as in a network that the app reaches by privateNetwork. Never link-local ones.')
param relayAllowPrivateAddresses bool = false

@description('Settings whose values stay in Key Vault: the name of each setting, and the https address of its secret. The identity of this deployment needs the role Key Vault Secrets User at that vault.')
param keyVaultReferences object = {}

// --- Size and cost. Prices: https://azure.microsoft.com/pricing/details/functions ---

@description('Memory of an instance in MB. Running time is billed by GB and second: twice the memory costs twice as much a second.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Instances at most: the ceiling of what a rush of requests can cost.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Requests that one instance serves at once. The platform\'s default for Python is 1, an instance a request; these routes wait for storage and Graph, so one instance serves many, and fewer instance seconds are billed.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int = 16

@description('Instances kept ready for the webhook and the API, so that Graph never waits for a cold start. Billed every second, used or not: a month of one is memory in GB x 2,628,000 s x the price of an always-ready baseline GB-second; executions on it are billed besides. 0: nothing is billed while idle. With zoneRedundant: 0, or 2 and more.')
@minValue(0)
@maxValue(100)
param alwaysReadyHttp int = 0

@description('Instances kept ready for the timer, so that sweeps begin on time. Billed as alwaysReadyHttp: a month of one is memory in GB x 2,628,000 s x the price of an always-ready baseline GB-second. Without zones more than 1 is waste: the timer runs once. With zoneRedundant: 0 or 2.')
@minValue(0)
@maxValue(2)
param alwaysReadyTimer int = 0

@description('Whether instances are spread over availability zones, where the region has them. Take a ZRS storage SKU with it. With zones Flex refuses a count of 1 in alwaysReadyHttp and alwaysReadyTimer, and keeps at least two always-ready instances for each scaling group (HTTP, timer, queue), whatever those two say; with relayTargets there is one timer and one queue more. All of them are billed as such: six or more, ten with the relay.')
param zoneRedundant bool = false

@description('Redundancy of both storage accounts. Stored GB and requests are billed; LRS is the cheapest, ZRS outlives the loss of a zone.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageSku string = 'Standard_LRS'

// --- Network ---

@description('Whether the app reaches its storage by private endpoints, and storage refuses the internet. Billed: each of four endpoints by the hour and by the GB, three DNS zones by the month. The webhook stays public.')
param privateNetwork bool = false

@description('Address range of that network, /24 or larger.')
param addressPrefix string = '10.40.0.0/24'

// --- Watching it ---

@description('Addresses that alerts are sent to. Each alert rule is billed by the month; emails are not, up to a generous number.')
param alertEmails string[] = []

@description('Places, by Application Insights\' ids, that GET /api/health is asked from every 5 minutes, such as emea-nl-ams-azr. Each run is billed: places x 8,760 a month. Empty for no test.')
param healthTestLocations string[] = []

@description('Days that logs are kept. 31 are part of the price of ingestion; more are billed by GB and month.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Cap on ingested logs in GB a day; -1 for none. What is ingested is billed by GB. A cap makes the deployment blind for the rest of the day once reached.')
@minValue(-1)
param logDailyCapGb int = -1

@description('Whether the function app has a diagnostic setting for FunctionAppLogs and AllMetrics. Microsoft does not support one on Flex Consumption, so a deployment with it may be refused. Telemetry, alerts and queries do without.')
param functionAppDiagnostics bool = false

// The compiler refuses a misspelt member of a target; the app would turn the relay off.
@sealed()
type relayTarget = {
  @description('How logs, lists of deliveries and replays name it: lower-case letters, digits, hyphens.')
  @minLength(1)
  @maxLength(40)
  name: string

  @description('Where it listens: https, with {to} once in the path if its instances have addresses of their own.')
  url: string

  @description('`graph`: the notifications, as Graph sends them. `events`: the events of calls.')
  format: 'graph' | 'events'

  @description('The bot whose calls it gets, by client id.')
  appId: string?

  @description('The only types of events that it gets.')
  types: string[]?

  @description('Whom the token of a delivery is for: an application id, or an App ID URI.')
  audience: string?

  @description('The name of the setting that holds the key of its signatures, from keyVaultReferences.')
  secretSetting: string?
}

var stem = toLower(name)
// 13 characters of the resource group and the name: the same each time, and another for another deployment.
var suffix = uniqueString(resourceGroup().id, stem)
var functionAppName = 'func-${stem}-${suffix}' // at most 5 + 13 + 1 + 13 = 32
var hostAccountName = 'sthost${suffix}'
var callsAccountName = 'stcalls${suffix}'
var identityName = 'id-${stem}-${suffix}'
var componentName = 'appi-${stem}-${suffix}'
var networkName = 'vnet-${stem}-${suffix}'
var packageContainer = 'packages'

// The parameter files put zeros for a variable that is unset, and nothing for an empty one. No caller could get in with
// either, so the deployment is refused.
var zeros = '00000000-0000-0000-0000-' // how such an id begins
// By default the audiences hold graphAppId, so with a hollow one the deployment is refused for that alone.
var hollowAudiences = startsWith(graphAppId, zeros)
  ? []
  : filter(managementAudiences, audience => empty(replace(audience, 'api://', '')) || contains(audience, zeros))

// With zones Flex Consumption refuses a scaling group that has one always-ready instance: none, or two and more. An error
// of Azure's would come in the middle of the deployment, and would not name the parameter.
var alwaysReady = {
  http: zoneRedundant && alwaysReadyHttp == 1
    ? fail('With zoneRedundant one always-ready instance is refused: set alwaysReadyHttp to 0, or to 2 or more')
    : alwaysReadyHttp
  timer: zoneRedundant && alwaysReadyTimer == 1
    ? fail('With zoneRedundant one always-ready instance is refused: set alwaysReadyTimer to 0 or 2')
    : alwaysReadyTimer
}

// The app would refuse such targets when it reads its settings, and run without the relay.
var relayNames = map(relayTargets, target => target.name)
var relayPlain = filter(relayTargets, target => !startsWith(target.url, 'https://'))
var relayUnproved = filter(
  relayTargets,
  target => target.format == 'events' && empty(target.?audience ?? '') && empty(target.?secretSetting ?? '')
)
var relayUnset = filter(
  relayTargets,
  target => !empty(target.?secretSetting ?? '') && !contains(keyVaultReferences, target.?secretSetting ?? '')
)
var relayChecks = [
  length(union(relayNames, relayNames)) < length(relayNames) ? 'two have one name' : ''
  empty(relayPlain) ? '' : 'the url of ${relayPlain[0].name} does not begin with https://'
  empty(relayUnproved) ? '' : '${relayUnproved[0].name} gets events, so it needs audience or secretSetting'
  empty(relayUnset) ? '' : 'the secretSetting of ${relayUnset[0].name} is not in keyVaultReferences'
]
var relayFaults = filter(relayChecks, fault => !empty(fault))

// A secret itself would be readable in the deployment's history.
var hollowReferences = filter(items(keyVaultReferences), entry => !startsWith(entry.value, 'https://'))

// Without targets the app gets none of these, and has no function of the relay.
var relaySettings = empty(relayTargets)
  ? {}
  : {
      RELAY_TARGETS: empty(relayFaults) ? string(relayTargets) : fail('relayTargets: ${join(relayFaults, '; ')}')
      RELAY_BUDGET: relayBudget
      RELAY_SYNC_BUDGET: relaySyncBudget
      RELAY_BODY_RETENTION: relayBodyRetention
      RELAY_ALLOW_PRIVATE_ADDRESSES: string(relayAllowPrivateAddresses)
    }

// Call Keeper's settings, by the names of shared/config/settings.py. Those of identity and storage are added by the module.
var settings = {
  GRAPH_CLOUD: graphCloud
  GRAPH_APP_ID: startsWith(graphAppId, zeros) ? fail('graphAppId is all zeros: set GRAPH_APP_ID') : graphAppId
  GRAPH_TENANT_ID: graphTenantId
  GRAPH_CREDENTIAL: graphCredential
  GRAPH_APPS: empty(graphApps) ? '' : string(graphApps)
  GRAPH_RECORD_API: graphRecordApi
  GRAPH_TIMEOUT: graphTimeout
  GRAPH_REQUESTS_PER_SECOND: string(graphRequestsPerSecond)
  KEEP_ALIVE_SCHEDULE: keepAliveSchedule
  KEEP_ALIVE_CONCURRENCY: string(keepAliveConcurrency)
  SWEEP_BUDGET: sweepBudget
  SWEEP_FAN_OUT_THRESHOLD: string(sweepFanOutThreshold)
  ENDED_CALL_RETENTION: endedCallRetention
  NOTIFICATION_AUDIENCES: join(notificationAudiences, ',')
  NOTIFICATION_ISSUERS: join(notificationIssuers, ',')
  NOTIFICATION_METADATA_URLS: join(notificationMetadataUrls, ',')
  NOTIFICATION_APP_IDS: join(notificationAppIds, ',')
  ALLOWED_TENANT_IDS: join(allowedTenantIds, ',')
  SIGNING_KEY_HOSTS: join(signingKeyHosts, ',')
  MANAGEMENT_AUDIENCE: empty(hollowAudiences)
    ? join(managementAudiences, ',')
    : fail('managementAudiences names no app registration: set MANAGEMENT_APP_ID')
  MANAGEMENT_TENANT_ID: startsWith(managementTenantId, zeros)
    ? fail('managementTenantId is all zeros: set MANAGEMENT_TENANT_ID')
    : managementTenantId
  MANAGEMENT_ISSUERS: join(managementIssuers, ',')
  MANAGEMENT_METADATA_URL: managementMetadataUrl
  MANAGEMENT_CALLERS: empty(managementCallers) ? '' : string(managementCallers)
}

module identity 'modules/identity.bicep' = {
  name: '${stem}-identity'
  params: {
    name: identityName
    location: location
    tags: tags
    deleteLock: deleteLock
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: '${stem}-monitoring'
  params: {
    name: 'alert-${stem}-${suffix}'
    workspaceName: 'log-${stem}-${suffix}'
    componentName: componentName
    location: location
    tags: tags
    retentionDays: logRetentionDays
    dailyCapGb: logDailyCapGb
    alertEmails: alertEmails
  }
}

// The host writes keys, leases and packages; calls have an account of their own, which nothing else can fill or slow down.
module hostStorage 'modules/storage.bicep' = {
  name: '${stem}-host-storage'
  params: {
    name: hostAccountName
    location: location
    tags: tags
    sku: storageSku
    publicAccess: !privateNetwork
    containers: [packageContainer]
    workspaceId: monitoring.outputs.workspaceId
    deleteLock: deleteLock
  }
}

module callsStorage 'modules/storage.bicep' = {
  name: '${stem}-calls-storage'
  params: {
    name: callsAccountName
    location: location
    tags: tags
    sku: storageSku
    publicAccess: !privateNetwork
    tables: ['calls']
    queues: ['keep-alive', 'keep-alive-poison', 'relay', 'relay-poison']
    workspaceId: monitoring.outputs.workspaceId
    deleteLock: deleteLock
  }
}

module roles 'modules/roles.bicep' = {
  name: '${stem}-roles'
  params: {
    // Part of the assignments' names: an identity that was deleted and made anew must get new ones.
    #disable-next-line what-if-short-circuiting
    principalId: identity.outputs.principalId
    hostAccountName: hostAccountName
    callsAccountName: callsAccountName
    componentName: componentName
  }
  dependsOn: [monitoring, hostStorage, callsStorage]
}

module network 'modules/network.bicep' = if (privateNetwork) {
  name: '${stem}-network'
  params: {
    name: networkName
    location: location
    tags: tags
    addressPrefix: addressPrefix
    hostAccountName: hostAccountName
    callsAccountName: callsAccountName
  }
  dependsOn: [hostStorage, callsStorage]
}

module functionApp 'modules/function-app.bicep' = {
  name: '${stem}-function-app'
  params: {
    name: functionAppName
    planName: 'plan-${stem}-${suffix}'
    location: location
    tags: tags
    settings: union(settings, relaySettings)
    keyVaultReferences: empty(hollowReferences)
      ? keyVaultReferences
      : fail('keyVaultReferences: ${hollowReferences[0].key} has no https address of a secret in Key Vault')
    identityName: identityName
    identityClientId: identity.outputs.clientId
    hostAccountName: hostAccountName
    packageContainer: packageContainer
    callsAccountName: callsAccountName
    componentName: componentName
    workspaceId: monitoring.outputs.workspaceId
    diagnostics: functionAppDiagnostics
    subnetId: privateNetwork ? resourceId('Microsoft.Network/virtualNetworks/subnets', networkName, 'functions') : ''
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpConcurrency: httpConcurrency
    alwaysReadyHttp: alwaysReady.http
    alwaysReadyTimer: alwaysReady.timer
    zoneRedundant: zoneRedundant
  }
  // The app opens its storage as soon as it exists: roles and the way there come first.
  dependsOn: [roles, network]
}

module availability 'modules/availability.bicep' = if (!empty(healthTestLocations)) {
  name: '${stem}-availability'
  params: {
    name: 'health-${stem}-${suffix}'
    location: location
    tags: tags
    locations: healthTestLocations
    healthUrl: 'https://${functionApp.outputs.hostName}/api/health'
    componentName: componentName
    actionGroupId: monitoring.outputs.actionGroupId
  }
}

@description('Name of the function app: what `func azure functionapp publish` and the workflow deploy to.')
output functionAppName string = functionAppName

@description('Where Graph sends notifications: the bot\'s callbackUri.')
output webhookUrl string = 'https://${functionApp.outputs.hostName}/api/notifications'

@description('Where bots and operators ask.')
output apiBaseUrl string = 'https://${functionApp.outputs.hostName}/api'

@description('Client id of the app\'s identity.')
output identityClientId string = identity.outputs.clientId

@description('Object id of the app\'s identity: --identity-principal-id of infra.grant_graph_permissions.')
output identityPrincipalId string = identity.outputs.principalId

@description('Resource id of the Log Analytics workspace.')
output workspaceId string = monitoring.outputs.workspaceId
