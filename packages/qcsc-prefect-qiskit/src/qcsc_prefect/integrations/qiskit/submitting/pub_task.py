"""A Prefect task whose large arguments Prefect does not walk.

Prefect looks for futures inside every argument, element by element: a list of a million parameter
values costs it eight seconds, and the fields of a configuration and of a job reference some
milliseconds for each job. `PubTask` hands them over in Prefect's own annotation `opaque`, which
still resolves a future that stands for the whole argument. It is taught to survive the way to a
Dask worker.
"""

from __future__ import annotations

import copyreg
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from prefect import Task, unmapped
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import BaseAnnotation, opaque
from pydantic import BaseModel

from qcsc_prefect.integrations.qiskit.presentation import JobReferenceDict

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["PubTask", "pub_task"]

P = ParamSpec("P")
R = TypeVar("R")


def _reduce_opaque(annotation: opaque) -> tuple[type, tuple[object]]:
    return type(annotation), (annotation.unwrap(),)


# Pickled as the tuple that it is, an annotation would come back around a tuple around the value.
copyreg.pickle(opaque, _reduce_opaque)


class PubTask(Task[P, R]):
    """A task with a parameter ``pubs`` that may be large.

    A generator is read once and kept as a list, so that every attempt of the task sees it.
    """

    # The parent types these methods by overloads that an override cannot repeat.
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, as `prefect.Task` does."""
        args, kwargs = self._wrapped(_opaque, args, kwargs)
        return super().__call__(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit the task to the flow's task runner, as `prefect.Task` does."""
        args, kwargs = self._wrapped(_opaque, args, kwargs)
        return super().submit(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Submit the task once for each element of its iterable arguments, as `prefect.Task` does.

        ``pubs`` is then an iterable with the PUBs of one call in each element. A configuration,
        ``options`` as a mapping or native object, and a circuit are one value for all calls,
        although Python can iterate over them; what else all calls share goes into Prefect's
        `unmapped`.
        """
        args = tuple(_shared(value) for value in args)
        kwargs = {name: _shared(value) for name, value in kwargs.items()}
        args, kwargs = self._wrapped(_opaque_elements, args, kwargs)
        return super().map(*args, **kwargs)

    def with_options(self, **options: Any) -> Any:
        """Return a copy of the task with other options, as `prefect.Task` does."""
        changed = super().with_options(**options)
        # The parent always makes a plain Task, which would walk the PUBs again.
        changed.__class__ = type(self)
        return changed

    def _wrapped(
        self, wrap: Callable[[object], object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        whole = {
            name: opaque(value)
            for name, value in kwargs.items()
            if isinstance(value, (BaseModel, JobReferenceDict))
        }
        kwargs = {**kwargs, **whole}
        if "pubs" in kwargs:
            return args, {**kwargs, "pubs": wrap(kwargs["pubs"])}
        position = list(inspect.signature(self.fn).parameters).index("pubs")
        if position >= len(args):
            return args, kwargs
        return (*args[:position], wrap(args[position]), *args[position + 1 :]), kwargs


def _opaque(pubs: object) -> object:
    if isinstance(pubs, BaseAnnotation) or pubs is None:
        return pubs
    return opaque(list(pubs) if isinstance(pubs, Iterator) else pubs)


def _opaque_elements(pubs: object) -> object:
    if isinstance(pubs, PrefectFuture):
        return pubs  # inside an annotation Prefect would not see that it stands for a list
    return opaque(pubs) if isinstance(pubs, unmapped) else _opaque(pubs)


def _shared(value: object) -> object:
    from qiskit import QuantumCircuit

    return unmapped(value) if isinstance(value, (Mapping, BaseModel, QuantumCircuit)) else value


def pub_task(**options: Any) -> Callable[[Callable[P, R]], PubTask[P, R]]:
    """Make a `PubTask` of a function; takes the options of `prefect.task`."""

    def decorate(function: Callable[P, R]) -> PubTask[P, R]:
        return PubTask(fn=function, **options)

    return decorate
