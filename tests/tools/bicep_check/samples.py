"""Samples of Bicep that the compiler accepts, and samples with one fault each, with a part of the expected message."""

PREFIX = """
@description('The region.')
param location string

@description('A count.')
@minValue(1)
@maxValue(9)
param count int = 3

@description('An optional name.')
param perhaps string?

@description('One of two letters.')
@allowed(['a', 'b'])
param which string = 'a'

@description('The bots.')
param bots { appId: string, tenant: string? }[] = []

@description('The tags.')
param tags object = {}

var sizes = { small: 512, large: 2048 }

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: 'st${uniqueString(resourceGroup().id)}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: count > 5 ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    minimumTlsVersion: which == 'a' ? 'TLS1_2' : 'TLS1_3'
  }

  resource blobs 'blobServices' = {
    name: 'default'
  }
}

@description('A size.')
output size int = perhaps == null ? sizes.small : sizes.large

@description('Applications.')
output applications array = map(bots, bot => '${bot.appId}/${bot.?tenant ?? 'none'}')
"""
MODULE = """
@description('The principal.')
param principalId string

@description('A number of days.')
param days int = 3

@description('The account.')
@minLength(2)
param accountName string = take('st${principalId}', 24)

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName
}

@description('Address.')
output endpoint string = '${account.properties.primaryEndpoints.blob}?${days}'
"""

GOOD = {
    "the common part alone": "",
    "a module with its params": """
module other 'modules/other.bicep' = {
  params: { principalId: account.id, days: 4 }
}

@description('Endpoint.')
output endpoint string = other.outputs.endpoint
""",
    "a conditional module, read with .?": """
module other 'modules/other.bicep' = if (count > 1) {
  params: { principalId: location }
}

@description('Endpoint.')
output endpoint string = other.?outputs.endpoint ?? ''
""",
    "loops, with an index and a condition": """
resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for (bot, at) in bots: if (at < 3) {
    parent: account::blobs
    name: 'bot-${at}'
    properties: { publicAccess: 'None', metadata: { app: bot.appId } }
  }
]
""",
    "settings built with union() and spreads": """
var settings = union({ A: which }, empty(perhaps) ? {} : { B: perhaps! }, { ...tags, 'C-${which}': 'c' })

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: 'func-${take(uniqueString(account.id), 5)}'
  location: location
  properties: {
    siteConfig: { appSettings: [for setting in items(settings): { name: setting.key, value: setting.value }] }
  }
}
""",
    "a ternary over several lines, a multi-line string, a text from a file": """
@description('Text.')
output text string = which == 'a'
  ? loadTextContent('query.kql')
  : '''
    literally ' and ${this}
  '''
""",
    "a finding suppressed with a reason": """
resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: 'func'
  location: location
  properties: {
    #disable-next-line BCP037 // documented, but not in the published types
    functionsRuntimeAdminIsolationEnabled: true
  }
}
""",
}

