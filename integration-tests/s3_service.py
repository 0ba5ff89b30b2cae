"""An S3 service on the loopback interface, and a cable to it that can be cut."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3

from .machines import free_port, running


class Bucket:
    """A bucket of an S3 service, and the folder of it that a laboratory uses."""

    def __init__(self, port: int, name: str, folder: str) -> None:
        self.port = port
        self._name = name
        self._folder = folder
        self._client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        )
        self._client.create_bucket(Bucket=name)

    def keys(self) -> set[str]:
        """Return the keys of everything in the folder."""
        found = self._client.list_objects_v2(Bucket=self._name, Prefix=f"{self._folder}/")
        return {
            entry["Key"].removeprefix(f"{self._folder}/") for entry in found.get("Contents", [])
        }

    def read(self, key: str) -> bytes:
        """Return what lies under a key."""
        stored = self._client.get_object(Bucket=self._name, Key=f"{self._folder}/{key}")
        content: bytes = stored["Body"].read()
        return content

    def content(self, key: str) -> Any:
        """Return what a Prefect result record of kind JSON holds."""
        return json.loads(json.loads(self.read(key))["result"])


@contextmanager
def s3_bucket(name: str, folder: str, log: Path) -> Iterator[Bucket]:
    """Run an S3 service with one bucket until the end of the with statement."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, log) as service:
        service.wait_until_it_says("Running on")
        yield Bucket(port, name, folder)


class Cable:
    """Leads to a port until it is cut; from then on nothing comes through, and nothing is refused.

    So a process that writes over it can be caught in the middle of that.
    """

    def __init__(self, port: int) -> None:
        self._far_end = port
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing more through."""
        self._cut.set()

    def close(self) -> None:
        """Take it away."""
        for connection in (self._listener, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):  # taken away
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._far_end))
                self._connections += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # taken away, or one side has gone
            while data := source.recv(65536):
                if self._cut.is_set():
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
