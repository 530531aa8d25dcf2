#!/usr/bin/env bash
# earlier-package.sh ARTIFACT FOLDER: fetch the newest package that was deployed and proved; output `found` true or false.
set -euo pipefail
artifact=$1 folder=$2

runs=$(gh run list --repo "$GITHUB_REPOSITORY" --workflow deploy.yml --branch "$GITHUB_REF_NAME" --limit 30 \
  --json databaseId,event --jq '.[] | select(.event != "pull_request") | .databaseId')
for run in $runs; do
  if [[ $run != "$GITHUB_RUN_ID" ]] && gh run download "$run" --repo "$GITHUB_REPOSITORY" \
    --name "$artifact" --dir "$folder" 2>/dev/null; then
    echo "found=true" >>"$GITHUB_OUTPUT"
    echo "the package of run $run is at hand"
    exit 0
  fi
done
echo "found=false" >>"$GITHUB_OUTPUT"
echo "::notice::no earlier package is kept: a failure will not be rolled back"
