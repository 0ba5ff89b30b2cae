"""Steers an emulator from another process, over the port that it serves clients on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exchange import NO_CODE, error_response

if TYPE_CHECKING:
    from .exchange import Request, Response


class Control:
    """Answers the requests under ``/__emulator__/``."""

    def answer(self, request: Request) -> Response:
        """Carry a request out and return the answer."""
        return error_response(404, f"There is no {request.path}.", code=NO_CODE)
