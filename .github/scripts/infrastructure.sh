#!/usr/bin/env bash
# Deploy the infrastructure to $RESOURCE_GROUP, and hand on the function app's name as the output `app`.
set -euo pipefail

: "${RESOURCE_GROUP:?set the variable AZURE_RESOURCE_GROUP of this environment}"
: "${PARAMETERS:=infra/params/minimal.bicepparam}"

told=$(az deployment group create --name "call-keeper-$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT" \
  --resource-group "$RESOURCE_GROUP" --parameters "$PARAMETERS" \
  --query "properties.outputs.[functionAppName.value, identityPrincipalId.value, apiBaseUrl.value, webhookUrl.value]" --output tsv)
read -r -d '' app identity api webhook <<<"$told" || true # tabs or lines between them: az has done both
test -n "$webhook" || { echo "::error::the deployment told no functionAppName, identityPrincipalId, apiBaseUrl or webhookUrl"; exit 1; }
echo "app=$app" >>"$GITHUB_OUTPUT"
echo "deployed: $app"
# The grant must ask the Graph of the app's cloud: the one that the parameter file names, or the template's default.
cloud=${AZURE_CLOUD:-azurecloud} # in any case of letters
if [[ ${cloud,,} == azurecloud ]]; then
  cloud=
else
  named=$(sed -n "s/^param graphCloud = '\(.*\)'$/\1/p" "$PARAMETERS")
  cloud=" --cloud ${named:-usgov-l4}"
fi
# The pipeline has no rights in the directory, so an administrator gives the app's identity its rights there.
{
  echo "### $app"
  echo "API: $api  "
  echo "Webhook, the bot's callbackUri: $webhook"
  echo "### Once, by an administrator of the bot's tenant"
  echo "It lets the bot trust the identity of \`$app\`. A repeated run changes nothing."
  echo '```bash'
  echo "python3 -m infra.grant_graph_permissions --bot-app-id $GRAPH_APP_ID --identity-principal-id $identity \\"
  echo "  --grant-to bot${MANAGEMENT_APP_ID:+ --management-app-id $MANAGEMENT_APP_ID}$cloud"
  echo '```'
} >>"$GITHUB_STEP_SUMMARY"
