# One command for each habit: `uv run just`, or `just` where it is installed, lists them.

_list:
    @just --list --unsorted

# Install everything, and the hooks that git runs before each commit
setup:
    uv sync --all-packages --all-groups
    uv run prek install

# Run tests: all of them, or those that the arguments choose
test *arguments:
    uv run pytest {{ arguments }}

# Check style and format
lint:
    uv run ruff check .
    uv run ruff format --check .

# Bring everything into format
format:
    uv run ruff check --fix .
    uv run ruff format .

# Check types
types:
    uv run mypy

# Check what imports what
layers:
    uv run pytest integration-tests/test_layers.py -k "contract or imports or names"

# Build the documentation into site/; a warning is an error
docs:
    NO_MKDOCS_2_WARNING=1 uv run --group docs mkdocs build --strict

# Show the documentation while it is written
docs-serve:
    NO_MKDOCS_2_WARNING=1 uv run --group docs mkdocs serve

# Run the code of the documentation: all of it, or the pages whose names contain a word
docs-test word="test":
    uv run pytest integration-tests/documentation -k {{ word }}

# Run the long forms of the tests: every fault, kills at fifty moments, a hundred races, damaged bytes by the thousand
long:
    QCSC_PREFECT_ALL_FAULTS=1 uv run pytest -n 6 --maxprocesses 6 --dist worksteal \
        integration-tests/kills/test_faults.py integration-tests/kills/test_outages.py \
        integration-tests/kills/test_sent_once.py
    QCSC_PREFECT_KILLS=50 uv run pytest -rP --show-capture=stdout integration-tests/kills/test_kills.py
    QCSC_PREFECT_ROUNDS=100 uv run pytest -n 4 --dist worksteal integration-tests/kills/test_same_moment.py
    QCSC_PREFECT_KILLS=20 uv run pytest integration-tests/test_main_job.py
    QCSC_PREFECT_FUZZ_EXAMPLES=20000 uv run pytest packages -k "container or forge"

# Try what pays once in a hundred thousand simulated schedules; --seed S prints one, --mutants plants faults, --walk takes every order
simulate *arguments:
    cd packages/qcsc-prefect-core/tests && uv run python -m simulation {{ arguments }}

# Measure speeds beside their floors; fails where a number is not what it must be
benchmark *arguments:
    uv run pytest packages -n 0 --benchmark-only {{ arguments }}
    uv run python packages/qcsc-prefect-qiskit/benchmarks/result_storage.py
    uv run python packages/qcsc-prefect-qiskit/benchmarks/compare_alternatives.py
    uv run python packages/qcsc-prefect-qiskit/benchmarks/waiting.py

# Everything that must hold before a change lands
check:
    .ci/run

# Run tests with the oldest direct dependencies that the packages allow, and check these bounds
lowest *arguments:
    uv run python .github/scripts/resolution.py lowest-direct {{ arguments }}

# The same with the newest
newest *arguments:
    uv run python .github/scripts/resolution.py highest {{ arguments }}

# Run the packages of this commit with the oldest versions of each other that they allow
mixed *arguments:
    uv run python .github/scripts/mixed_versions.py {{ arguments }}

# Compare the public API with that of the last releases
api:
    uv run python .github/scripts/api_check.py

# Check that each changed package says so in a fragment
changes *base:
    uv run python .github/scripts/changes_check.py {{ base }}

# Move a package's fragments into its changelog, under the version in its pyproject.toml
changelog package:
    uv run towncrier build --yes --config packages/{{ package }}/pyproject.toml --dir packages/{{ package }} --version "$(uv version --package {{ package }} --short)"

# Try the steps of a release without publishing, for a tag such as qcsc-prefect-core-v0.4.0
release-dry-run tag:
    uv run .github/scripts/release_check.py check {{ tag }}
    uv run .github/scripts/release_check.py build {{ tag }} --dist dist/{{ tag }}
    uv run .github/scripts/release_check.py test {{ tag }} --dist dist/{{ tag }}
