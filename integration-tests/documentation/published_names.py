"""Says what a published wheel offers: names, members, parameters, tasks, artifact keys, needs.

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
import importlib.metadata
import inspect
import json
import re
import sys
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ForwardRef

from packaging.requirements import Requirement
from pydantic import BaseModel

PUBLISHED = Path(__file__).with_name("published_0_3.json")

#: Modules of which the page says that nothing takes their place: what their classes hold is gone
#: with them, and is not named one by one.
NONE_INSTEAD = ("qcsc_prefect.integrations.qiskit.qrmi", "qcsc_prefect_core")

#: Private names that are kept on Prefect's server.
KEPT_ON_THE_SERVER = {"_block_type_name", "_block_type_slug"}

#: Where what the published distribution requires is written today.
DISTRIBUTION = "qcsc-prefect-qiskit"

Words = tuple[str, ...]


def offers_of(wheels: list[Path]) -> dict[str, Any]:
    """Read what wheels offer.

    Args:
        wheels: The files.

    Returns:
        ``names`` by module, with ``exports`` from elsewhere, ``artifact_keys``, ``scripts``,
        ``extras`` and ``requirements``.
    """
    found: dict[str, Any] = {
        "names": {},
        "exports": {},
        "artifact_keys": [],
        "scripts": [],
        "extras": [],
        "requirements": [],
    }
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for path in sorted(archive.namelist()):
                text = archive.read(path).decode()
                if path.endswith(".py"):
                    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                    tree = ast.parse(text)
                    found["names"][module] = _public_names(tree)
                    found["exports"][module] = _exported_names(tree)
                    found["artifact_keys"] += _artifact_keys(tree)
                elif path.endswith("entry_points.txt"):
                    lines = text.partition("[console_scripts]")[2].splitlines()
                    found["scripts"] += [
                        line.split("=")[0].strip() for line in lines if "=" in line
                    ]
                elif path.endswith("METADATA"):
                    for name, _, value in (line.partition(":") for line in text.splitlines()):
                        if name == "Provides-Extra":
                            found["extras"].append(value.strip())
                        elif name == "Requires-Dist":
                            found["requirements"].append(value.strip())
    found["artifact_keys"] = sorted(set(found["artifact_keys"]))
    return found


def differences(published: Mapping[str, Any]) -> list[Words]:
    """Compare what was published with what is installed.

    Args:
        published: What `offers_of` returned.

    Returns:
        What a page about moving over must say, each once: words that stand together in one of its
        lines, such as a class and a method of it, or what was and what is now.
    """
    found: set[Words] = set()
    for module_name, names in published["names"].items():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            found.add((module_name,))
            module = None
        for name, facts in names.items():
            now = getattr(module, name, None)
            if now is not None:
                found.update((name, *words) for words in _changes(facts, now))
                continue
            found.add((name,))
            if not module_name.startswith(NONE_INSTEAD):
                found.update((name, member) for member in facts.get("members", ()))
        found.update(
            (name,) for name in published["exports"][module_name] if not _offers(module, name)
        )
    for gone in ("artifact_keys", "scripts", "extras"):
        found.update((word,) for word in published[gone])
    found.update((bound,) for bound in _other_bounds(published["requirements"]))
    return sorted(found)


# ---- reading what was published ----


def _public_names(tree: ast.Module) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = _function(node)
        elif isinstance(node, ast.ClassDef):
            names[node.name] = _class(node)
        elif isinstance(node, ast.Assign):
            names.update({name: {} for name in _assigned(node)})
    return {name: facts for name, facts in names.items() if not name.startswith("_")}


def _exported_names(tree: ast.Module) -> list[str]:
    """The names in ``__all__``: a package exports what other modules of it define."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and _assigned(node) == ["__all__"]:
            return sorted(ast.literal_eval(node.value))
    return []


