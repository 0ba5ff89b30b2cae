#!/usr/bin/env bash
# Tests the packages with the oldest version of everything that they require themselves, on
# Python 3.11. The environment is a temporary one; neither the lock nor the workspace's is touched.
#
#   .github/scripts/lowest-direct.sh             the tests below
#   .github/scripts/lowest-direct.sh FILE ...    other tests
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

uv pip compile packages/*/pyproject.toml --all-extras --quiet \
  --resolution lowest-direct --python-version 3.11 --output-file "$work/lowest.txt"
uv venv --quiet --python 3.11 "$work/venv"
# The test tools are as new as they come.
uv pip install --quiet --python "$work/venv" --requirements "$work/lowest.txt" \
  hypothesis pytest-asyncio pytest-benchmark
uv pip install --quiet --python "$work/venv" --no-deps packages/*/
uv pip list --quiet --python "$work/venv" \
  | grep -E '^(backports-zstd|cryptography|httpx|matplotlib|msgspec|numpy|prefect|qcsc|qiskit|requests)'

tests=packages/qcsc-prefect-qiskit/tests
if [ $# -eq 0 ]; then
  set -- \
    packages/qcsc-prefect-core/tests \
    "$tests/test_every_client.py" \
    "$tests/test_identity_vectors.py" \
    "$tests/test_local_jobs.py" \
    "$tests/test_result_records.py" \
    "$tests/test_tasks.py" \
    packages/qcsc-prefect-wrappers/tests/test_wrappers.py
fi
# Not the sources of the workspace, but what was installed.
"$work/venv/bin/python" -P -m pytest -q "$@"
