#!/usr/bin/env bash
# Name every variable that this GitHub environment lacks, of those that a deployment or its parameter file needs.
# Without this check a missing variable appears as an unclear error of azure/login.
set -euo pipefail

: "${PARAMETERS:=infra/params/minimal.bicepparam}"
test -f "$PARAMETERS" || { echo "::error::BICEP_PARAMETERS names $PARAMETERS, which is not in the repository"; exit 1; }

# A variable that is missing at GitHub is set and empty here, so defaults in the parameter file do not apply. If the
# default is empty too, the variable is not needed.
needed=$({ grep --only-matching --extended-regexp "readEnvironmentVariable\('[A-Z_]+', '[^']" "$PARAMETERS" || true; } |
  cut --delimiter="'" --fields=2 | sort --unique)
missing=()
for name in AZURE_CLIENT_ID AZURE_TENANT_ID AZURE_SUBSCRIPTION_ID RESOURCE_GROUP $needed; do
  if test -z "${!name:-}"; then
    missing+=("${name/#RESOURCE_GROUP/AZURE_RESOURCE_GROUP}")
  fi
done
if ((${#missing[@]})); then
  echo "::error::the environment $ENVIRONMENT lacks the variables ${missing[*]}: see docs/deploy-github.md"
  exit 1
fi
echo "the environment $ENVIRONMENT has what $PARAMETERS needs"
