#!/usr/bin/env bash
# Check every Bicep file with Microsoft's compiler. A warning fails the check, like an error. No project file is changed.
set -euo pipefail
shopt -s nullglob

pinned=$(<"$(dirname "$0")/bicep-version")
templates=(infra/*.bicep infra/modules/*.bicep)
parameters=(infra/params/*.bicepparam)
faults=0

# The variables that the parameter files read. The values are invented, because nothing is deployed.
variables=(
  ALERT_EMAIL=operators@contoso.com
  ALLOWED_TENANT_IDS=11111111-1111-1111-1111-111111111111
  BOT_NAME=bot-two
  BOT_WEBHOOK_URL=https://bot.contoso.com/api/calls
  GRAPH_APP_ID=22222222-2222-2222-2222-222222222222
  GRAPH_TENANT_ID=11111111-1111-1111-1111-111111111111
  MANAGEMENT_APP_ID=33333333-3333-3333-3333-333333333333
  MANAGEMENT_TENANT_ID=11111111-1111-1111-1111-111111111111
)
# The target of a deployment, which ARM's functions return offline.
target=(--tenant-id 11111111-1111-1111-1111-111111111111 --subscription-id 44444444-4444-4444-4444-444444444444
  --resource-group calls --location westeurope)

fault() { # FILE WHAT-IS-WRONG-AND-WHAT-TO-DO
  echo "::error file=$1::$1 $2"
  faults=$((faults + 1))
}

# `build` also runs the linter. It exits with 0 on warnings, and an unknown or mistyped property is only a warning.
compile() { # COMMAND FILE
  local code=0
  bicep "$1" "$2" --outfile "$work/compiled.json" >"$work/output" 2>&1 || code=$?
  cat "$work/output"
  if ((code)) || grep --quiet ' : Error ' "$work/output"; then
    fault "$2" "does not compile: correct what the lines above name"
  elif grep --quiet --extended-regexp ' : Warning |^WARNING' "$work/output"; then
    fault "$2" "has a warning, named above: correct it, or put '#disable-next-line CODE' above it, and the reason"
  fi
}

check_format() { # FILE
  if ! bicep format "$1" --stdout | diff --unified "$1" -; then
    fault "$1" "is not formatted: run bicep format $1"
  fi
}

# Evaluate a parameter file as ARM does. The snapshot is written next to the file, so a copy of it is used.
evaluate() { # FILE [UNSET-VARIABLE]
  local variable kept=()
  for variable in "${variables[@]}"; do
    [[ ${variable%%=*} == "${2:-}" ]] || kept+=("$variable")
  done
  env -u "${2:-NOTHING}" "${kept[@]}" \
    bicep snapshot "$work/$1" --mode overwrite "${target[@]}" >"$work/output" 2>&1
}

expect_accepted() { # FILE
  if ! evaluate "$1"; then
    cat "$work/output"
    fault "$1" "does not evaluate: correct what the lines above name"
  fi
}

expect_refused() { # FILE TEXT [UNSET-VARIABLE]
  if evaluate "$1" "${3:-}"; then
    fault "$1" "is accepted, but fail() of infra/main.bicep must refuse it with '$2'"
  elif ! grep --quiet --fixed-strings -- "$2" "$work/output"; then
    cat "$work/output"
    fault "$1" "is refused by the lines above, but fail() of infra/main.bicep must refuse it with '$2'"
  fi
}

if ! command -v bicep >/dev/null || [[ $(bicep --version) != *" $pinned "* ]]; then
  echo "::error::Bicep $pinned is not on the PATH: run .github/scripts/install-bicep.sh" && exit 1
elif ((${#templates[@]} == 0 || ${#parameters[@]} == 0)); then
  echo "::error::there are no Bicep files in infra: run this script in the project's folder" && exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r infra bicepconfig.json "$work"

for file in "${templates[@]}"; do
  compile build "$file"
  check_format "$file"
done
for file in "${parameters[@]}"; do
  compile build-params "$file"
  check_format "$file"
  expect_accepted "$file"
  # An id whose default is zeros must be set.
  mapfile -t names < <(grep --only-matching "readEnvironmentVariable('[A-Z_]*', '0000" "$file" | cut -d "'" -f 2 | sort -u)
  # Every file reads at least GRAPH_APP_ID. The process substitution hides a failure of grep.
  ((${#names[@]})) || fault "$file" "reads no id whose default is zeros, so no refusal can be tested: correct it, or the pattern in bicep.sh"
  for name in "${names[@]}"; do
    expect_refused "$file" ": set $name" "$name"
  done
done
for name in alwaysReadyHttp alwaysReadyTimer; do
  file=infra/params/one-$name-with-zones.bicepparam # only in the copy
  printf '%s\n' "using '../main.bicep'" "param name = 'zones'" "param zoneRedundant = true" "param $name = 1" \
    "param graphAppId = '22222222-2222-2222-2222-222222222222'" >"$work/$file"
  expect_refused "$file" ": set $name to 0"
done
file=infra/params/relay-by-http.bicepparam # only in the copy
printf '%s\n' "using '../main.bicep'" "param name = 'relay'" \
  "param relayTargets = [{ name: 'bot', format: 'graph', url: 'http://bot.contoso.com/' }]" \
  "param graphAppId = '22222222-2222-2222-2222-222222222222'" >"$work/$file"
expect_refused "$file" "the url of bot does not begin with https://"

if ((faults)); then
  echo "$faults faults in Bicep files: each is named above, with what to do" && exit 1
fi
echo "${#templates[@]} templates and ${#parameters[@]} parameter files compile without a warning, are formatted, and evaluate"
