"""The public API: the contract of the reference page, the exported names, and their docstrings.

``reference_api.json`` holds the contract as data: every module path, name, kind and signature of
the reference page. It never changes. ``public_names.json`` holds what the packages export; whoever
adds or removes a public name writes it there too, so that the public API changes on purpose only.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from prefect import Task
from prefect.blocks.core import Block

HERE = Path(__file__).parent
REFERENCE = json.loads((HERE / "reference_api.json").read_text())["names"]
PUBLIC_NAMES = json.loads((HERE / "public_names.json").read_text())
PACKAGE = "qcsc_prefect.integrations.qiskit"
KINDS = {
    "positional": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "keyword": inspect.Parameter.KEYWORD_ONLY,
}

ADDED_BY_PYDANTIC = {"model_post_init"}


def each_name(chosen: Callable[[dict[str, Any]], bool] = bool) -> pytest.MarkDecorator:
    """Run a test for each name of the reference page that is chosen."""
    entries = [entry for entry in REFERENCE if chosen(entry)]
    return pytest.mark.parametrize("entry", entries, ids=[entry["path"] for entry in entries])


def public_object(path: str) -> Any:
    """Return an object by its documented path."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        break
    for name in parts[length:]:
        found = inspect.getattr_static(found, name)
    return found


def callable_of(found: Any) -> Callable[..., Any]:
    if isinstance(found, Task):
        return found.fn
    return found.fget if isinstance(found, property) else found


def parameters_of(found: Any) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(callable_of(found)).parameters.values())
    return [each for each in parameters if each.name != "self"]


def written_parameters(signature: str) -> list[tuple[str, inspect._ParameterKind, str, object]]:
    """Return name, kind, annotation and default of each parameter of a written signature."""
    arguments = ast.parse(f"def written{signature}: ...").body[0].args
    without = [inspect.Parameter.empty]
    positional = zip(
        arguments.args,
        without * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults,
        strict=True,
    )
    keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [
        (
            argument.arg,
            KINDS[kind],
            ast.unparse(argument.annotation),
            ast.literal_eval(default) if isinstance(default, ast.expr) else without[0],
        )
        for kind, group in (("positional", positional), ("keyword", keyword))
        for argument, default in group
    ]


def alternatives(annotation: object) -> set[str]:
    """Return the members of an annotated union, without the modules that they come from."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return {re.sub(r"\b\w+\.", "", member).strip() for member in text.split("|")}


# ---- the contract ----


@each_name()
def test_the_name_is_there_and_of_its_kind(entry: dict[str, Any]):
    found = public_object(entry["path"])
    kind = entry["kind"]
    if kind == "class":
        assert inspect.isclass(found)
        if "Block" in entry.get("bases", []):
            assert issubclass(found, Block)
    elif kind == "property":
        assert isinstance(found, property)
    else:
        assert inspect.iscoroutinefunction(callable_of(found)) == kind.startswith("coroutine")
    if entry["path"].startswith(f"{PACKAGE}.tasks."):
        assert isinstance(found, Task)
        assert found.isasync


@each_name(lambda entry: "signature" in entry)
def test_the_signature_is_the_written_one(entry: dict[str, Any]):
    found = public_object(entry["path"])
    written = written_parameters(entry["signature"])
    ours = parameters_of(found)
    assert [(each.name, each.kind, each.default) for each in ours[: len(written)]] == [
        (name, kind, default) for name, kind, _, default in written
    ]
    for each, (name, _, annotation, _) in zip(ours, written, strict=False):
        # Accepting more than the page says breaks nobody.
        accepted = alternatives(each.annotation)
        assert annotation == "Any" or alternatives(annotation) <= accepted, name
    for extra in ours[len(written) :]:
        assert extra.kind is inspect.Parameter.KEYWORD_ONLY, extra.name
        assert extra.default is not inspect.Parameter.empty, extra.name


@each_name(lambda entry: "returns" in entry)
def test_the_return_annotation_is_the_written_one(entry: dict[str, Any]):
    found = public_object(entry["path"])
    returned = inspect.signature(callable_of(found)).return_annotation
    assert returned is not inspect.Signature.empty
    # Where the page says Any, saying more breaks nobody.
    assert entry["returns"] == "Any" or alternatives(returned) == alternatives(entry["returns"])


@each_name(lambda entry: not entry["kind"].endswith(("method", "property")))
def test_the_name_is_exported_from_the_package(entry: dict[str, Any]):
    found = public_object(entry["path"])
    name = entry["path"].rpartition(".")[2]
    package = importlib.import_module(PACKAGE)
    assert getattr(package, name) is found
    assert name in package.__all__
    assert name in dir(package)


# ---- what is exported ----


@pytest.mark.parametrize("module", PUBLIC_NAMES)
def test_the_exported_names_are_the_recorded_ones(module: str):
    exported = importlib.import_module(module).__all__
    assert len(exported) == len(set(exported))
    assert sorted(exported) == PUBLIC_NAMES[module], (
        "The public API has changed. If that is meant, change public_names.json."
    )


# ---- docstrings ----


def exported_callables() -> Iterator[tuple[str, Any]]:
    for module, names in PUBLIC_NAMES.items():
        for name in names:
            found = getattr(importlib.import_module(module), name)
            path = f"{module}.{name}"
            if isinstance(found, Task) or inspect.isfunction(found):
                yield path, found
            elif inspect.isclass(found):
                own = [(f"{path}.{member}", value) for member, value in vars(found).items()]
                yield from (
                    (member_path, getattr(value, "__func__", value))
                    for member_path, value in own
                    if not member_path.rpartition(".")[2].startswith("_")
                    and isinstance(value, property | staticmethod | classmethod | FunctionType)
                    and member_path.rpartition(".")[2] not in ADDED_BY_PYDANTIC
                )


CALLABLES = dict(exported_callables())


def section(docstring: str, title: str) -> str:
    """Return a section of a docstring in Google style, or an empty string."""
    match = re.search(rf"^{title}:\n((?:[ ]{{4}}.*\n|\n)+)", f"{docstring}\n", re.MULTILINE)
    return match[1] if match else ""


@pytest.mark.parametrize("path", CALLABLES)
def test_every_parameter_and_return_value_is_described(path: str):
    found = CALLABLES[path]
    docstring = inspect.getdoc(callable_of(found)) or ""
    assert docstring.splitlines()[0].endswith((".", "?")), "a summary line"
    described = re.findall(r"^    \*{0,2}(\w+)(?: \(.*?\))?:", section(docstring, "Args"), re.M)
    named = [each.name for each in parameters_of(found) if each.name != "cls"]
    assert described == named
    returned = inspect.signature(callable_of(found)).return_annotation
    if not isinstance(found, property) and returned not in (None, "None"):
        assert section(docstring, "Returns") or section(docstring, "Yields")


@each_name(lambda entry: entry["kind"] == "class")
def test_classes_describe_the_parameters_they_are_made_of(entry: dict[str, Any]):
    found = public_object(entry["path"])
    docstring = inspect.getdoc(found) or ""
    if issubclass(found, Block):
        assert all(field.description for name, field in found.model_fields.items())
    else:
        described = re.findall(r"^    (\w+):", section(docstring, "Args"), re.M)
        assert described == [each.name for each in parameters_of(found)]
