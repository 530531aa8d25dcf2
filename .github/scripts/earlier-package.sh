#!/usr/bin/env bash
# earlier-package.sh ARTIFACT FOLDER: fetch the newest package that was deployed and proved; output `found` true or false.
# A run kept no package only if its list of artifacts lacks it. If GitHub does not answer, the deployment stops, because
# it could not be rolled back.
set -euo pipefail
artifact=$1 folder=$2

runs=$(gh run list --repo "$GITHUB_REPOSITORY" --workflow deploy.yml --branch "$GITHUB_REF_NAME" --limit 30 \
  --json databaseId,event --jq '.[] | select(.event != "pull_request") | .databaseId')
for run in $runs; do
  [[ $run != "$GITHUB_RUN_ID" ]] || continue
  kept=$(gh api --paginate "repos/$GITHUB_REPOSITORY/actions/runs/$run/artifacts?per_page=100" \
    --jq '.artifacts[] | select(.expired | not) | .name')
  grep --quiet --line-regexp --fixed-strings -e "$artifact" <<<"$kept" || continue
  gh run download "$run" --repo "$GITHUB_REPOSITORY" --name "$artifact" --dir "$folder"
  echo "found=true" >>"$GITHUB_OUTPUT"
  echo "the package of run $run was fetched"
  exit 0
done
echo "found=false" >>"$GITHUB_OUTPUT"
echo "::notice::no earlier package is kept: a failure will not be rolled back"
