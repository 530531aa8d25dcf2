// The app's one identity. User-assigned: its roles exist before the app first starts and needs its storage.

@description('Name of the user-assigned managed identity.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether a lock refuses its deletion: with it go the federated credential and consent that an administrator gave.')
param deleteLock bool

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (deleteLock) {
  scope: identity
  name: 'keep'
  properties: {
    level: 'CanNotDelete'
    notes: 'The bot trusts this identity. Delete the lock first.'
  }
}

@description('Client (application) id: what AZURE_CLIENT_ID and the settings of identity-based connections name.')
output clientId string = identity.properties.clientId

@description('Object id of its service principal: what roles and the federated credential name.')
output principalId string = identity.properties.principalId
