"""A way to the service that can be shut: new connections are refused, those that stand go on."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

__all__ = ["Gate"]


class Gate:
    """Listens on a port of its own and hands on whatever comes there.

    Args:
        root_url: The address of the service.
    """

    def __init__(self, root_url: str) -> None:
        self._target = ("127.0.0.1", int(urlsplit(root_url).port or 0))
        self._listener: socket.socket | None = None
        self._port = 0
        self.open()

    @property
    def root_url(self) -> str:
        """The address of the gate."""
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Take connections, on the same port each time."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._take, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Let further connections be refused."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _take(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # it was shut
            service = socket.create_connection(self._target)
            for source, sink in ((client, service), (service, client)):
                threading.Thread(target=_hand_on, args=(source, sink), daemon=True).start()


def _hand_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