SITE = """
resource app 'Microsoft.Web/sites@2025-03-01' = {{
  name: 'func-${{uniqueString(location)}}'
  location: location
  properties: {{ {} }}
}}
"""
CONTAINER = """
resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = {{
  {}
}}
"""
OUTPUT = """
@description('A result.')
output result {}
"""
OTHER = "\nmodule other 'modules/other.bicep' = {{ {} }}\n"
BAD: dict[str, tuple[str, str]] = {
    "an unknown property": (SITE.format("httpOnly: true"), "'httpOnly'"),
    "an unknown property in a nested object": (SITE.format("siteConfig: { minTls: '1.2' }"), "'minTls'"),
    "a read-only property": (SITE.format("state: 'Running'"), "app.properties.state is read-only"),
    "a missing required property": (
        "\nresource plan 'Microsoft.Web/serverfarms@2025-03-01' = { name: 'p' }",
        "'location'",
    ),
    "a value outside an enum": (SITE.format("siteConfig: { managedPipelineMode: 'Modern' }"), "'Modern'"),
    "a value outside an enum, in a branch of a ternary": (
        SITE.format("siteConfig: { managedPipelineMode: count > 1 ? 'Modern' : 'Classic' }"),
        "'Modern'",
    ),
    "a value that is not documented": (
        """
resource test 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: 'abc'
  location: location
  kind: 'StorageV7'
  sku: { name: 'Standard_LRS' }
}
""",
        "'StorageV7'",
    ),
    "a string for a bool": (SITE.format("httpsOnly: 'true'"), "bool is expected"),
    "a param of another type": (SITE.format("httpsOnly: count"), "bool is expected"),
    "a variable of another type": (SITE.format("httpsOnly: sizes"), "bool is expected"),
    "an array for an object": (SITE.format("siteConfig: []"), "is expected"),
    "an object for an array": (SITE.format("siteConfig: { appSettings: { A: 'b' } }"), "is expected"),
    "an unknown property in a loop": (
        SITE.format("siteConfig: { appSettings: [for bot in bots: { nam: bot.appId }] }"),
        "'nam'",
    ),
    "an unknown variant": (
        "\nresource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = { name: 'a/ftps' }",
        "'a/ftps'",
    ),
    "an unknown resource type": (
        "\nresource x 'Microsoft.Web/site@2025-03-01' = { name: 'x' }",
        "not in published_types.json",
    ),
    "a name that is too long": (CONTAINER.format(f"parent: account::blobs\n  name: '{'x' * 70}'"), "the maximum is 63"),
    "a name that may be too long": (
        CONTAINER.format("parent: account::blobs\n  name: 'c-${guid(location)}-${guid(location)}'"),
        "the maximum is 63",
    ),
    "a name that may be too short": (
        "\nmodule other 'modules/other.bicep' = { params: { principalId: location, accountName: take(location, 24) } }",
        "(BCP334)",
    ),
    "a name that is known only after a deployment": (
        CONTAINER.format("parent: account::blobs\n  name: account.properties.primaryEndpoints.blob"),
        "must be known at the start",
    ),
    "a child without a parent": (CONTAINER.format("name: 'lonely'"), "neither a parent"),
    "a parent of another type": (CONTAINER.format("parent: account\n  name: 'astray'"), "its parent is a"),
    "a parent that is no resource": (CONTAINER.format("parent: sizes\n  name: 'astray'"), "is no resource"),
    "a dependency that is no resource": (
        CONTAINER.format("parent: account::blobs\n  name: 'abc'\n  dependsOn: [location]"),
        "neither a resource nor a module",
    ),
    "an index that an object lacks": (OUTPUT.format("int = sizes['huge']"), "no property 'huge'"),
    "an undeclared name": (OUTPUT.format("string = locatoin"), "'locatoin' is not declared"),
    "an unknown function": (OUTPUT.format("string = lower(location)"), "no function 'lower'"),
    "too few arguments": (OUTPUT.format("string = take(location)"), "takes 2 arguments"),
    "a property that an object lacks": (OUTPUT.format("int = sizes.huge"), "no property 'huge'"),
    "a property that a resource lacks": (OUTPUT.format("string = account.properties.endpoints.blob"), "'endpoints'"),
    "a property that an item lacks": (OUTPUT.format("array = map(bots, bot => bot.appID)"), "'appID'"),
    "a value that may be null": (OUTPUT.format("string = perhaps"), "null"),
    "a value that may be null inside a string": (OUTPUT.format("string = 'x${perhaps}'"), "may be null"),
    "an output of a conditional module": (
        "\nmodule other 'modules/other.bicep' = if (count > 1) { params: { principalId: location } }"
        + OUTPUT.format("string = other.outputs.endpoint"),
        "may be null",
    ),
    "an output of another type": (OUTPUT.format("int = location"), "int is expected"),
    "a condition that is no boolean": (OUTPUT.format("int = location ? 1 : 2"), "a condition must be bool"),
    "a file that does not exist": (OUTPUT.format("string = loadTextContent('queries.kql')"), "does not exist"),
    "a secret that is read": (OUTPUT.format("string = account.listKeys().keys[0].value"), "reads a secret"),
    "an output that shows a secret": (OUTPUT.format("string = account.properties.connectionString"), "shows a secret"),
    "a module file that does not exist": ("\nmodule x 'modules/x.bicep' = {}", "does not exist"),
    "a param that a module lacks": (OTHER.format("params: { principalId: location, day: 3 }"), "'day'"),
    "a param that a module needs": (OTHER.format("params: { days: 3 }"), "'principalId'"),
    "a module param of another type": (OTHER.format("params: { principalId: count }"), "string is expected"),
    "an output that a module lacks": (
        OTHER.format("params: { principalId: location }") + OUTPUT.format("string = other.outputs.endpoints"),
        "'endpoints'",
    ),
    "a default of another type": (
        "\n@description('X.')\nparam x int = 'three'\nvar y = x" + OUTPUT.format("int = y"),
        "x is",
    ),
    "a default outside its bounds": (
        "\n@description('X.')\n@maxValue(3)\nparam x int = 4" + OUTPUT.format("int = x"),
        "the maximum is 3",
    ),
    "an unused param": ("\n@description('X.')\nparam x int", "'x' is never used"),
    "an unused variable": ("\nvar x = 1", "'x' is never used"),
    "a param without a description": ("\nparam x int\n" + OUTPUT.format("int = x"), "no @description"),
    "a secret param": (
        "\n@description('X.')\n@secure()\nparam x string\n" + OUTPUT.format("string = x"),
        "is a secret",
    ),
    "a name declared twice": ("\nvar sizes = 3", "declared twice"),
    "an unknown decorator": ("\n@describe('X.')\nparam x int\n" + OUTPUT.format("int = x"), "@describe"),
    "a directive without a reason": ("\n\n#disable-next-line BCP037\nvar x = 1", "needs a comment with its reason"),
    "a directive for an unknown code": (
        "\n\n// Because.\n#disable-next-line no-unused-variables\nvar x = 1" + OUTPUT.format("int = x"),
        "which is no code",
    ),
    "a directive that suppresses nothing": (
        SITE.format("\n// Because.\n#disable-next-line BCP037\nhttpsOnly: true\n"),
        "suppresses nothing",
    ),
    "two properties on a line without a comma": ("\nvar x = { a: 1 b: 2 }", "expected ','"),
    "a comma that ends a line": ("\nvar x = {\n  a: 1,\n  b: 2\n}", "BCP238"),
    "an unclosed string": ("\nvar x = 'abc", "not closed"),
    "a literal region": (
        SITE.format("").replace("location: location", "location: 'westeurope'"),
        "no-hardcoded-location",
    ),
    "a host of one cloud": (
        OUTPUT.format("string = 'https://${location}.blob.core.windows.net'"),
        "no-hardcoded-env-urls",
    ),
    "a needless interpolation": (OUTPUT.format("string = '${location}'"), "simplify-interpolation"),
    "needless quotes": ("\nvar x = { 'a': 1 }" + OUTPUT.format("int = x.a"), "prefer-unquoted"),
    "a needless dependency": (
        CONTAINER.format("parent: account::blobs\n  name: 'abc'\n  dependsOn: [account]"),
        "no-unnecessary-dependson",
    ),
}

USING = "using '../main.bicep'\n"
PARAMS = {
    "a template that does not exist": ("using '../mains.bicep'\nparam location = 'x'", "does not exist"),
    "an unknown param": (USING + "param location = 'x'\nparam place = 'x'", "no param 'place'"),
    "a missing param": (USING, "no value to the param 'location'"),
    "a param of another type": (USING + "param location = 3", "string is expected"),
    "a param outside its allowed values": (USING + "param location = 'x'\nparam which = 'c'", "'c'"),
    "an array item that lacks a property": (USING + "param location = 'x'\nparam bots = [{ tenant: 'x' }]", "'appId'"),
}
