#!/usr/bin/env bash
# Check every Bicep file with Microsoft's compiler. A warning fails as an error does; no file of the project is changed.
set -euo pipefail
shopt -s nullglob

pinned=$(<"$(dirname "$0")/bicep-version")
templates=(infra/*.bicep infra/modules/*.bicep)
parameters=(infra/params/*.bicepparam)
faults=0

# What the parameter files read. The values are made up: nothing is deployed.
variables=(
  ALERT_EMAIL=operators@contoso.com
  ALLOWED_TENANT_IDS=11111111-1111-1111-1111-111111111111
  BOT_NAME=bot-two
  GRAPH_APP_ID=22222222-2222-2222-2222-222222222222
  GRAPH_TENANT_ID=11111111-1111-1111-1111-111111111111
  MANAGEMENT_APP_ID=33333333-3333-3333-3333-333333333333
  MANAGEMENT_TENANT_ID=11111111-1111-1111-1111-111111111111
)
# Where a deployment would go: what ARM's functions answer offline.
target=(--tenant-id 11111111-1111-1111-1111-111111111111 --subscription-id 44444444-4444-4444-4444-444444444444
  --resource-group calls --location westeurope)

fault() { # FILE WHAT-IS-WRONG-AND-WHAT-TO-DO
  echo "::error file=$1::$1 $2"
  faults=$((faults + 1))
}

# `build` runs the linter too. It ends with 0 on warnings, and an unknown or mistyped property of a resource is a warning.
compile() { # COMMAND FILE
  local ended=0
  bicep "$1" "$2" --outfile "$work/compiled.json" >"$work/told" 2>&1 || ended=$?
  cat "$work/told"
  if ((ended)) || grep --quiet ' : Error ' "$work/told"; then
    fault "$2" "does not compile: correct what the lines above name"
  elif grep --quiet --extended-regexp ' : Warning |^WARNING' "$work/told"; then
    fault "$2" "has a warning, named above: correct it, or put '#disable-next-line CODE' above it, and the reason"
  fi
}

check_format() { # FILE
  if ! bicep format "$1" --stdout | diff --unified "$1" -; then
    fault "$1" "is not formatted: run bicep format $1"
  fi
}

# Evaluate a parameter file as ARM does. The snapshot is written beside the file, hence beside a copy of it.
evaluate() { # FILE [VARIABLE-THAT-IS-NOT-SET]
  local variable kept=()
  for variable in "${variables[@]}"; do
    [[ ${variable%%=*} == "${2:-}" ]] || kept+=("$variable")
  done
  env -u "${2:-NOTHING}" "${kept[@]}" \
    bicep snapshot "$work/$1" --mode overwrite "${target[@]}" >"$work/told" 2>&1
}

expect_accepted() { # FILE
  if ! evaluate "$1"; then
    cat "$work/told"
    fault "$1" "does not evaluate: correct what the lines above name"
  fi
}

expect_refused() { # FILE TEXT [VARIABLE-THAT-IS-NOT-SET]
  if evaluate "$1" "${3:-}"; then
    fault "$1" "is accepted, but fail() of infra/main.bicep must refuse it with '$2'"
  elif ! grep --quiet --fixed-strings -- "$2" "$work/told"; then
    cat "$work/told"
    fault "$1" "is refused by the lines above, but fail() of infra/main.bicep must refuse it with '$2'"
  fi
}

if ! command -v bicep >/dev/null || [[ $(bicep --version) != *" $pinned "* ]]; then
  echo "::error::Bicep $pinned is not on the PATH: run .github/scripts/install-bicep.sh" && exit 1
elif ((${#templates[@]} == 0 || ${#parameters[@]} == 0)); then
  echo "::error::there is no Bicep in infra: run this script in the project's folder" && exit 1
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
  # Zeros are the default of an id that has to be set.
  mapfile -t names < <(grep --only-matching "readEnvironmentVariable('[A-Z_]*', '0000" "$file" | cut -d "'" -f 2 | sort -u)
  # GRAPH_APP_ID at the least. grep's own failure is lost in the process substitution.
  ((${#names[@]})) || fault "$file" "reads no id whose default is zeros, so no refusal is tried: correct it, or the pattern in bicep.sh"
  for name in "${names[@]}"; do
    expect_refused "$file" ": set $name" "$name"
  done
done
for name in alwaysReadyHttp alwaysReadyTimer; do
  file=infra/params/one-$name-with-zones.bicepparam # in the copy alone
  printf '%s\n' "using '../main.bicep'" "param name = 'zones'" "param zoneRedundant = true" "param $name = 1" \
    "param graphAppId = '22222222-2222-2222-2222-222222222222'" >"$work/$file"
  expect_refused "$file" ": set $name to 0"
done

if ((faults)); then
  echo "$faults faults in Bicep files: each is named above, with what to do" && exit 1
fi
echo "${#templates[@]} templates and ${#parameters[@]} parameter files compile without a warning, are formatted, and evaluate"
