"""What the release tags of this repository say: which versions of which package are released.

A tag names one package and its version, such as ``qcsc-prefect-core-v0.4.0``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
#: Each package with its module, in the order in which they are released.
MODULES = {
    "qcsc-prefect-core": "qcsc_prefect.core",
    "qcsc-prefect-qiskit": "qcsc_prefect.integrations.qiskit",
    "qcsc-prefect-wrappers": "qcsc_prefect.integrations.qiskit.wrappers",
}


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def released_versions(package: str, *which: str) -> dict[Version, str]:
    """Return a package's released versions with their tags, the newest first.

    Args:
        package: Name of the distribution.
        which: Options of ``git tag`` that choose among the tags.
    """
    # Git would take 0.5.0rc1 for newer than 0.5.0.
    tags = git("tag", *which, "--list", f"{package}-v*").splitlines()
    found = {Version(tag.removeprefix(f"{package}-v")): tag for tag in tags}
    return dict(sorted(found.items(), reverse=True))
