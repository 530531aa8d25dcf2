#!/usr/bin/env bash
# roll-back.sh FOLDER: deploy the package of that folder again to $APP, and prove it.
# An old package carries no libraries, so Azure must install them.
set -euo pipefail
folder=$1

python -m release.publish push --app "$APP" --group "$RESOURCE_GROUP" --package "$folder/call-keeper.zip" \
  --remote-build-if-needed
python -m release.publish prove --app "$APP" --group "$RESOURCE_GROUP" --expected "$folder/call-keeper.functions.txt"
echo "### Rolled back: the earlier package runs again" >>"$GITHUB_STEP_SUMMARY"
