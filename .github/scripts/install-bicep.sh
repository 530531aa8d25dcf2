#!/usr/bin/env bash
# Install the Bicep compiler of .github/bicep-version. Without this az would take whichever one the runner has.
set -euo pipefail

version=$(<"$(dirname "$0")/../bicep-version")
az config set bicep.use_binary_from_path=false bicep.check_version=false --only-show-errors
az bicep install --version "$version"
az bicep version
