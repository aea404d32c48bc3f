"""HTTP around one model: routes, limits and errors of the Open Inference Protocol's REST API."""

import contextlib
import json
import math
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.errors import InferenceError, InputError
from edgepick_agent.ports import Session
from edgepick_agent.runner import oip

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

BASE_REQUEST_BYTES = 64 * 1024
BYTES_PER_NUMBER = 32
"""Longest usual text of a float64 in JSON with its separator."""
OPEN_SIZE = 64
"""What a dimension that may vary counts as in the request limit."""
IDLE_CONNECTION_SECONDS = 30.0
LINGER_SECONDS = 1.0
LINGER_BYTES = 65536

Answer = tuple[int, dict[str, Any]]


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure of this program
    """An HTTP error to be sent: its status and one sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Service:
    """One model and its state: opening, open, draining; safe to use from many threads."""

    def __init__(self, spec: RunnerSpec) -> None:
        self.model = spec.model
        self.version = spec.version
        self._format = spec.format
        self._limit = spec.limits.inference_seconds
        self._session: Session | None = None
        self._draining = False
        self._one_at_a_time = threading.Lock()
        self._since: float | None = None
        self._active = 0
        self._changed = threading.Condition()

    def open(self, session: Session) -> None:
        """Begin to answer inference requests."""
        self._session = session

    def watched(self, session: Session) -> Session:
        """Return the session with its inferences seen by the health check."""
        return _Watched(self, session)

    def overdue(self) -> str | None:
        """Return a sentence if the present inference has taken longer than its limit."""
        since = self._since
        if since is not None and time.monotonic() - since > self._limit:
            return f"an inference has taken longer than {self._limit:g} s"
        return None

    @property
    def ready(self) -> bool:
        """Whether inference requests are answered."""
        return self._session is not None and not self._draining and self.overdue() is None

    def session(self) -> Session:
        """Return the loaded model, or refuse with 503."""
        if self._session is None or self._draining:
            raise Refused(503, "the model is not ready")
        return self._session

    def infer(self, body: bytes) -> dict[str, Any]:
        """Return the answer to one inference request."""
        session = self.session()
        try:
            request = oip.parse_request(body, session)
        except InputError as error:
            raise Refused(400, str(error)) from error
        try:
            outputs = self.run(session, request.feeds)
            return oip.response(request, outputs, session, self.model, self.version)
        except InputError as error:
            raise Refused(400, str(error)) from error
        except (InferenceError, ValueError) as error:
            raise Refused(500, str(error)) from error

    def run(self, session: Session, feeds: Mapping[str, "Array"]) -> list["Array"]:
        """Run one inference, after those before it."""
        with self._one_at_a_time:
            self._since = time.monotonic()
            try:
                return session.run(feeds)
            finally:
                self._since = None

    def request_bytes(self) -> int:
        """Return how long a request may be: what the model's inputs can need."""
        numbers = sum(math.prod(n if n > 0 else OPEN_SIZE for n in spec.shape) for spec in self.session().inputs)
        return BASE_REQUEST_BYTES + BYTES_PER_NUMBER * numbers

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata."""
        session = self.session()
        return oip.model_metadata(session, self.model, self.version, f"{session.used.name}_{self._format}")

    def entered(self, change: int) -> None:
        """Count a request that begins (+1) or ends (-1)."""
        with self._changed:
            self._active += change
            self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """Take no further requests; return when those in flight are answered, or after ``seconds``."""
        self._draining = True
        with self._changed:
            self._changed.wait_for(lambda: self._active == 0, timeout=seconds)


class _Watched:
    """A session whose inferences go through the service, one at a time and timed."""

    def __init__(self, service: Service, session: Session) -> None:
        self._service = service
        self._session = session
        self.inputs, self.outputs, self.used = session.inputs, session.outputs, session.used

    @property
    def arena_bytes(self) -> int | None:
        return self._session.arena_bytes

    def run(self, feeds: Mapping[str, "Array"]) -> list["Array"]:
        return self._service.run(self._session, feeds)

    def close(self) -> None:
        self._session.close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "edgepick"
    sys_version = ""
    timeout = IDLE_CONNECTION_SECONDS
    # Headers and body leave in one packet; in two, Nagle and delayed ACK would cost 40 ms on TCP.
    wbufsize = -1

    @property
    def _service(self) -> Service:
        service: Service = self.server.service  # type: ignore[attr-defined]
        return service

    def do_GET(self) -> None:
        """Answer health and metadata."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer inference."""
        self._service.entered(1)
        try:
            self._answer(self._post)
        finally:
            self._service.entered(-1)

    def _answer(self, route: Callable[[list[str]], Answer]) -> None:
        path = self.path.partition("?")[0]
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            status, document = route([part for part in path.split("/") if part])
        except Refused as refusal:
            status, document = refusal.status, {"error": str(refusal)}
        except Exception:  # noqa: BLE001 - a client must get an answer; the fault goes to the log
            traceback.print_exc()
            status, document = 500, {"error": "the runner failed on this request"}
        self.close_connection = self.close_connection or self._unread
        self._send(status, document)
        if self._unread:
            self._linger()

    def _linger(self) -> None:
        """Take in what the client still sends: closing on it would reset the answer away."""
        end = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_SECONDS)
            while time.monotonic() < end and self.connection.recv(LINGER_BYTES):
                pass

    def _send(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _get(self, parts: list[str]) -> Answer:
        match parts:
            case ["v2"]:
                return 200, oip.server_metadata()
            case ["v2", "health", "live"]:
                return self._live()
            case ["v2", "health", "ready"]:
                return self._ready()
            case ["v2", "models", model, *rest]:
                return self._model(model, rest)
            case _:
                raise Refused(404, f"nothing is at {self.path}")

    def _live(self) -> Answer:
        overdue = self._service.overdue()
        return (200, {"live": True}) if overdue is None else (503, {"live": False, "error": overdue})

    def _ready(self) -> Answer:
        overdue = self._service.overdue()
        if overdue is not None:
            return 503, {"live": False, "ready": False, "error": overdue}
        if not self._service.ready:
            return 503, {"live": True, "ready": False, "error": "the model is not ready"}
        return 200, {"live": True, "ready": True}

    def _model(self, model: str, rest: list[str]) -> Answer:
        match self._below_version(model, rest):
            case []:
                return 200, self._service.metadata()
            case ["ready"]:
                status, said = self._ready()
                return status, {
                    "name": model,
                    "ready": status == 200,
                    **({"error": said["error"]} if status != 200 else {}),
                }
            case ["infer"]:
                raise Refused(405, "inference is asked for with POST")
            case _:
                raise Refused(404, f"nothing is at {self.path}")

    def _below_version(self, model: str, rest: list[str]) -> list[str]:
        service = self._service
        if model != service.model:
            raise Refused(404, f"the model here is {service.model!r}, not {model!r}")
        if rest[:1] != ["versions"]:
            return rest
        if rest[1:2] != [service.version]:
            raise Refused(404, f"the version here is {service.version!r}")
        return rest[2:]

    def _post(self, parts: list[str]) -> Answer:
        if parts[:2] != ["v2", "models"] or len(parts) < 4:
            raise Refused(404, f"nothing is at {self.path}")
        if self._below_version(parts[2], parts[3:]) != ["infer"]:
            raise Refused(404, f"nothing is at {self.path}")
        return 200, self._service.infer(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Inference-Header-Content-Length"):
            raise Refused(400, "binary tensors are not supported, send data as JSON")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(411, "a request needs a Content-Length")
        allowed = self._service.request_bytes()
        if int(length) > allowed:
            raise Refused(413, f"the body has {int(length)} bytes; at most {allowed} are accepted")
        try:
            body = self.rfile.read(int(length))
        except TimeoutError as error:
            raise Refused(408, f"the body did not arrive within {IDLE_CONNECTION_SECONDS:g} s") from error
        if len(body) < int(length):
            raise Refused(400, f"the body ended after {len(body)} of {length} bytes")
        self._unread = False
        return body

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is not HTTP, or a method that nothing here has."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else what is not HTTP gets no status line
        self._send(code, {"error": message or explain or "not understood"})

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the agent reports what matters."""

    def address_string(self) -> str:
        """Return a name for a client, which a Unix socket does not have."""
        return "local"
