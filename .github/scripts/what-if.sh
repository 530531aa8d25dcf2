#!/usr/bin/env bash
# Tell in the job's summary what a deployment would change in $RESOURCE_GROUP; nothing is changed.
set -euo pipefail

: "${RESOURCE_GROUP:?set the variable AZURE_RESOURCE_GROUP of this environment}"
: "${PARAMETERS:=infra/params/minimal.bicepparam}"

# ProviderNoRbac: asked by one who may read, not write, every change would else be refused.
if ! told=$(az deployment group what-if --resource-group "$RESOURCE_GROUP" --parameters "$PARAMETERS" \
  --validation-level ProviderNoRbac --no-prompt 2>&1); then
  failed=true
fi
{
  echo "### What-if: \`$PARAMETERS\` in \`$RESOURCE_GROUP\`"
  echo '```text'
  head --bytes=900000 <<<"$told" # a summary may have 1 MiB
  echo '```'
} >>"$GITHUB_STEP_SUMMARY"
echo "$told"
test -z "${failed:-}"
