"""Compares the public API of each package with that of its last release, by griffe.

    uv run python .github/scripts/api_check.py

Public are the names in a package's ``__all__``, and what the reference pages of the documentation
name. Everything else, such as a module that no page names, may change at any time. What breaks
callers is allowed where the version says so: a new minor version while the major one is 0, a new
major version after that. A package without an earlier release is skipped, with a message.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import griffe
from packaging.version import Version
from release_tags import MODULES, ROOT, git, released_versions

DOCUMENTED = re.compile(r"^::: (\S+)$", re.MULTILINE)


class PublicApi:
    """What callers may rely on in one package, read from its sources alone.

    Those of its siblings stay out: what they break is theirs to announce.
    """

    def __init__(self, package: str, root: Path) -> None:
        self._module = MODULES[package]
        self._collection = griffe.ModulesCollection()
        self._documents = root / "docs" / "reference"
        griffe.load(
            self._module,
            search_paths=[root / "packages" / package / "src"],
            modules_collection=self._collection,
            resolve_aliases=True,
            allow_inspection=False,
        )

    def find(self, path: str) -> griffe.Object | griffe.Alias | None:
        """Return what stands at a path, or None."""
        try:
            return self._collection.get_member(path)
        except KeyError:
            return None

    def paths(self) -> set[str]:
        """Return the path of each public object; two may lead to the same one."""
        pages = (page.read_text(encoding="utf-8") for page in self._documents.glob("*.md"))
        named = {path for page in pages for path in DOCUMENTED.findall(page) if self._owns(path)}
        public = set()
        for path in {self._module, *named}:
            found = self.find(path)
            if isinstance(found, griffe.Module):
                public |= {f"{path}.{name}" for name in found.exports or ()}
            elif found is not None:
                public.add(path)
        return public

    def objects(self, paths: set[str]) -> griffe.Module:
        """Return a module whose members are what stands at the paths, under these paths."""
        found = griffe.Module("public")
        for path in sorted(paths):
            member = self.find(path)
            if isinstance(member, griffe.Alias):
                try:
                    member = member.final_target
                except griffe.AliasResolutionError:
                    continue  # It comes from a sibling.
            if member is not None:
                member.public = True
                found.members[path] = member
        return found

    def _owns(self, path: str) -> bool:
        owners = [module for module in MODULES.values() if f"{path}.".startswith(f"{module}.")]
        return max(owners, key=len, default=None) == self._module


def last_release(package: str) -> tuple[Version, str] | None:
    """Return version and tag of the release before this commit; pre-releases promise nothing."""
    which = ["--merged", "HEAD"]
    diff = ["git", "diff", "--quiet", "HEAD", "--", f"packages/{package}"]
    if subprocess.run(diff, cwd=ROOT, check=False).returncode == 0:
        # A tag at this very commit is the release that is being made.
        which += ["--no-contains", "HEAD"]
    released = released_versions(package, *which).items()
    return next((each for each in released if not each[0].is_prerelease), None)


def breaking_changes(package: str, tag: str) -> list[str]:
    """Describe what callers of the tagged version would miss."""
    with tempfile.TemporaryDirectory(prefix="api-") as folder:
        git("worktree", "add", "--detach", folder, tag)
        try:
            old, new = PublicApi(package, Path(folder)), PublicApi(package, ROOT)
            promised, kept = old.paths(), old.paths() & new.paths()
            changed = griffe.find_breaking_changes(old.objects(kept), new.objects(kept))
            return [
                # Also where it is still there: the next release could drop it unnoticed.
                *(f"{path}: no longer public" for path in sorted(promised - kept)),
                *(breakage.explain(griffe.ExplanationStyle.ONE_LINE) for breakage in changed),
            ]
        finally:
            git("worktree", "remove", "--force", folder)


def may_break(old: Version, new: Version) -> bool:
    """Answer whether a version promises less than the one before it."""
    return new.major > old.major or (old.major == 0 and new.release[:2] > old.release[:2])


def main() -> int:
    """Print what broke; return 1 where the version does not say so."""
    wrong = False
    for package in MODULES:
        last = last_release(package)
        if last is None:
            sys.stdout.write(f"{package}: skipped, there is no earlier release {package}-v*\n")
            continue
        before, tag = last
        pyproject = (ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8")
        now = Version(tomllib.loads(pyproject)["project"]["version"])
        broken = breaking_changes(package, tag)
        allowed = may_break(before, now)
        wrong = wrong or bool(broken and not allowed)
        verdict = "allowed by the new version" if allowed else "the version must say so"
        sys.stdout.write(f"{package}: {len(broken)} breaking changes since {tag}")
        sys.stdout.write(f" ({verdict})\n" if broken else "\n")
        sys.stdout.writelines(f"  {line}\n" for line in broken)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
