"""A stack that is large enough for what Qiskit does by recursion in compiled code.

Qiskit walks a symbolic expression by recursion, about a kilobyte for each operation inside of
another, and a stack that is too small ends the process. The stack of a thread depends on who made
it; here is one of a known size, of which no more memory is used than is needed. Such a thread costs
a tenth of a millisecond, so whoever reads many expressions reads them in one call.
"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_on_deep_stack"]

T = TypeVar("T")

STACK_BYTES = 256 << 20

#: The size of a new thread's stack is a setting of the whole process.
_setting_the_size = threading.Lock()

_here = threading.local()


def call_on_deep_stack(function: Callable[[], T]) -> T:
    """Call a function with a large stack, in a thread of its own unless this is one already."""
    if getattr(_here, "is_deep", False):
        return function()
    outcome: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        _here.is_deep = True
        try:
            outcome.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 - passed on to the caller
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="qcsc-prefect-digest", daemon=True)
    with _setting_the_size:
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        except RuntimeError:
            # The process may not reserve so much: then on the stack that there is.
            return function()
        finally:
            threading.stack_size(usual)
    return outcome.result()
