#!/usr/bin/env bash
# Installs the official SDKs that sign and verify in the tests: PyPI's in a virtual
# environment, npm's beside their lock file, both under target/sdk. Does nothing when
# they are there already.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
into=${CARGO_TARGET_DIR:-$here/../../target}/sdk
mkdir -p "$into"
into=$(cd "$into" && pwd)

# What is installed is known by what asked for it.
there() { [ -f "$into/$1.stamp" ] && cmp -s "$2" "$into/$1.stamp"; }

if ! there python python/requirements.txt || ! "$into/python/bin/python" -c ''; then
    rm -rf "$into/python"
    python3 -m venv "$into/python"
    "$into/python/bin/pip" install --quiet --disable-pip-version-check -r python/requirements.txt
    cp python/requirements.txt "$into/python.stamp"
fi

if ! there js js/package-lock.json; then
    rm -rf "$into/js"
    mkdir -p "$into/js"
    cp js/package.json js/package-lock.json "$into/js/"
    (cd "$into/js" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp js/package-lock.json "$into/js.stamp"
fi
