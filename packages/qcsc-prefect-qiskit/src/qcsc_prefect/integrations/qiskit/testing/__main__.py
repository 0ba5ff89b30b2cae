"""Runs an emulated service until it is interrupted: ``python -m`` with the name of this package.

What it prints is a script for the shell of a client: it sets the variables that lead there.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading

import msgspec

from qcsc_prefect.integrations.qiskit.testing.service import EmulatedService


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        arguments: The arguments of the command line; by default those of the process.
    """
    options = _parser().parse_args(arguments)
    service = EmulatedService(
        backends=dict(options.backend or [("fake_manila", "fake_manila")]),
        seed=options.seed,
        noise=options.noise,
        queued_seconds=options.queued,
        running_seconds=options.running,
        port=options.port,
    )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with service:
        text = _as_json(service) if options.json else _as_shell_script(service)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qcsc_prefect.integrations.qiskit.testing",
        description="Emulate the quantum service on the loopback interface.",
    )
    parser.add_argument(
        "--backend",
        action="append",
        type=_backend,
        metavar="NAME[=DEVICE]",
        help="a backend, by the name of a recorded device (default: fake_manila), or under "
        "another name; can be given several times",
    )
    parser.add_argument("--port", type=int, default=0, help="the port (default: a free one)")
    parser.add_argument("--seed", type=int, help="a seed, for equal samples from equal jobs")
    parser.add_argument("--noise", action="store_true", help="simulate the recorded noise")
    parser.add_argument("--queued", type=float, default=0.0, help="seconds each job is queued")
    parser.add_argument("--running", type=float, default=0.0, help="least seconds each job runs")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


def _backend(text: str) -> tuple[str, str]:
    name, _, device = text.partition("=")
    return name, device or name


def _as_json(service: EmulatedService) -> str:
    return msgspec.json.encode(service.description).decode()


def _as_shell_script(service: EmulatedService) -> str:
    lines = [
        f"# Emulated service at {service.root_url}; stop it with Ctrl-C.",
        "# These lines, read by a shell, lead its programs to the service:",
    ]
    lines += [
        f"export {name}={shlex.quote(value)}" for name, value in service.account_environment.items()
    ]
    lines += [
        f"# QiskitRuntimeConfig(backend_name={name!r})" for name in service.description.backends
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
