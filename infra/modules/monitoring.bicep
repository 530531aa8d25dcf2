// The storage of telemetry, the people to notify, the eleven alerts, and the workbook. The queries are in infra/queries.

@description('Name of the Log Analytics workspace.')
param workspaceName string

@description('Name of the Application Insights component.')
param componentName string

@description('Prefix of the alerts\' and the action group\'s names.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Days that logs are kept. Beyond the 31 days that are part of the price of ingestion each GB is billed by the month.')
@minValue(30)
@maxValue(730)
param retentionDays int

@description('Cap on ingestion in GB a day; -1 for none. Once it is reached nothing is seen until midnight, and the alert on silence fires.')
@minValue(-1)
param dailyCapGb int

@description('Addresses that alerts are sent to. Without any, alerts show in the portal alone.')
param alertEmails string[]

// An alert fires when its query gives a row. Each query reads its tables by a fuzzy union: a workspace has no tables until
// the first telemetry comes, and Azure disables a rule whose query has failed for a week. Every rule runs every 5 minutes
// and looks back 15 or more, so lines that are ingested late are not missed. An alert that stays on is sent once.
// `lookBack` is how much data a query sees, if that is more than its window. `no-sweep` needs the longest that Azure allows:
// within it, the app's own lines show that code is deployed. See docs/decisions/0028-alert-on-silence.md.
var alertRules = [
  {
    key: 'no-sweep'
    title: 'No sweep finished in 30 minutes'
    severity: 0
    window: 'PT30M'
    lookBack: 'P2D'
    splitBy: []
    query: loadTextContent('../queries/no-sweep.kql')
  }
  {
    key: 'call-at-risk'
    title: 'A call is at risk, or its lease lapsed (408/8537)'
    severity: 1
    window: 'PT30M'
    lookBack: null
    splitBy: []
    query: loadTextContent('../queries/call-at-risk.kql')
  }
  {
    key: 'graph-forbidden'
    title: 'Graph answers 403 for a tenant: consent or tenant is wrong'
    severity: 1
    window: 'PT15M'
    lookBack: null
    splitBy: ['tenantId']
    query: loadTextContent('../queries/graph-forbidden.kql')
  }
  {
    key: 'row-unreadable'
    title: 'A row cannot be read: it is damaged, or a newer version wrote it'
    severity: 1
    window: 'PT30M'
    lookBack: null
    splitBy: []
    query: loadTextContent('../queries/row-unreadable.kql')
  }
  {
    key: 'other-tenant'
    title: 'A tenant sent a notification about a call of another tenant'
    severity: 1
    window: 'PT15M'
    lookBack: null
    splitBy: ['tenantId']
    query: loadTextContent('../queries/other-tenant.kql')
  }
  {
    key: 'relay-down'
    title: 'A bot gets nothing from the relay: its target is down'
    severity: 1
    window: 'PT15M'
    lookBack: 'P1D'
    splitBy: ['target']
    query: loadTextContent('../queries/relay-down.kql')
  }
  {
    key: 'webhook-errors'
    title: 'The webhook answers 5xx: reasons of ends may be lost'
    severity: 2
    window: 'PT15M'
    lookBack: null
    splitBy: []
    query: loadTextContent('../queries/webhook-errors.kql')
  }
  {
    key: 'poison'
    title: 'A wake-up failed five times and was put aside'
    severity: 2
    window: 'PT15M'
    lookBack: null
    splitBy: []
    query: loadTextContent('../queries/poison.kql')
  }
  {
    key: 'relay-dead'
    title: 'A delivery to a bot is dead'
    severity: 2
    window: 'PT15M'
    lookBack: null
    splitBy: ['target']
    query: loadTextContent('../queries/relay-dead.kql')
  }
  {
    key: 'relay-backlog'
    title: 'A delivery to a bot waits for more than 5 minutes'
    severity: 2
    window: 'PT15M'
    lookBack: null
    splitBy: []
    query: loadTextContent('../queries/relay-backlog.kql')
  }
  {
    key: 'timer-silent'
    title: 'The timer did not begin a sweep for an hour; others did'
    severity: 3
    window: 'PT1H'
    lookBack: null
    splitBy: []
    query: loadTextContent('../queries/timer-silent.kql')
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    workspaceCapping: { dailyQuotaGb: dailyCapGb }
    // Who may read is said by Azure roles; the workspace's shared key opens nothing.
    features: { disableLocalAuth: true, enableLogAccessUsingOnlyResourcePermissions: true }
  }
}

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: componentName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    IngestionMode: 'LogAnalytics'
    // With the connection string alone nothing can be sent: the app proves itself with its identity.
    DisableLocalAuth: true
  }
}

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: '${name}-operators'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'callkeeper'
    emailReceivers: [
      for (address, index) in alertEmails: {
        name: 'operator-${index}'
        emailAddress: address
        useCommonAlertSchema: true
      }
    ]
  }
}

// Newer versions compile, but it is not known whether Azure Government takes them.
#disable-next-line use-recent-api-versions
resource alert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for rule in alertRules: {
    name: '${name}-${rule.key}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: rule.title
      description: '${rule.title}. What to do: docs/runbook.md#${rule.key}.'
      severity: rule.severity
      enabled: true
      scopes: [workspace.id]
      evaluationFrequency: 'PT5M'
      windowSize: rule.window
      overrideQueryTimeRange: rule.lookBack
      // Resolves by itself when the condition is over, and tells so.
      autoMitigate: true
      // Validation would ask a workspace that is seconds old, and fail the deployment if it does not answer yet. It finds
      // nothing that `make test` does not: there Microsoft's parser checks each query, with tables and without.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: replace(rule.query, 'WORKSPACE_CREATED', workspace.properties.?createdDate ?? '')
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            dimensions: map(rule.splitBy, column => { name: column, operator: 'Include', values: ['*'] })
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: [actionGroup.id] }
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  // A workbook's name must be a GUID.
  name: guid(workspace.id, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Call Keeper'
    category: 'workbook'
    sourceId: workspace.id
    serializedData: replace(loadTextContent('../workbook.json'), 'WORKSPACE_ID', workspace.id)
  }
}

@description('Resource id of the workspace, for diagnostic settings and for queries.')
output workspaceId string = workspace.id

@description('Resource id of the action group, for the alert on availability.')
output actionGroupId string = actionGroup.id
