"""Copies of the repository, in which its scripts can be tried and its sources changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .environments import ROOT, clean_environment, run


def copied_repository(folder: Path) -> Path:
    """Copy what git tracks, and what it would, into a repository of its own with one commit."""
    listed = run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT).stdout
    for name in listed.splitlines():
        if (ROOT / name).exists() and not name.endswith(".png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "Everything")
    return folder


def git(folder: Path, *arguments: str) -> None:
    run(["git", "-c", "user.name=t", "-c", "user.email=t@t.test", *arguments], cwd=folder)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def version_of(package: str) -> str:
    text = (ROOT / "packages" / package / "pyproject.toml").read_text()
    (found,) = re.findall(r'^version = "(.*)"$', text, re.MULTILINE)
    return found


def step(
    repository: Path, script: str, *arguments: str | Path, **changes: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return run(
        [sys.executable, repository / ".github" / "scripts" / f"{script}.py", *arguments],
        cwd=repository,
        env=clean_environment(PATH=path, **changes),
        check=False,
        timeout=600,
    )


def edit(repository: Path, package: str, path: str, old: str, new: str) -> None:
    """Replace a text in a file of a package, which must hold it."""
    file = repository / "packages" / package / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
