// Asks /api/health from outside, and tells when it does not answer. Each test run is billed, hence optional.

@description('Name of the test and of its alert.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Ids of the places to ask from. The alert fires when half of them, rounded up, see a failure.')
param locations string[]

@description('Address of GET /api/health.')
param healthUrl string

@description('Application Insights component that the test belongs to.')
param componentName string

@description('Action group that is notified.')
param actionGroupId string

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource test 'Microsoft.Insights/webtests@2022-06-15' = {
  name: name
  location: location
  // The tag ties the test to its component: without it the portal does not show it.
  tags: union(tags, { 'hidden-link:${component.id}': 'Resource' })
  kind: 'standard'
  properties: {
    Name: name
    SyntheticMonitorId: name
    Kind: 'standard'
    Enabled: true
    Frequency: 300
    Timeout: 30
    RetryEnabled: true
    Locations: [for place in locations: { Id: place }]
    // GET: the route is not declared for HEAD.
    Request: { RequestUrl: healthUrl, HttpVerb: 'GET', ParseDependentRequests: false, FollowRedirects: false }
    ValidationRules: { ExpectedHttpStatusCode: 200, SSLCheck: true, SSLCertRemainingLifetimeCheck: 7 }
  }
}

// A newer version compiles, but it is not known whether Azure Government takes it.
#disable-next-line use-recent-api-versions
resource alert 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: name
  location: 'global'
  tags: union(tags, { 'hidden-link:${component.id}': 'Resource', 'hidden-link:${test.id}': 'Resource' })
  properties: {
    description: '/api/health does not answer 200. Its answer names what is wrong. What to do: docs/runbook.md.'
    severity: 1
    enabled: true
    autoMitigate: true
    scopes: [component.id, test.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: test.id
      componentId: component.id
      failedLocationCount: (length(locations) + 1) / 2
    }
    actions: [{ actionGroupId: actionGroupId }]
  }
}
