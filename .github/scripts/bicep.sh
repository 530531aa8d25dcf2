#!/usr/bin/env bash
# Compile and lint every template and parameter file with Microsoft's compiler; it changes nothing.
set -euo pipefail

az bicep install
az bicep version
for template in infra/*.bicep; do
  echo "::group::$template"
  az bicep build --file "$template" --stdout >/dev/null
  az bicep lint --file "$template"
  echo "::endgroup::"
done
for parameters in infra/params/*.bicepparam; do
  echo "::group::$parameters"
  az bicep build-params --file "$parameters" --stdout >/dev/null
  echo "::endgroup::"
done
