#!/usr/bin/env bash
# Install the version of Microsoft's Bicep compiler that bicep-version names, first on the PATH of the next steps.
set -euo pipefail

version=$(<"$(dirname "$0")/bicep-version") # raise it by hand: dependabot does not see it
folder=${AZURE_CONFIG_DIR:-$HOME/.azure}/bin # where the Azure CLI keeps the compiler

az bicep install --version "v$version"
if [[ -n ${GITHUB_PATH:-} ]]; then
  echo "$folder" >>"$GITHUB_PATH"
else
  echo "Bicep $version is in $folder: put that folder first on your PATH"
fi