def _assigned(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _class(node: ast.ClassDef) -> dict[str, Any]:
    members: dict[str, Any] = {}
    signature = ""
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            members[part.target.id] = {"field": _field(part)}
        elif isinstance(part, ast.Assign):
            members.update({name: {"value": ast.unparse(part.value)} for name in _assigned(part)})
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            if part.name == "__init__":
                signature = ast.unparse(part.args)
                members.update({name: {} for name in _set_on_self(part)})
            elif (decorators := [*map(ast.unparse, part.decorator_list)]) == ["property"]:
                members[part.name] = {}
            elif not any("validator" in each for each in decorators):
                members[part.name] = {"signature": ast.unparse(part.args)}
    return {
        "bases": [ast.unparse(base).rpartition(".")[2] for base in node.bases],
        "signature": signature,
        "members": {
            name: facts
            for name, facts in members.items()
            if not name.startswith("_") or name in KEPT_ON_THE_SERVER
        },
    }


def _field(part: ast.AnnAssign) -> str:
    """What a field takes and what it is where it is left out, as one would write it."""
    default = part.value
    if isinstance(default, ast.Call):
        written = {keyword.arg: keyword.value for keyword in default.keywords}
        default = written.get("default", written.get("default_factory"))
    annotation = ast.unparse(part.annotation)
    return annotation if default is None else f"{annotation} = {ast.unparse(default)}"


def _set_on_self(function: ast.AST) -> list[str]:
    return [
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    ]


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    return {"signature": ast.unparse(node.args), "task": _task_name(node)}


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
            keys += node.value.values if "key" in _assigned(node) else []
    return [str(part.value) for part in keys if isinstance(part, ast.Constant)]


# ---- comparing it with what is there ----


def _offers(module: ModuleType | None, name: str) -> bool:
    return hasattr(module, name) and name in module.__all__


def _changes(facts: Mapping[str, Any], now: Any) -> Iterator[Words]:
    """What differs about a name that is still there, without the name."""
    if facts.get("task") not in (None, getattr(now, "name", None)):
        yield facts["task"], now.name
    yield from ((name,) for name in _other_parameters(facts.get("signature", ""), now))
    if "members" not in facts:
        return
    parents = {parent.__name__ for parent in inspect.getmro(now)} | {"TypedDict"}
    yield from ((base,) for base in facts["bases"] if base not in parents)
    there = _members(now)
    for name, member in facts["members"].items():
        if name not in there:
            yield (name,)
        elif "field" in member:
            if not _is_the_same_field(member["field"], name, now):
                yield (name,)
        elif name in KEPT_ON_THE_SERVER:
            if _as_kept(ast.literal_eval(member["value"])) != _as_kept(getattr(now, name)):
                yield (name,)
        else:
            parameters = _other_parameters(member.get("signature", ""), getattr(now, name, None))
            yield from ((name, parameter) for parameter in parameters)


def _members(now: type) -> set[str]:
    """The names of a class, and those that its objects are given when they are made."""
    names = {*dir(now), *getattr(now, "model_fields", ())}
    for parent in inspect.getmro(now):
        names.update(getattr(parent, "__annotations__", ()))
        if inspect.isfunction(made := vars(parent).get("__init__")):
            names.update(_set_on_self(ast.parse(textwrap.dedent(inspect.getsource(made)))))
    return names


def _is_the_same_field(published: str, name: str, now: type) -> bool:
    """Whether a field takes what it took, and is the same where it is left out."""
    annotation, _, default = published.partition(" = ")
    if not _takes(_annotations(now).get(name, ""), annotation):
        return False
    if not issubclass(now, BaseModel):
        return True
    field = now.model_fields[name]
    return ("" if field.is_required() else repr(field.default)) == default


def _annotations(now: type) -> dict[str, object]:
    found: dict[str, object] = {}
    for parent in reversed(inspect.getmro(now)):
        found.update(getattr(parent, "__annotations__", {}))
    return found


def _as_kept(text: str) -> str:
    """A block type's slug as the server knows it: Prefect writes dashes for underscores."""
    return text.replace("_", "-")


def _other_parameters(signature: str, now: object) -> Iterator[str]:
    """The parameters that are gone, moved, have another default, or take less than they did."""
    if not signature:
        return
    function = ast.parse(f"def published({signature}): ...").body[0]
    there = dict(inspect.signature(getattr(now, "fn", now)).parameters)
    there.pop("self", None)
    for name, (annotation, default, place) in _parameters(function.args).items():
        parameter = there.get(name)
        if (
            parameter is None
            or (place is not None and [*there].index(name) != place)
            or (place is not None and parameter.kind is parameter.KEYWORD_ONLY)
            or (default is not None and repr(parameter.default) != default)
            or not _takes(parameter.annotation, annotation)
        ):
            yield name


def _parameters(arguments: ast.arguments) -> dict[str, tuple[str, str | None, int | None]]:
    """What each parameter takes, its default, and its place where it need not be named."""
    positional = [each for each in arguments.args if each.arg != "self"]
    without = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*without, *arguments.defaults, *arguments.kw_defaults]
    return {
        argument.arg: (
            "Any" if argument.annotation is None else ast.unparse(argument.annotation),
            None if default is None else ast.unparse(default),
            positional.index(argument) if argument in positional else None,
        )
        for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True)
    }


def _takes(annotation: object, published: str) -> bool:
    """Whether a type takes at least what a published one took; ``Any`` promised nothing."""
    if "Any" in _alternatives(published):
        return True
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    now = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _alternatives(published) <= _alternatives(now)


def _alternatives(annotation: str) -> set[str]:
    """The members of a written union, without the modules that they come from."""
    plain = re.sub(r"\b\w+\.", "", annotation).replace("object", "Any")
    return {each.strip() for each in plain.split("|")}


def _other_bounds(published: list[str]) -> Iterator[str]:
    """What is required today in another version, as one would write it."""
    before = {each.name: each.specifier for each in map(Requirement, published)}
    for now in map(Requirement, importlib.metadata.requires(DISTRIBUTION) or ()):
        if now.name in before and now.marker is None and before[now.name] != now.specifier:
            yield now.name + ",".join(sorted(map(str, now.specifier), reverse=True))


if __name__ == "__main__":
    if given := [Path(argument) for argument in sys.argv[1:]]:
        PUBLISHED.write_text(json.dumps(offers_of(given), indent=1, sort_keys=True) + "\n")
    else:
        print("\n".join(map(" ".join, differences(json.loads(PUBLISHED.read_text())))))
