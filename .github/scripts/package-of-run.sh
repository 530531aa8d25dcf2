#!/usr/bin/env bash
# package-of-run.sh RUN ARTIFACT FOLDER: fetch a package that an earlier run of deploy.yml on this branch kept.
set -euo pipefail
run=$1 artifact=$2 folder=$3

# A pull request's run could store any file under that name, so only deployments of this workflow are accepted.
found=
if [[ $run =~ ^[0-9]+$ ]]; then
  found=$(gh api "repos/$GITHUB_REPOSITORY/actions/runs/$run" --jq '[.path, .event, .head_branch] | join(" ")')
fi
read -r path event branch <<<"$found"
if [[ ${path%%@*} != .github/workflows/deploy.yml || $branch != "$GITHUB_REF_NAME" ]] ||
  [[ $event != push && $event != workflow_dispatch ]]; then
  echo "::error::$run is not a run of deploy.yml that deployed from $GITHUB_REF_NAME"
  exit 1
fi
gh run download "$run" --repo "$GITHUB_REPOSITORY" --name "$artifact" --dir "$folder"
