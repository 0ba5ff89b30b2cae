"""The HTTP server: direct requests, requests to it as a proxy, and TLS tunnels that end here."""

from __future__ import annotations

import itertools
import socket
import socketserver
import ssl
import struct
import sys
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs, urlsplit

from qcsc_prefect.integrations.qiskit.testing.exchange import Request, Response
from qcsc_prefect.integrations.qiskit.testing.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from io import BufferedIOBase

    from qcsc_prefect.integrations.qiskit.testing.control import Control
    from qcsc_prefect.integrations.qiskit.testing.dispatcher import Delivery, Dispatcher
    from qcsc_prefect.integrations.qiskit.testing.tls import TLSEnd

_LOOPBACK = "127.0.0.1"


class EmulatorServer(socketserver.ThreadingTCPServer):
    """Listens on the loopback interface only, and forwards nothing anywhere.

    Args:
        port: The port to listen on; 0 takes a free one.
        dispatcher: Answers the requests of clients.
        control: Answers the requests that steer the emulator.
        tls: Ends the TLS tunnels that clients open through a proxy.
        clock_ahead: How far the service's clock is ahead of this machine's.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(
        self,
        port: int,
        dispatcher: Dispatcher,
        control: Control,
        tls: TLSEnd,
        clock_ahead: Callable[[], timedelta],
    ) -> None:
        self.dispatcher = dispatcher
        self.clock_ahead = clock_ahead
        self.control = control
        self.tls = tls
        self.connection_numbers = itertools.count(1)
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__((_LOOPBACK, port), _Handler)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def keep_track(self, connection: socket.socket) -> None:
        """Remember an open connection, to close it with the server."""
        with self._connections_lock:
            self._connections.add(connection)

    def lose_track(self, connection: socket.socket) -> None:
        """Forget a connection that is closed."""
        with self._connections_lock:
            self._connections.discard(connection)

    def close(self) -> None:
        """Stop listening and drop the connections that clients keep open."""
        self.shutdown()
        self.server_close()
        with self._connections_lock:
            connections = list(self._connections)
        for connection in connections:
            _drop(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Report an error in a handler, unless it is that the client went away."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(cast("socket.socket", request), client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: EmulatorServer

    def setup(self) -> None:
        super().setup()
        self.server.keep_track(self.connection)
        self._number = next(self.server.connection_numbers)
        self._tunnel_host = ""

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.server.lose_track(self.connection)
            self.connection.close()

    def do_CONNECT(self) -> None:
        """Answer for whatever host the tunnel is meant for."""
        self._tunnel_host = self.path.partition(":")[0]
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        plain = self.connection
        encrypted = self.server.tls.context().wrap_socket(plain, server_side=True)
        self.server.lose_track(plain)
        self.server.keep_track(encrypted)
        self.connection = encrypted
        self.rfile = cast("BufferedIOBase", encrypted.makefile("rb", self.rbufsize))
        self.wfile = cast("BufferedIOBase", _SocketWriter(encrypted))
        self.close_connection = False

    def do_GET(self) -> None:
        request = self._read_request()
        if request.path.startswith("/__emulator__/"):
            self._send(self.server.control.answer(request))
            return
        self._deliver(self.server.dispatcher.dispatch(request, self._number))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - named by the base

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base
        """Print nothing: the requests are kept in the log of the emulator."""

    def _read_request(self) -> Request:
        target = urlsplit(self.path)
        host = target.hostname or self._tunnel_host
        length = int(self.headers.get("Content-Length") or 0)
        return Request(
            method=self.command,
            host=host,
            path=target.path,
            query=parse_qs(target.query, keep_blank_values=True),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length) if length else b"",
        )

    def _deliver(self, delivery: Delivery) -> None:
        match delivery.damage:
            case None:
                self._send(delivery.response)
            case FaultKind.TRUNCATE:
                half = len(delivery.response.body) // 2
                self._write(delivery.response, delivery.response.body[:half])
                self._hang_up()
            case FaultKind.CUT:
                half = len(delivery.response.body) // 2
                self._write(delivery.response, delivery.response.body[:half], announced=False)
                self._hang_up()
            case FaultKind.RESET:
                # Closing with a linger time of zero sends RST instead of FIN.
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.close_connection = True
                self.rfile.close()
                self.connection.close()
            case _:
                self._hang_up()

    def _send(self, response: Response) -> None:
        self._write(response, response.body)

    def _write(self, response: Response, body: bytes, *, announced: bool = True) -> None:
        now = datetime.now(UTC) + self.server.clock_ahead()
        lines = [
            f"HTTP/1.1 {response.status} {_phrase(response.status)}",
            f"Date: {format_datetime(now, usegmt=True)}",
        ]
        if response.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Type: {response.content_type}")
            if announced:
                lines.append(f"Content-Length: {len(response.body)}")
        if not announced:
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        # One write: two would wait for each other's acknowledgement.
        self.wfile.write(head + body)

    def _hang_up(self) -> None:
        self.close_connection = True
        _drop(self.connection)


class _SocketWriter:
    """The part of a writable file that the handler uses, unbuffered on a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.closed = False

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        self.closed = True


def _drop(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The client was faster.
        return


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Injected"
