#!/bin/sh
# The steps of the Dockerfile; .ci/run runs them too, in an environment of its own:  build_steps.sh system|torch|package
# PYTHON is the interpreter to install for (python3); TORCH_INDEX is the package index of torch (pip's default).
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}

case ${1:-} in
system)
    if ! command -v tini >/dev/null; then
        apt-get update
        apt-get install --yes --no-install-recommends tini
        rm -rf /var/lib/apt/lists/*
    fi
    ;;
torch)
    "$python" -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
    ;;
package)
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels"' EXIT
    "$python" -m pip wheel --no-cache-dir --no-deps --wheel-dir "$wheels" "$source"
    "$python" -m pip install --no-cache-dir "$(echo "$wheels"/*.whl)[postgres,s3]"
    cd /
    "$python" -m nas_relucode list >/dev/null
    "$python" -c 'import psycopg, boto3'
    ;;
*)
    echo "usage: build_steps.sh system|torch|package" >&2
    exit 2
    ;;
esac
