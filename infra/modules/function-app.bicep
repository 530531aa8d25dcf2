// The app on Flex Consumption, with its settings. Everything it needs to start, roles included, is there before it.

@description('Name of the app, at most 32 characters: the host\'s id is made of the first 32, and two apps of one id steal each other\'s timers.')
@minLength(2)
@maxLength(32)
param name string

@description('Name of the plan.')
param planName string

@description('Azure region.')
param location string

@description('Tags of the app and its plan.')
param tags object

@description('Call Keeper\'s own settings, by name. The app takes an empty one for one that is not set.')
param settings object

@description('Settings whose values stay in Key Vault: the name of each setting, and the address of its secret.')
param keyVaultReferences object

@description('User-assigned identity of the app.')
param identityName string

@description('Client id of that identity.')
param identityClientId string

@description('Storage account of the Functions host.')
param hostAccountName string

@description('Container of the host\'s account for the deployed package.')
param packageContainer string

@description('Storage account of calls.')
param callsAccountName string

@description('Application Insights component that telemetry goes to.')
param componentName string

@description('Log Analytics workspace that logs and metrics of the platform go to, with diagnostics.')
param workspaceId string

@description('Whether the app has a diagnostic setting. Microsoft does not support one on Flex Consumption.')
param diagnostics bool

@description('Subnet through which the app reaches its storage; empty for none.')
param subnetId string

@description('Memory of an instance in MB.')
param instanceMemoryMB int

@description('Instances at most.')
param maximumInstanceCount int

@description('Requests that one instance serves at once.')
param httpConcurrency int

@description('Instances kept ready for HTTP.')
param alwaysReadyHttp int

@description('Instances kept ready for the timer.')
param alwaysReadyTimer int

@description('Whether instances are spread over availability zones.')
param zoneRedundant bool

var storageSuffix = environment().suffixes.storage

// The platform reads the secrets with the app's identity. The app sees their values in its settings.
var secretSettings = toObject(
  items(keyVaultReferences),
  entry => entry.key,
  entry => '@Microsoft.KeyVault(SecretUri=${entry.value})'
)

// The host knows the addresses of an account by its name in the global cloud alone; there the name is what deployment
// tools look for. Elsewhere it needs the addresses.
var hostStorage = environment().name == 'AzureCloud'
  ? { AzureWebJobsStorage__accountName: hostAccountName }
  : {
      AzureWebJobsStorage__blobServiceUri: 'https://${hostAccountName}.blob.${storageSuffix}'
      AzureWebJobsStorage__queueServiceUri: 'https://${hostAccountName}.queue.${storageSuffix}'
      AzureWebJobsStorage__tableServiceUri: 'https://${hostAccountName}.table.${storageSuffix}'
    }

// With a user-assigned identity the host asks for `credential` and `clientId` both, on either connection.
var identitySettings = {
  AZURE_CLIENT_ID: identityClientId
  AZURE_AUTHORITY_HOST: environment().authentication.loginEndpoint
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  CALLS_STORAGE__tableServiceUri: 'https://${callsAccountName}.table.${storageSuffix}'
  CALLS_STORAGE__queueServiceUri: 'https://${callsAccountName}.queue.${storageSuffix}'
  CALLS_STORAGE__credential: 'managedidentity'
  CALLS_STORAGE__clientId: identityClientId
}

// The host's own bound on bodies, 100 MB by default; the app takes 4 MiB, and has a body in memory before it can refuse it.
var hostSettings = {
  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '5242880'
}

// The worker sends telemetry by OpenTelemetry, proving itself by the identity: the component takes nothing else.
var telemetrySettings = {
  APPLICATIONINSIGHTS_CONNECTION_STRING: component.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY: 'true'
  // Call Keeper's own events; what libraries log stays out.
  PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME: 'call_keeper'
  // All spans: the default of five a second would tear a webhook from the request to Graph that it led to.
  OTEL_TRACES_SAMPLER: 'microsoft.fixed_percentage'
  OTEL_TRACES_SAMPLER_ARG: '1'
}

var alwaysReady = [
  { name: 'http', instanceCount: alwaysReadyHttp }
  { name: 'function:keep_alive_timer', instanceCount: alwaysReadyTimer }
]

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    // Graph calls the webhook from the internet.
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    // Without it the platform takes the system-assigned identity for references, and the app has none.
    keyVaultReferenceIdentity: empty(keyVaultReferences) ? null : identity.id
    // Shuts /admin off from outside: the master key cannot run functions or read the host's state.
    // Documented, but not in the published types.
    #disable-next-line BCP037
    functionsRuntimeAdminIsolationEnabled: true
    // Flex Consumption refuses most properties of siteConfig: tests/infra/flex.py has the list. FTP is shut below.
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      http20Enabled: true
      remoteDebuggingEnabled: false
      appSettings: map(
        items(union(settings, secretSettings, hostSettings, hostStorage, identitySettings, telemetrySettings)),
        setting => { name: setting.key, value: setting.value }
      )
    }
    functionAppConfig: {
      runtime: { name: 'python', version: '3.13' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: 'https://${hostAccountName}.blob.${storageSuffix}/${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: filter(alwaysReady, group => group.instanceCount > 0)
        triggers: { http: { perInstanceConcurrency: httpConcurrency } }
      }
      // Recreate: a minute's pause, which 45-minute leases do not feel, and then one version alone. RollingUpdate is a
      // preview, lets two versions run for up to an hour, and does not say when it is done: nothing could be proved.
      // Documented, but not in the published types.
      #disable-next-line BCP037
      siteUpdateStrategy: { type: 'Recreate' }
    }
  }

  // No user name and password for deployments, by whatever way.
  resource noBasicFtp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  resource noBasicScm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }
}

// Off by default: Microsoft's page on the plan says that diagnostic settings are not supported. The app sends its
// telemetry to Application Insights by itself, and no alert or query reads FunctionAppLogs.
// The preview is the version that Microsoft's samples use; there is no newer one in every cloud.
#disable-next-line use-recent-api-versions
resource platformLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (diagnostics) {
  scope: app
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'FunctionAppLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

@description('Host name of the app.')
output hostName string = app.properties.defaultHostName
