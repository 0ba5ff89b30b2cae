"""A Prefect task whose ``pubs`` Prefect does not walk.

Prefect looks for futures inside every argument, element by element: a list of a million parameter
values costs it eight seconds. `PubTask` hands ``pubs`` over in Prefect's own annotation `opaque`,
which still resolves a future that stands for the whole argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from prefect import Task
from prefect.utilities.annotations import BaseAnnotation, opaque

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["PubTask", "pub_task"]

P = ParamSpec("P")
R = TypeVar("R")


class PubTask(Task[P, R]):
    """A task with a parameter ``pubs`` that may be large.

    A generator is read once and kept as a list, so that every attempt of the task sees it.
    """

    # The parent types these methods by overloads that an override cannot repeat.
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, as `prefect.Task` does."""
        args, kwargs = self._with_opaque_pubs(args, kwargs)
        return super().__call__(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit the task to the flow's task runner, as `prefect.Task` does."""
        args, kwargs = self._with_opaque_pubs(args, kwargs)
        return super().submit(*args, **kwargs)

    def with_options(self, **options: Any) -> Any:
        """Return a copy of the task with other options, as `prefect.Task` does."""
        changed = super().with_options(**options)
        # The parent always makes a plain Task, which would walk the PUBs again.
        changed.__class__ = type(self)
        return changed

    def _with_opaque_pubs(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "pubs" in kwargs:
            return args, {**kwargs, "pubs": _opaque(kwargs["pubs"])}
        position = list(inspect.signature(self.fn).parameters).index("pubs")
        if position >= len(args):
            return args, kwargs
        return (*args[:position], _opaque(args[position]), *args[position + 1 :]), kwargs


def _opaque(pubs: object) -> object:
    if isinstance(pubs, BaseAnnotation) or pubs is None:
        return pubs
    return opaque(list(pubs) if isinstance(pubs, Iterator) else pubs)


def pub_task(**options: Any) -> Callable[[Callable[P, R]], PubTask[P, R]]:
    """Make a `PubTask` of a function; takes the options of `prefect.task`."""

    def decorate(function: Callable[P, R]) -> PubTask[P, R]:
        return PubTask(fn=function, **options)

    return decorate
