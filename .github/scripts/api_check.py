"""Compares the public API of each package with that of its last release, by griffe.

    uv run python .github/scripts/api_check.py

What breaks callers is allowed where the version says so: a new minor version while the major one is
0, a new major version after that. A package without a tag is skipped, with a message.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[2]
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


def last_tag(package: str) -> str | None:
    """Return the newest tag of a package that this commit descends from."""
    tags = git("tag", "--merged", "HEAD", "--sort=-version:refname", "--list", f"{package}-v*")
    return tags.splitlines()[0] if tags else None


def public_api(module: str, root: Path) -> griffe.Object:
    """Load a module from the sources below a folder."""
    sources = [root / "packages" / package / "src" for package in MODULES]
    loaded = griffe.load(module, search_paths=sources, resolve_aliases=True, allow_inspection=False)
    if not isinstance(loaded, griffe.Object):
        raise TypeError(f"{module} is an alias")
    return loaded


def breaking_changes(package: str, tag: str) -> list[str]:
    """Describe what callers of the tagged version would miss."""
    with tempfile.TemporaryDirectory(prefix="api-") as folder:
        git("worktree", "add", "--detach", folder, tag)
        try:
            old = public_api(MODULES[package], Path(folder))
            new = public_api(MODULES[package], ROOT)
            return [
                breakage.explain(griffe.ExplanationStyle.ONE_LINE)
                for breakage in griffe.find_breaking_changes(old, new)
            ]
        finally:
            git("worktree", "remove", "--force", folder)


def may_break(tagged: str, now: str) -> bool:
    """Answer whether a version promises less than another one."""
    old, new = (tuple(int(part) for part in text.split(".")[:2]) for text in (tagged, now))
    return new[0] > old[0] or (old[0] == 0 and new > old)


def main() -> int:
    """Print what broke; return 1 where the version does not say so."""
    wrong = False
    for package in MODULES:
        tag = last_tag(package)
        if tag is None:
            sys.stdout.write(f"{package}: skipped, there is no tag {package}-v* yet\n")
            continue
        pyproject = (ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8")
        version = tomllib.loads(pyproject)["project"]["version"]
        broken = breaking_changes(package, tag)
        allowed = may_break(tag.removeprefix(f"{package}-v"), version)
        wrong = wrong or bool(broken and not allowed)
        verdict = "allowed by the new version" if allowed else "the version must say so"
        sys.stdout.write(f"{package}: {len(broken)} breaking changes since {tag}")
        sys.stdout.write(f" ({verdict})\n" if broken else "\n")
        sys.stdout.writelines(f"  {line}\n" for line in broken)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
