// The rights of the app's identity, all of them. Every role of this deployment is in the one table below.

@description('Object id of the identity.')
param principalId string

@description('Storage account of the Functions host.')
param hostAccountName string

@description('Storage account of calls.')
param callsAccountName string

@description('Application Insights component.')
param componentName string

// Ids of Azure's built-in roles: the same in every tenant and cloud.
var roleIds = {
  'Monitoring Metrics Publisher': '3913510d-42f4-4e42-8a64-420c390055eb'
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  'Storage Queue Data Contributor': '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  'Storage Table Data Contributor': '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

// Blobs of the host: leases of timers, function keys, the deployed package. Tables: its diagnostic events.
// It has no queues: the app's queue is in the account of calls.
var hostRoles = ['Storage Blob Data Owner', 'Storage Table Data Contributor']

// Tables: calls. Queues: wake-ups, which the host's queue trigger reads, and puts into `-poison` when they fail.
var callsRoles = ['Storage Table Data Contributor', 'Storage Queue Data Contributor']

resource hostAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostAccountName
}

resource callsAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: callsAccountName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

// The names are made of scope, identity and role: a repeated deployment finds them, a recreated identity gets new ones.
resource hostAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in hostRoles: {
    scope: hostAccount
    name: guid(hostAccount.id, principalId, roleIds[role])
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[role])
    }
  }
]

resource callsAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in callsRoles: {
    scope: callsAccount
    name: guid(callsAccount.id, principalId, roleIds[role])
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[role])
    }
  }
]

// Application Insights takes no keys here: telemetry is sent with the identity's token.
resource telemetryAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: component
  name: guid(component.id, principalId, roleIds['Monitoring Metrics Publisher'])
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roleIds['Monitoring Metrics Publisher']
    )
  }
}
