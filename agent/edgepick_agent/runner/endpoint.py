"""HTTP around one model: routes, limits and errors of the Open Inference Protocol's REST API."""

import contextlib
import json
import math
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, NamedTuple

from edgepick_agent.core import answers
from edgepick_agent.core.open_inference import HEADER_LENGTH
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.errors import InferenceError, InputError
from edgepick_agent.ports import Session
from edgepick_agent.runner import oip
from edgepick_agent.runner.pool import FullError, Pool, WaitedError
from edgepick_agent.runner.tap import Served, Tap
from edgepick_agent.runner.tensors import check_shapes

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
MOST_DIGITS = 18
"""Of a number of bytes; Python refuses to read one of some thousands."""
RETRY_AFTER = {"Retry-After": "1"}


class Answer(NamedTuple):
    """What is sent: the status, a JSON document, binary tensors behind it, further headers."""

    status: int
    document: Mapping[str, Any]
    tensors: Sequence[bytes] = ()
    headers: Mapping[str, str] = {}
    served: Served | None = None
    """What a shadow may be given once this is sent."""


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure of this program
    """An HTTP error to be sent: its status, one sentence, and headers."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


class Service:
    """One model and its state: opening, open, draining; safe to use from many threads."""

    def __init__(self, spec: RunnerSpec) -> None:
        self.model = spec.model
        self.version = spec.version
        self._format = spec.format
        self._limit = spec.limits.inference_seconds
        self._takes = spec.serve_limits
        self._loaded: Pool | None = None
        self._pool: Pool | None = None
        self.answers = answers.Answers()
        """Two threads may count one bad answer as one of theirs; the next one tells them apart."""
        self.tap: Tap | None = None
        self.last_answers = False
        """Every answer is the last one on its connection: the runner is about to end."""

    def load(self, *sessions: Session) -> Session:
        """Take the copies of the model, and return one whose inferences the health check sees."""
        self._loaded = Pool(sessions, self._takes.queue)
        return _Watched(self._loaded)

    def open(self) -> None:
        """Begin to answer inference requests."""
        self._pool = self._loaded

    def overdue(self) -> str | None:
        """Return a sentence if an inference under way has taken longer than its limit."""
        pool = self._loaded
        if pool is not None and pool.longest() > self._limit:
            return f"an inference has taken longer than {self._limit:g} s"
        return None

    @property
    def ready(self) -> bool:
        """Whether inference requests are answered."""
        return self._pool is not None and self.overdue() is None and self.answers.failure is None

    def pool(self) -> Pool:
        """Return the loaded model, or refuse with 503."""
        if self._pool is None:
            raise Refused(503, "the model is not ready", RETRY_AFTER)
        return self._pool

    def infer(self, body: bytes, header_bytes: int | None = None) -> Answer:
        """Return the answer to one inference request."""
        pool = self.pool()
        try:
            request = oip.parse_request(body, pool.first, header_bytes)
            with pool.take(min(self._takes.queue_seconds, request.patience_seconds)) as session:
                began = time.perf_counter_ns()
                outputs = session.run(request.feeds)
                took_ns = time.perf_counter_ns() - began
            check_shapes(pool.first, outputs)
            answer = oip.response(request, outputs, pool.first, self.model, self.version)
        except InputError as error:
            raise Refused(400, str(error)) from error
        except FullError as error:
            raise Refused(503, f"{self._takes.queue} requests wait already", RETRY_AFTER) from error
        except WaitedError as error:
            raise Refused(504, "the request waited too long for its turn", RETRY_AFTER) from error
        except (InferenceError, ValueError) as error:
            self.answers = answers.after_bad(self.answers, str(error))
            raise Refused(500, str(error)) from error
        self.answers = answers.after_good(self.answers)
        served = Served(body, header_bytes, outputs, pool.first.outputs, took_ns)
        return Answer(200, answer.document, answer.tensors, served=served)

    def sent(self, served: Served) -> None:
        """Take note that a client has its answer."""
        if self.tap is not None and self.tap.is_open:
            self.tap.offer(served)

    def request_bytes(self) -> int:
        """Return how long a request may be: what the model's inputs can need."""
        if self._takes.request_bytes is not None:
            return self._takes.request_bytes
        inputs = self.pool().first.inputs
        numbers = sum(math.prod(n if n > 0 else OPEN_SIZE for n in spec.shape) for spec in inputs)
        return BASE_REQUEST_BYTES + BYTES_PER_NUMBER * numbers

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata."""
        session = self.pool().first
        return oip.model_metadata(session, self.model, self.version, f"{session.used.name}_{self._format}")


class _Watched:
    """One of the copies, taken from the pool for every inference."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.inputs, self.outputs, self.used = pool.first.inputs, pool.first.outputs, pool.first.used

    @property
    def arena_bytes(self) -> int | None:
        return self._pool.first.arena_bytes

    def run(self, feeds: Mapping[str, "Array"]) -> list["Array"]:
        with self._pool.take(math.inf) as session:
            return session.run(feeds)

    def close(self) -> None:
        self._pool.first.close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "edgepick"
    sys_version = ""
    timeout = IDLE_CONNECTION_SECONDS
    # Headers and body leave in one packet; in two, Nagle and delayed ACK would cost 40 ms on TCP.
    wbufsize = -1

    def setup(self) -> None:
        """Send what is smaller than a packet at once; a Unix socket does anyway."""
        super().setup()
        if self.connection.family != socket.AF_UNIX:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def _service(self) -> Service:
        service: Service = self.server.service  # type: ignore[attr-defined]
        return service

    def do_GET(self) -> None:
        """Answer health and metadata."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer inference."""
        self._answer(self._post)

    def handle_one_request(self) -> None:
        """Serve the next request, and tell the server while one is under way."""
        try:
            super().handle_one_request()
        finally:
            self._note(busy=False)

    def parse_request(self) -> bool:
        """Read the headers; from the first line on, the request is under way."""
        self._note(busy=True)
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        """Ask for the body at once: a client that hears nothing waits for a second before it sends it."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _note(self, *, busy: bool) -> None:
        self.server.note(self.connection, busy=busy)  # type: ignore[attr-defined]

    def _answer(self, route: Callable[[list[str]], Answer]) -> None:
        path = self.path.partition("?")[0]
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            answer = route([part for part in path.split("/") if part])
        except Refused as refusal:
            answer = Answer(refusal.status, {"error": str(refusal)}, headers=refusal.headers)
        except Exception:  # noqa: BLE001 - a client must get an answer; the fault goes to the log
            traceback.print_exc()
            answer = Answer(500, {"error": "the runner failed on this request"})
        self.close_connection = self.close_connection or self._unread or self._service.last_answers
        self._send(answer)
        if self._unread:
            self._linger()
        if answer.served is not None:
            self._service.sent(answer.served)

    def _linger(self) -> None:
        """Take in what the client still sends: closing on it would reset the answer away."""
        end = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_SECONDS)
            while time.monotonic() < end and self.connection.recv(LINGER_BYTES):
                pass

    def _send(self, answer: Answer) -> None:
        header = json.dumps(answer.document, allow_nan=False).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/octet-stream" if answer.tensors else "application/json")
        self.send_header("Content-Length", str(len(header) + sum(map(len, answer.tensors))))
        if answer.tensors:
            self.send_header(HEADER_LENGTH, str(len(header)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        for part in (header, *answer.tensors):
            self.wfile.write(part)
        self.wfile.flush()

    def _get(self, parts: list[str]) -> Answer:
        match parts:
            case ["v2"]:
                return Answer(200, oip.server_metadata())
            case ["v2", "health", "live"]:
                return self._live()
            case ["v2", "health", "ready"]:
                return self._ready()
            case ["v2", "models", model, *rest]:
                return self._model(model, rest)
            case _:
                raise Refused(404, f"nothing is at {self.path}")

    def _live(self) -> Answer:
        ails = self._ails()
        return Answer(503, {"live": False, **ails}) if ails else Answer(200, {"live": True})

    def _ails(self) -> dict[str, Any]:
        """Return what a runner that must be started anew says of itself; empty if nothing ails it."""
        overdue, bad = self._service.overdue(), self._service.answers.failure
        if overdue is not None:
            return {"error": overdue}
        return {"bad_answers": True, "error": bad} if bad is not None else {}

    def _ready(self) -> Answer:
        ails = self._ails()
        if ails:
            return Answer(503, {"live": False, "ready": False, **ails})
        if not self._service.ready:
            return Answer(503, {"live": True, "ready": False, "error": "the model is not ready"})
        return Answer(200, {"live": True, "ready": True, "answered": self._service.answers.any_good})

    def _model(self, model: str, rest: list[str]) -> Answer:
        match self._below_version(model, rest):
            case []:
                return Answer(200, self._service.metadata())
            case ["ready"]:
                status, said, *_ = self._ready()
                problem = {"error": said["error"]} if status != 200 else {}
                return Answer(status, {"name": model, "ready": status == 200, **problem})
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
        return self._service.infer(*self._body())

    def _body(self) -> tuple[bytes, int | None]:
        """Return the body, and how long its JSON part is if binary tensors may follow."""
        if self.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "compressed bodies are not taken")
        length, header = _number(self.headers.get("Content-Length")), self.headers.get(HEADER_LENGTH)
        if length is None:
            raise Refused(411, "a request needs a Content-Length")
        if header is not None and _number(header) is None:
            raise Refused(400, f"{HEADER_LENGTH}: {header[:20]!r} is not a number of bytes")
        allowed = self._service.request_bytes()
        if length > allowed:
            raise Refused(413, f"the body has {length} bytes; at most {allowed} are accepted")
        try:
            body = self.rfile.read(length)
        except TimeoutError as error:
            raise Refused(408, f"the body did not arrive within {IDLE_CONNECTION_SECONDS:g} s") from error
        if len(body) < length:
            raise Refused(400, f"the body ended after {len(body)} of {length} bytes")
        self._unread = False
        return body, _number(header)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is not HTTP, or a method that nothing here has."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else what is not HTTP gets no status line
        self._send(Answer(code, {"error": message or explain or "not understood"}))

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the agent reports what matters."""

    def address_string(self) -> str:
        """Return a name for a client, which a Unix socket does not have."""
        return "local"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None
