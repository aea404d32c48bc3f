"""An HTTPS server on loopback with a CA of its own, that serves files by digest and can be made to fail."""

import datetime as dt
import ipaddress
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PATIENCE_SECONDS = 120


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for loopback that is its own CA, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = dt.datetime.fromtimestamp(time.time(), dt.timezone.utc)
    day = dt.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    paths = folder / "site.pem", folder / "site.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class HttpsSite:
    """Serves ``files`` (digest -> content). ``fault`` names what goes wrong; ``asked`` are the ranges asked for.

    With the fault "dies" it sends half of a range, sets ``half_sent``, and breaks off when it is closed.
    """

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.ca_file, key = write_certificate(folder)
        self.files = files
        self.fault = ""
        self.asked: list[str] = []
        self.connections = 0
        self.half_sent = threading.Event()
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def template(self) -> str:
        return f"https://127.0.0.1:{self._server.server_port}/{{sha256}}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(site: HttpsSite) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"site": site})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: HttpsSite

    def setup(self) -> None:
        super().setup()
        self.site.connections += 1

    def do_GET(self) -> None:
        self.site.asked.append(self.headers["Range"])
        data = self.site.files.get(self.path[1:])
        match self.site.fault:
            case "stall":
                self.site.released.wait(PATIENCE_SECONDS)
                self.close_connection = True
            case "missing":
                self._answer(404, b"")
            case "redirect":
                self._answer(302, b"", Location="http://127.0.0.1/")
            case "no ranges":
                self._answer(200, data or b"")
            case _:
                self._range(data or b"")

    def _range(self, data: bytes) -> None:
        first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
        part = data[first : last + 1]
        place = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        if self.site.fault == "wrong bytes":
            part = part[: len(part) // 2] + bytes(len(part) - len(part) // 2)
        if self.site.fault in {"cut", "dies"}:
            self._answer(206, part[: len(part) // 2], length=len(part), **place)
            if self.site.fault == "dies":
                self.site.half_sent.set()
                self.site.released.wait(PATIENCE_SECONDS)
            self.close_connection = True
        else:
            self._answer(206, part, **place)

    def _answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
