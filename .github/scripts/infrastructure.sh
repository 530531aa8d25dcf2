#!/usr/bin/env bash
# Deploy the infrastructure to $RESOURCE_GROUP, and output the function app's name as `app`.
set -euo pipefail

: "${RESOURCE_GROUP:?set the variable AZURE_RESOURCE_GROUP of this environment}"
: "${PARAMETERS:=infra/params/minimal.bicepparam}"

outputs=$(az deployment group create --name "call-keeper-$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT" \
  --resource-group "$RESOURCE_GROUP" --parameters "$PARAMETERS" \
  --query "properties.outputs.[functionAppName.value, identityPrincipalId.value, apiBaseUrl.value, webhookUrl.value]" --output tsv)
read -r -d '' app identity api webhook <<<"$outputs" || true # az separates the values by tabs or by line breaks
test -n "$webhook" || { echo "::error::the deployment printed no functionAppName, identityPrincipalId, apiBaseUrl or webhookUrl"; exit 1; }
echo "app=$app" >>"$GITHUB_OUTPUT"
echo "deployed: $app"
# The grant must use the Graph of the app's cloud: the one in the parameter file, or the default of the template.
cloud=${AZURE_CLOUD:-azurecloud} # in upper or lower case
if [[ ${cloud,,} == azurecloud ]]; then
  cloud=
else
  named=$(sed -n "s/^param graphCloud = '\(.*\)'$/\1/p" "$PARAMETERS")
  cloud=" --cloud ${named:-usgov-l4}"
fi
# The pipeline has no rights in the directory, so an administrator must grant the app's identity its rights there.
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
