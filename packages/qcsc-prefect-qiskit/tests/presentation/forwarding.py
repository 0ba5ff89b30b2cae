"""A way to the Prefect server that a test can break, as a network does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Forwarder:
    """Forwards connections on a loopback port to a server.

    Attributes:
        url: The address that stands for the server's.
    """

    def __init__(self, target_url: str) -> None:
        parts = urlsplit(target_url)
        self._target = (parts.hostname, parts.port)
        self._sockets: set[socket.socket] = set()
        self._silent = False
        self._listener = self._listen(0)
        self._port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}{parts.path}"

    def refuse(self) -> None:
        """Close the port and every connection: new ones are refused."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_connections()

    def swallow(self) -> None:
        """Close every connection; accept new ones, and never answer them."""
        self._silent = True
        self._close_connections()

    def restore(self) -> None:
        """Forward again."""
        self._silent = False
        if self._listener.fileno() == -1:
            self._listener = self._listen(self._port)

    def close(self) -> None:
        """End for good."""
        with suppress(OSError):
            self.refuse()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                self._sockets.add(near)
                if not self._silent:
                    far = socket.create_connection(self._target)
                    self._sockets.add(far)
                    for one, other in ((near, far), (far, near)):
                        threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _close_connections(self) -> None:
        for connection in list(self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._sockets.clear()
