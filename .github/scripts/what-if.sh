#!/usr/bin/env bash
# Write to the job's summary what a deployment would change in $RESOURCE_GROUP. Nothing is changed.
set -euo pipefail

: "${RESOURCE_GROUP:?set the variable AZURE_RESOURCE_GROUP of this environment}"
: "${PARAMETERS:=infra/params/minimal.bicepparam}"

# ProviderNoRbac: the identity may read but not write, so the default validation would refuse every change.
if ! output=$(az deployment group what-if --resource-group "$RESOURCE_GROUP" --parameters "$PARAMETERS" \
  --validation-level ProviderNoRbac --no-prompt 2>&1); then
  failed=true
fi
{
  echo "### What-if: \`$PARAMETERS\` in \`$RESOURCE_GROUP\`"
  echo '```text'
  head --bytes=900000 <<<"$output" # the limit of a summary is 1 MiB
  echo '```'
} >>"$GITHUB_STEP_SUMMARY"
echo "$output"
test -z "${failed:-}"
