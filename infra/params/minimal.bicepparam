// The least that runs: for a trial. One bot, storage in one data centre, nothing kept ready, alerts in the portal alone.
// Zeros stand for what is not in the environment, so that the file compiles; a deployment with them is refused.
using '../main.bicep'

param name = 'trial'
param graphAppId = readEnvironmentVariable('GRAPH_APP_ID', '00000000-0000-0000-0000-000000000000')
