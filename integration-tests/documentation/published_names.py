"""Says what a published wheel offers: names, parameters, tasks, artifact keys, scripts and extras.

The page on moving over from 0.3 must name whatever differs. What 0.3.0 offers stands in
``published_0_3.json`` beside this file, made once from the published wheels; nothing of them is
imported, only read:

.. code-block:: sh

    pip download --no-deps qcsc-prefect-qiskit==0.3.0 qcsc-prefect-core==0.3.0 -d wheels
    python integration-tests/documentation/published_names.py wheels/*.whl

Without arguments it prints what differs today.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

PUBLISHED = Path(__file__).with_name("published_0_3.json")


def names_in(wheels: list[Path]) -> dict[str, Any]:
    """Read what wheels offer.

    Args:
        wheels: The files.

    Returns:
        ``names`` by module, each with its parameters and the name of its task, ``artifact_keys``,
        ``scripts`` and ``extras``.
    """
    found: dict[str, Any] = {"names": {}, "artifact_keys": [], "scripts": [], "extras": []}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for path in sorted(archive.namelist()):
                text = archive.read(path).decode()
                if path.endswith(".py"):
                    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                    tree = ast.parse(text)
                    found["names"][module] = _public_names(tree)
                    found["artifact_keys"] += _artifact_keys(tree)
                elif path.endswith("entry_points.txt"):
                    lines = text.partition("[console_scripts]")[2].splitlines()
                    found["scripts"] += [
                        line.split("=")[0].strip() for line in lines if "=" in line
                    ]
                elif path.endswith("METADATA"):
                    found["extras"] += [
                        line.split(":")[1].strip()
                        for line in text.splitlines()
                        if line.startswith("Provides-Extra:")
                    ]
    found["artifact_keys"] = sorted(set(found["artifact_keys"]))
    return found


def differences(published: dict[str, Any]) -> list[str]:
    """Compare what was published with what is installed.

    Args:
        published: What `names_in` returned.

    Returns:
        The words that a page about moving over must hold, each once.
    """
    missing: list[str] = []
    for module_name, names in published["names"].items():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            missing += [module_name, *names]
            continue
        for name, facts in names.items():
            now = getattr(module, name, None)
            if now is None:
                missing.append(name)
                continue
            if facts["task"] is not None and now.name != facts["task"]:
                missing += [facts["task"], now.name]
            if not facts["parameters"]:
                continue
            parameters = inspect.signature(getattr(now, "fn", now)).parameters
            for parameter, default in facts["parameters"].items():
                there = parameters.get(parameter)
                if there is None or (
                    default is not None and repr(there.default) != repr(ast.literal_eval(default))
                ):
                    missing.append(parameter)
    missing += published["artifact_keys"] + published["scripts"] + published["extras"]
    return sorted(set(missing))


def _public_names(tree: ast.Module) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = {"parameters": _parameters(node), "task": _task_name(node)}
        elif isinstance(node, ast.ClassDef):
            made = [
                part
                for part in node.body
                if isinstance(part, ast.FunctionDef) and part.name == "__init__"
            ]
            parameters = _parameters(made[0]) if made else {}
            names[node.name] = {"parameters": parameters, "task": None}
        elif isinstance(node, ast.Assign):
            assigned = [target.id for target in node.targets if isinstance(target, ast.Name)]
            names.update({name: {"parameters": {}, "task": None} for name in assigned})
    return {name: facts for name, facts in names.items() if not name.startswith("_")}


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str | None]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    without = [None] * (len(positional) - len(arguments.defaults))
    pairs = [
        *zip(positional, [*without, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {
        argument.arg: None if default is None else ast.unparse(default)
        for argument, default in pairs
        if argument.arg != "self"
    }


def _task_name(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "task":
            for keyword in decorator.keywords:
                if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
    return None


def _artifact_keys(tree: ast.Module) -> list[str]:
    """The keys that artifacts have by default, and what is appended to a key to make another."""
    keys = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.JoinedStr):
            keys += node.value.values if node.arg == "key" else []
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BoolOp):
            named = {target.id for target in node.targets if isinstance(target, ast.Name)}
            keys += node.value.values if "key" in named else []
    return [str(part.value) for part in keys if isinstance(part, ast.Constant)]


if __name__ == "__main__":
    if given := [Path(argument) for argument in sys.argv[1:]]:
        PUBLISHED.write_text(json.dumps(names_in(given), indent=1, sort_keys=True) + "\n")
    else:
        print("\n".join(differences(json.loads(PUBLISHED.read_text()))))
