"""A throw-away certificate, so that encrypted connections to the made-up hosts end here."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

EMULATED_DOMAIN = "emu.test"
"""The made-up domain of a saved account; ``.test`` never resolves (RFC 2606)."""

_DOMAINS = (EMULATED_DOMAIN, "cloud.ibm.com")
_HOSTS = (
    "localhost",
    *(f"{prefix}.{domain}" for domain in _DOMAINS for prefix in (
        "*", "*.quantum", "*.global-search-tagging",
    )),
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """A self-signed certificate and its key.

    Attributes:
        certificate: The certificate in PEM.
        key: The key in PEM.
    """

    certificate: bytes
    key: bytes


class TLSEnd:
    """Ends TLS for the hosts that the client speaks to; the certificate is made at first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def certificate(self) -> bytes:
        """The self-signed certificate in PEM, for clients that want to verify it."""
        with self._lock:
            return self._identity.certificate

    def context(self) -> ssl.SSLContext:
        """Return the context for the server's side of a connection."""
        with self._lock:
            return self._context

    @cached_property
    def _identity(self) -> Identity:
        return _new_identity()

    @cached_property
    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The standard library takes a certificate from files only.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "identity.pem"
            path.write_bytes(self._identity.key + self._identity.certificate)
            context.load_cert_chain(path)
        return context


def _new_identity() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Emulated quantum service")])
    alternatives = [
        *(x509.DNSName(host) for host in _HOSTS),
        x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
    ]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Identity(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
