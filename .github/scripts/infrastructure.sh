#!/usr/bin/env bash
# Deploy the infrastructure to $RESOURCE_GROUP, and hand on the function app's name as the output `app`.
set -euo pipefail

: "${RESOURCE_GROUP:?set the variable AZURE_RESOURCE_GROUP of this environment}"
: "${PARAMETERS:=infra/params/production.bicepparam}"

app=$(az deployment group create --name "call-keeper-$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT" \
  --resource-group "$RESOURCE_GROUP" --parameters "$PARAMETERS" \
  --query properties.outputs.functionAppName.value --output tsv)
test -n "$app" || { echo "::error::the deployment told no functionAppName"; exit 1; }
echo "app=$app" >>"$GITHUB_OUTPUT"
echo "deployed: $app"
