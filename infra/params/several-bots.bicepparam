// Several bots that share nothing: one deployment each (one for all takes graphApps in main.bicep), in one resource group or in several; with privateNetwork in a resource group each, as
// the privatelink DNS zones have fixed names. Run it once for each bot, with its BOT_NAME and GRAPH_APP_ID in the environment:
//   BOT_NAME=sales GRAPH_APP_ID=... az deployment group create -g calls -p infra/params/several-bots.bicepparam
using '../main.bicep'

// Zeros stand for what is not in the environment, so that the file compiles; a deployment with them is refused.
// The name is part of every resource's name: deployments of different names share nothing.
param name = readEnvironmentVariable('BOT_NAME', 'bot-one')
param tags = {
  service: 'call-keeper'
  bot: readEnvironmentVariable('BOT_NAME', 'bot-one')
}
param graphAppId = readEnvironmentVariable('GRAPH_APP_ID', '00000000-0000-0000-0000-000000000000')

// Relay: Graph's notifications go to Call Keeper, and from there to the bot's own webhook. Without its address the relay is off.
param relayTargets = empty(readEnvironmentVariable('BOT_WEBHOOK_URL', ''))
  ? []
  : [{ name: 'bot', format: 'graph', url: readEnvironmentVariable('BOT_WEBHOOK_URL', '') }]

// One app registration guards the management of all of them; each caller's role counts for every bot then.
param managementAudiences = [readEnvironmentVariable('MANAGEMENT_APP_ID', '00000000-0000-0000-0000-000000000000')]
param managementTenantId = readEnvironmentVariable('MANAGEMENT_TENANT_ID', '00000000-0000-0000-0000-000000000000')

// Without an address alerts show in the portal alone.
param alertEmails = empty(readEnvironmentVariable('ALERT_EMAIL', ''))
  ? []
  : [readEnvironmentVariable('ALERT_EMAIL', '')]
