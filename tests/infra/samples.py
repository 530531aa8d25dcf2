"""Samples of Bicep: what the compiler accepts, and what it refuses with the words that have to be told."""

PREFIX = """
@description('Where.')
param location string

@description('How much.')
@minValue(1)
@maxValue(9)
param count int = 3

@description('Perhaps a name.')
param perhaps string?

@description('Which.')
@allowed(['a', 'b'])
param which string = 'a'

@description('What of.')
param bots { appId: string, tenant: string? }[] = []

@description('Marks.')
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

@description('Sizes.')
output size int = perhaps == null ? sizes.small : sizes.large

@description('Applications.')
output applications array = map(bots, bot => '${bot.appId}/${bot.?tenant ?? 'none'}')
"""
MODULE = """
@description('Whom.')
param principalId string

@description('How long.')
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
    "nothing more": "",
    "a module with its params": """
module other 'modules/other.bicep' = {
  params: { principalId: account.id, days: 4 }
}

@description('Endpoint.')
output endpoint string = other.outputs.endpoint
""",
    "a module under a condition, read with care": """
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
    "settings put together": """
var settings = union({ A: which }, empty(perhaps) ? {} : { B: perhaps! }, { ...tags, 'C-${which}': 'c' })

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: 'func-${take(uniqueString(account.id), 5)}'
  location: location
  properties: {
    siteConfig: { appSettings: [for setting in items(settings): { name: setting.key, value: setting.value }] }
  }
}
""",
    "a ternary over lines, a text over lines, a text from a file": """
@description('Text.')
output text string = which == 'a'
  ? loadTextContent('query.kql')
  : '''
    as it ' stands ${here}
  '''
""",
    "an untyped property that is documented, silenced with its reason": """
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
@description('Told.')
output told {}
"""
OTHER = "\nmodule other 'modules/other.bicep' = {{ {} }}\n"
BAD: dict[str, tuple[str, str]] = {
    "an unknown property": (SITE.format("httpOnly: true"), "'httpOnly'"),
    "an unknown property in depth": (SITE.format("siteConfig: { minTls: '1.2' }"), "'minTls'"),
    "a read-only property": (SITE.format("state: 'Running'"), "app.properties.state is read-only"),
    "a missing required property": (
        "\nresource plan 'Microsoft.Web/serverfarms@2025-03-01' = { name: 'p' }",
        "'location'",
    ),
    "a word outside an enum": (SITE.format("siteConfig: { managedPipelineMode: 'Modern' }"), "'Modern'"),
    "a word outside an enum, in a branch": (
        SITE.format("siteConfig: { managedPipelineMode: count > 1 ? 'Modern' : 'Classic' }"),
        "'Modern'",
    ),
    "a word that is not known": (
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
    "a string for a bool": (SITE.format("httpsOnly: 'true'"), "bool is wanted"),
    "a param of another kind": (SITE.format("httpsOnly: count"), "bool is wanted"),
    "a variable of another kind": (SITE.format("httpsOnly: sizes"), "bool is wanted"),
    "a list for an object": (SITE.format("siteConfig: []"), "is wanted"),
    "an object for a list": (SITE.format("siteConfig: { appSettings: { A: 'b' } }"), "is wanted"),
    "a wrong kind in a loop": (
        SITE.format("siteConfig: { appSettings: [for bot in bots: { nam: bot.appId }] }"),
        "'nam'",
    ),
    "a wrong variant": (
        "\nresource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = { name: 'a/ftps' }",
        "'a/ftps'",
    ),
    "an unknown type": ("\nresource x 'Microsoft.Web/site@2025-03-01' = { name: 'x' }", "published types"),
    "a name that is too long": (CONTAINER.format(f"parent: account::blobs\n  name: '{'x' * 70}'"), "63 are the most"),
    "a name that may be too long": (
        CONTAINER.format("parent: account::blobs\n  name: 'c-${guid(location)}-${guid(location)}'"),
        "63 are the most",
    ),
    "a name that may be too short": (
        "\nmodule other 'modules/other.bicep' = { params: { principalId: location, accountName: take(location, 24) } }",
        "(BCP334)",
    ),
    "a name that is known too late": (
        CONTAINER.format("parent: account::blobs\n  name: account.properties.primaryEndpoints.blob"),
        "must be known at the start",
    ),
    "a child without a parent": (CONTAINER.format("name: 'lonely'"), "neither a parent"),
    "a parent of another type": (CONTAINER.format("parent: account\n  name: 'astray'"), "its parent is a"),
    "a parent that is no resource": (CONTAINER.format("parent: sizes\n  name: 'astray'"), "is no resource"),
    "a dependency that is no resource": (
        CONTAINER.format("parent: account::blobs\n  name: 'abc'\n  dependsOn: [location]"),
        "neither resource nor module",
    ),
    "a key that an object lacks": (OUTPUT.format("int = sizes['huge']"), "no property 'huge'"),
    "an undeclared name": (OUTPUT.format("string = locatoin"), "'locatoin' is not declared"),
    "an unknown function": (OUTPUT.format("string = lower(location)"), "no function 'lower'"),
    "too few arguments": (OUTPUT.format("string = take(location)"), "takes 2 arguments"),
    "a property that an object lacks": (OUTPUT.format("int = sizes.huge"), "no property 'huge'"),
    "a property that a resource lacks": (OUTPUT.format("string = account.properties.endpoints.blob"), "'endpoints'"),
    "a property that an item lacks": (OUTPUT.format("array = map(bots, bot => bot.appID)"), "'appID'"),
    "what may be null": (OUTPUT.format("string = perhaps"), "null"),
    "what may be null in a text": (OUTPUT.format("string = 'x${perhaps}'"), "may be null"),
    "what a condition may have left out": (
        "\nmodule other 'modules/other.bicep' = if (count > 1) { params: { principalId: location } }"
        + OUTPUT.format("string = other.outputs.endpoint"),
        "may be null",
    ),
    "an output of another kind": (OUTPUT.format("int = location"), "int is wanted"),
    "a condition that is none": (OUTPUT.format("int = location ? 1 : 2"), "a condition is bool"),
    "a file that is not there": (OUTPUT.format("string = loadTextContent('queries.kql')"), "not there"),
    "a secret that is read": (OUTPUT.format("string = account.listKeys().keys[0].value"), "reads a secret"),
    "a secret that is told": (OUTPUT.format("string = account.properties.connectionString"), "tells a secret"),
    "a module that is not there": ("\nmodule x 'modules/x.bicep' = {}", "not there"),
    "a param that a module lacks": (OTHER.format("params: { principalId: location, day: 3 }"), "'day'"),
    "a param that a module needs": (OTHER.format("params: { days: 3 }"), "'principalId'"),
    "a param of another kind for a module": (OTHER.format("params: { principalId: count }"), "string is wanted"),
    "an output that a module lacks": (
        OTHER.format("params: { principalId: location }") + OUTPUT.format("string = other.outputs.endpoints"),
        "'endpoints'",
    ),
    "a default of another kind": (
        "\n@description('X.')\nparam x int = 'three'\nvar y = x" + OUTPUT.format("int = y"),
        "x is",
    ),
    "a default outside its bounds": (
        "\n@description('X.')\n@maxValue(3)\nparam x int = 4" + OUTPUT.format("int = x"),
        "3 is the most",
    ),
    "a param that is used nowhere": ("\n@description('X.')\nparam x int", "'x' is used nowhere"),
    "a variable that is used nowhere": ("\nvar x = 1", "'x' is used nowhere"),
    "a param without a description": ("\nparam x int\n" + OUTPUT.format("int = x"), "no @description"),
    "a secret param": (
        "\n@description('X.')\n@secure()\nparam x string\n" + OUTPUT.format("string = x"),
        "is a secret",
    ),
    "a name declared twice": ("\nvar sizes = 3", "declared twice"),
    "an unknown decorator": ("\n@describe('X.')\nparam x int\n" + OUTPUT.format("int = x"), "@describe"),
    "a directive without its reason": ("\n\n#disable-next-line BCP037\nvar x = 1", "needs its reason"),
    "a directive for a code that does not exist": (
        "\n\n// Because.\n#disable-next-line no-unused-variables\nvar x = 1" + OUTPUT.format("int = x"),
        "which is no code",
    ),
    "a directive that silences nothing": (
        SITE.format("\n// Because.\n#disable-next-line BCP037\nhttpsOnly: true\n"),
        "silences nothing",
    ),
    "two properties on a line": ("\nvar x = { a: 1 b: 2 }", "expected ','"),
    "a comma that ends a line": ("\nvar x = {\n  a: 1,\n  b: 2\n}", "BCP238"),
    "an unclosed text": ("\nvar x = 'abc", "not closed"),
    "a region written down": (
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
    "a template that is not there": ("using '../mains.bicep'\nparam location = 'x'", "not there"),
    "an unknown param": (USING + "param location = 'x'\nparam place = 'x'", "no param 'place'"),
    "a missing param": (USING, "no value to the param 'location'"),
    "a param of another kind": (USING + "param location = 3", "string is wanted"),
    "a param outside what is allowed": (USING + "param location = 'x'\nparam which = 'c'", "'c'"),
    "an item that lacks something": (USING + "param location = 'x'\nparam bots = [{ tenant: 'x' }]", "'appId'"),
}
