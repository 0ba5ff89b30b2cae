"""Checks that a change of a package's sources says in a fragment what it changes.

    python .github/scripts/changes_check.py [BASE]

Compares with the point at which the branch left BASE, by default ``origin/main``, or ``main`` where
that is not known. A package whose sources changed needs a new file in its ``changes`` folder, or a
new section of its changelog. Fragments that are there must be such that towncrier can read them.
"""
# Not `towncrier check`: for a change anywhere it wants a fragment of whatever package it is run on.

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("breaking", "feature", "fix", "doc", "deprecation")
FRAGMENT = re.compile(rf".+\.({'|'.join(KINDS)})\.md")


def git(*arguments: str) -> str | None:
    """Return what git prints, or None if it refuses."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def complaints_about(package: Path, changed: list[str]) -> list[str]:
    """Return what is wrong with the fragments of one package."""
    place = package.relative_to(ROOT).as_posix()
    complaints = [
        f"{fragment.relative_to(ROOT)}: name it NAME.KIND.md, with one of {', '.join(KINDS)}"
        for fragment in (package / "changes").glob("*")
        if fragment.name != ".gitignore" and not FRAGMENT.fullmatch(fragment.name)
    ]
    sources = [path for path in changed if path.startswith(f"{place}/src/")]
    told = any(
        path.startswith(f"{place}/changes/") or path == f"{place}/CHANGELOG.md" for path in changed
    )
    if sources and not told:
        complaints.append(
            f"{place}: {len(sources)} source files changed and no fragment says why. Write one: "
            f"{place}/changes/+NAME.KIND.md, with one of {', '.join(KINDS)}"
        )
    return complaints


def main() -> int:
    """Print the complaints; return 1 if there are any."""
    bases = sys.argv[1:] or ["origin/main", "main"]
    base = next((each for each in bases if git("merge-base", each, "HEAD")), None)
    if base is None:
        sys.stderr.write(
            f"\n*** NOT CHECKED: there is no {' and no '.join(bases)} to compare with, so nobody "
            "knows whether each change has its fragment. Fetch it, or name another: "
            "just changes BASE ***\n\n"
        )
        return 0
    left_at = git("merge-base", base, "HEAD") or base
    changed = (git("diff", "--name-only", left_at) or "").splitlines()
    changed += (git("ls-files", "--others", "--exclude-standard") or "").splitlines()
    complaints = [
        complaint
        for package in sorted((ROOT / "packages").glob("*/"))
        if (package / "pyproject.toml").exists()
        for complaint in complaints_about(package, changed)
    ]
    sys.stdout.write(
        "\n".join(complaints or [f"every change since {base} has its fragment"]) + "\n"
    )
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
