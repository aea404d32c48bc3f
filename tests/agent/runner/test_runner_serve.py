"""The inference protocol: metadata, tensors in and out, refusals, one at a time."""

import http.client
import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.errors import InferenceError, InputError
from edgepick_agent.ports import TensorSpec
from edgepick_agent.runner import oip, serve
from edgepick_agent.runner.endpoint import Service
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from fakes.runner_outside import PATIENCE_SECONDS, ask, until
from fakes.runtime import FakeSession
from fakes.runtime_models import EVALUATION, digits_golden

INT8 = TensorSpec(name="a", shape=(1, 4), dtype="int8", scale=0.5, zero_point=-10)
SPEC = RunnerSpec(
    model="m",
    version="7",
    model_path="unused",
    format=ModelFormat.TFLITE,
    runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
    limits=RunLimits(inference_seconds=PATIENCE_SECONDS),
)
INFER = "/v2/models/m/infer"


def tensor(data, *, name="a", shape=(1, 4), datatype="FP32") -> dict:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


class Running:
    """A service on a Unix socket in this process."""

    def __init__(self, folder: Path, spec: RunnerSpec = SPEC) -> None:
        self.service = Service(spec)
        self.path = folder / "s.sock"
        self.server = serve.Server(serve.unix_listener(self.path), self.service)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def opens(self, *sessions: FakeSession) -> None:
        """Serve copies of a model."""
        self.service.load(*sessions)
        self.service.open()

    def infer(self, *inputs: dict, **more) -> tuple[int, dict]:
        return ask(self.path, "POST", INFER, {"inputs": list(inputs), **more})

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def running(tmp_path):
    server = Running(tmp_path)
    yield server
    server.close()


def test_the_demo_model_answers_over_its_socket(start, spec, golden):
    """A real digit through the real server gets the label that the data set says, as does its version."""
    process = start.serving(replace(spec, golden=golden))
    with np.load(EVALUATION) as data:
        image, label = data["x"][0], int(data["y"][0])
    request = {"id": "x1", "inputs": [tensor(image.reshape(-1).tolist(), name="image", shape=(1, 32, 32, 1))]}
    path = Path(process._spec.socket_path)

    status, answer = ask(path, "POST", "/v2/models/digits/infer", request)
    versioned = ask(path, "POST", "/v2/models/digits/versions/1.0/infer", request)

    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "1.0", "x1")
    assert int(np.argmax(answer["outputs"][0]["data"])) == label
    assert versioned == (200, answer)


def test_a_loopback_port_answers_too_when_asked_for(start, spec):
    """With tcp_port the same service is there over TCP, on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start.serving(replace(spec, tcp_port=port)).front()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)

    connection.request("GET", "/v2/models/digits")
    reply = connection.getresponse()
    document = json.loads(reply.read())
    connection.close()

    assert reply.status == 200
    assert document["platform"] == "litert_tflite"


def test_a_port_that_another_program_has_costs_the_port_alone(start, spec):
    """The runner's own socket answers, every look at it says what is lacking, and the next runner has the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(spec, tcp_port=other.getsockname()[1])
        without = start.serving(taken)
        without.front()
        answer = ask(Path(without._spec.socket_path), "GET", "/v2/models/digits")
        seen = without.observe()
        os.kill(without.pid, signal.SIGSTOP)
        silent = without.observe()
        os.kill(without.pid, signal.SIGCONT)
    start.serving(taken).front()
    connection = http.client.HTTPConnection("127.0.0.1", taken.tcp_port, timeout=PATIENCE_SECONDS)

    connection.request("GET", "/v2")
    found = connection.getresponse().status
    connection.close()

    assert answer[0] == 200
    assert f"not on port {taken.tcp_port}: Address already in use" in seen.detail
    assert silent.detail == seen.detail
    assert found == 200


def test_metadata_names_server_and_model(running):
    """Server and model metadata are those of the protocol."""
    running.opens(FakeSession())

    server = ask(running.path, "GET", "/v2")
    model = ask(running.path, "GET", "/v2/models/m")

    assert (server[0], server[1]["name"], server[1]["extensions"]) == (200, "edgepick-agent", ["binary_tensor_data"])
    assert model == (
        200,
        {
            "name": "m",
            "versions": ["7"],
            "platform": "fake_tflite",
            "inputs": [{"name": "a", "shape": [1, 4], "datatype": "FP32"}],
            "outputs": [{"name": "b", "shape": [1, 4], "datatype": "FP32"}],
        },
    )


def test_health_follows_the_model(running):
    """Before the model is loaded the server is live and not ready; then it is ready."""
    urls = ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v2/models/m")
    before = [ask(running.path, "GET", url)[0] for url in urls]
    running.opens(FakeSession())

    after = [ask(running.path, "GET", url)[0] for url in urls]

    assert before == [200, 503, 503, 503]
    assert after == [200, 200, 200, 200]


def test_an_int8_variant_looks_like_the_float_model(running):
    """A client sends and gets real numbers whatever the variant stores, and may ask for the stored ones."""
    running.opens(FakeSession(lambda a: np.maximum(a, -10), tensor=INT8))

    metadata = ask(running.path, "GET", "/v2/models/m")[1]["inputs"][0]
    real = running.infer(tensor([1.5, -2, 0.26, 60]))[1]["outputs"][0]
    raw = running.infer(tensor([-128, -10, 0, 127], datatype="INT8"), parameters={"raw": True})[1]["outputs"][0]

    assert metadata["datatype"] == "FP32"
    assert metadata["parameters"] == {"stored_datatype": "INT8", "scale": 0.5, "zero_point": -10}
    assert (real["datatype"], real["data"]) == ("FP32", [1.5, 0.0, 0.5, 60.0])
    assert (raw["datatype"], raw["data"]) == ("INT8", [-10, -10, 0, 127])


def test_nested_data_and_chosen_outputs_are_understood(running):
    """Data may be nested as the tensor is, and outputs may be named."""
    running.opens(FakeSession())

    status, answer = running.infer(tensor([[1, -2, 3, -4]]), outputs=[{"name": "b"}])

    assert (status, answer["outputs"][0]["data"]) == (200, [1, 0, 3, 0])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        ([], "not a JSON object"),
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [5]}, "object with a name"),
        ({"inputs": [tensor([1, 2, 3, 4], name="z")]}, "takes ['a'], found ['z']"),
        ({"inputs": [tensor([1, 2, 3, 4])] * 2}, "found ['a', 'a']"),
        ({"inputs": [tensor([1, 2, 3])]}, "wants 4 values, found 3"),
        ({"inputs": [tensor([1, 2, 3, 4], shape=(4,))]}, "takes float32 [1, 4]"),
        ({"inputs": [tensor([1, 2, 3, 4], shape=(1, -4))]}, "shape [1, -4] is not a list"),
        ({"inputs": [tensor([1, 2, 3, 4], shape=(2**40, 2**40))]}, "wants"),
        ({"inputs": [tensor([], shape=(0, 2**62, 2**62))]}, "shape [0, 4611686018427387904, 4611686018427387904]: "),
        ({"inputs": [tensor([], shape=(0, 2**70))]}, "shape [0, 1180591620717411303424] is not"),
        ({"inputs": [tensor([1], shape=(10**4000, 10**4000))]}, "at most 64 sizes"),
        ({"inputs": [tensor([1], shape=(1,) * 100)]}, "at most 64 sizes"),
        ({"inputs": [tensor([[1, 2], [3]])]}, "ragged"),
        ({"inputs": [tensor(["1", "2", "3", "4"])]}, "not a number"),
        ({"inputs": [tensor(None)]}, "not a list"),
        ({"inputs": [tensor([1, 2, 3, 4], datatype="BYTES")]}, "datatype 'BYTES'"),
        ({"inputs": [tensor([1, 2, 3, 400], datatype="INT8")]}, "does not fit INT8"),
        ({"inputs": [tensor([1.5, 2, 3, 4], datatype="INT8")]}, "does not fit INT8"),
        ({"inputs": [tensor([1e5, 2, 3, 4], datatype="FP16")]}, "does not fit FP16"),
        ({"inputs": [tensor([1, 2, 3, 4], datatype="BOOL")]}, "does not fit BOOL"),
        ({"inputs": [tensor([1, 2, 3, 4], datatype=[])]}, "datatype []"),
        ({"inputs": [tensor([1, 2, 3, 4])], "outputs": [{"name": "z"}]}, "outputs: the model has ['b']"),
        ({"inputs": [tensor([1, 2, 3, 4])], "outputs": [{"name": "b"}] * 60}, "gives each once; found ['b', 'b'"),
        ({"inputs": [{**tensor([]), "parameters": {"binary_data_size": 16}}]}, "0 bytes are left"),
        ({"inputs": [tensor([1, 2, 3, 4])], "parameters": {"timeout": "soon"}}, "microseconds"),
        ({"inputs": [tensor([1, 2, 3, 4])], "parameters": {"timeout": 10**400}}, "microseconds"),
    ],
)
def test_a_request_that_does_not_fit_is_answered_with_why(running, document, said):
    """Every wrong request is a 400 whose error says what was found, and the server goes on."""
    running.opens(FakeSession())

    status, answer = ask(running.path, "POST", INFER, document)

    assert (status, list(answer)) == (400, ["error"])
    assert said in answer["error"]
    assert running.infer(tensor([1, 2, 3, 4]))[0] == 200


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/m/versions/8", 404),
        ("GET", "/v2/models/m/versions/7", 200),
        ("GET", "/v2/models/m/versions/7/ready", 200),
        ("GET", "/v2/models/m/nothing", 404),
        ("GET", "/v2/models/m/infer", 405),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/m/ready", 404),
        ("POST", "/v2", 404),
        ("PUT", "/v2", 501),
    ],
)
def test_paths_and_methods_are_the_protocols(running, method, url, status):
    """What is there answers; what is not is a 404, 405 or 501 with an error in JSON."""
    running.opens(FakeSession())

    found, document = ask(running.path, method, url, {} if method == "POST" else None)

    assert found == status
    assert ("error" in document) == (status >= 400)


def test_a_request_that_is_too_large_is_refused_unread(running):
    """Longer than the model's inputs can need is a 413 that names the limit."""
    running.opens(FakeSession())

    status, answer = ask(running.path, "POST", INFER, b" " * 500_000)

    assert status == 413
    assert "has 500000 bytes" in answer["error"]
    assert str(running.service.request_bytes()) in answer["error"]


def test_a_body_that_ends_early_is_refused(running):
    """A client that announces more than it sends is told so."""
    running.opens(FakeSession())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(running.path))
        client.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{}}".encode())
        client.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: client.recv(4096), b""))

    assert b" 400 " in reply.splitlines()[0]
    assert b"ended after 2 of 50 bytes" in reply


def test_a_refused_request_leaves_the_connection_open(running):
    """After a request that was read and refused, the next one on the same connection is answered."""
    running.opens(FakeSession())
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE_SECONDS)
    connection.sock.connect(str(running.path))

    statuses = []
    for body in (b"{", json.dumps({"inputs": [tensor([1, 2, 3, 4])]}).encode()):
        connection.request("POST", INFER, body)
        reply = connection.getresponse()
        reply.read()
        statuses.append(reply.status)
    connection.close()

    assert statuses == [400, 200]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "x"}, 411),
        ({"Content-Length": "9" * 5000}, 411),
        ({"Inference-Header-Content-Length": "5"}, 400),
        ({"Inference-Header-Content-Length": "9" * 5000}, 400),
    ],
)
def test_a_length_that_is_none_is_refused(running, headers, status):
    """A request without a usable length, or with a header longer than its body, is refused."""
    running.opens(FakeSession())

    assert ask(running.path, "POST", INFER, b"", headers)[0] == status


def test_a_client_that_waits_for_leave_to_send_gets_it_at_once(running):
    """What expects ``100 Continue``, as curl does with a large body, hears it before it has sent any of the body."""
    running.opens(FakeSession())
    body = json.dumps({"inputs": [tensor([1, -2, 3, 4])]}).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(running.path))
        client.sendall(f"POST {INFER} HTTP/1.1\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        leave = client.recv(4096)
        client.sendall(body)
        reply = client.recv(4096)

    assert leave == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert b'"data": [1.0, 0.0, 3.0, 4.0]' in reply


def test_what_is_not_http_is_answered_in_json(running):
    """Even a broken request line gets a JSON error, not a page."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(running.path))
        client.sendall(b'nonsense "quoted" words here\r\n\r\n')
        reply = b"".join(iter(lambda: client.recv(4096), b""))

    assert b"400" in reply.splitlines()[0]
    assert "error" in json.loads(reply.partition(b"\r\n\r\n")[2])


def test_an_error_of_the_runtime_is_a_500(running):
    """The runtime's own failure is told as such, and the server goes on."""

    def fail(_array):
        raise ArithmeticError("division by zero in the kernel")

    running.opens(FakeSession(fail))

    status, answer = running.infer(tensor([1, 2, 3, 4]))

    assert status == 500
    assert "division by zero" in answer["error"]
    assert ask(running.path, "GET", "/v2/health/live")[0] == 200


def test_a_fault_of_our_own_is_a_500(running, capfd):
    """Whatever goes wrong inside, the client gets an answer in JSON and the log gets the trace."""

    def fail(_array):
        raise KeyError("a mistake")

    running.opens(FakeSession(fail))

    status, answer = running.infer(tensor([1, 2, 3, 4]))

    assert (status, answer) == (500, {"error": "the runner failed on this request"})
    assert "a mistake" in capfd.readouterr().err


def test_an_output_that_json_cannot_carry_is_a_500(running):
    """NaN is told as an error, not sent as broken JSON."""
    running.opens(FakeSession(lambda a: a * np.nan))

    status, answer = running.infer(tensor([1, 2, 3, 4]))

    assert status == 500
    assert "NaN" in answer["error"]


def test_one_inference_runs_at_a_time(running):
    """However many clients ask, the session never sees two of them together, and all are answered."""
    inside, most = [], []

    def count(array):
        inside.append(1)
        most.append(len(inside))
        inside.pop()
        return array

    running.opens(FakeSession(count))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: running.infer(tensor([i, 0, 0, 0])), range(40)))

    assert [(status, a["outputs"][0]["data"][0]) for status, a in answers] == [(200, i) for i in range(40)]
    assert max(most) == 1


def test_connections_are_kept_open(running):
    """A client may send many requests over one connection."""
    running.opens(FakeSession())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(running.path))
        replies = []
        for _ in range(3):
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            replies.append(client.recv(4096).split(b" ")[1])

    assert replies == [b"200"] * 3


def test_too_many_connections_are_closed(running):
    """Beyond the bound a connection is closed at once; those before it still work."""
    clients = [socket.socket(socket.AF_UNIX) for _ in range(serve.MOST_CONNECTIONS + 1)]
    try:
        for client in clients:
            client.settimeout(PATIENCE_SECONDS)
            client.connect(str(running.path))
        closed = clients[-1].recv(1)
        clients[0].sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        served = clients[0].recv(12)
    finally:
        for client in clients:
            client.close()

    assert closed == b""
    assert served == b"HTTP/1.1 200"


def test_an_overdue_inference_makes_the_server_not_live(tmp_path):
    """Beyond the limit of one inference both health checks say 503; when it ends they recover."""
    release = threading.Event()
    running = Running(tmp_path, replace(SPEC, limits=RunLimits(inference_seconds=0.01)))

    def wait(array):
        release.wait(PATIENCE_SECONDS)
        return array

    running.opens(FakeSession(wait))
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(running.infer, tensor([1, 2, 3, 4]))
            until(running.service.overdue, "overdue")
            during = [ask(running.path, "GET", f"/v2/health/{check}")[0] for check in ("live", "ready")]
            release.set()
            answer.result(PATIENCE_SECONDS)
        after = [ask(running.path, "GET", f"/v2/health/{check}")[0] for check in ("live", "ready")]
    finally:
        running.close()

    assert (during, after) == ([503, 503], [200, 200])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_clear_refusal(body):
    """Whatever is sent, parsing ends in a request or an InputError, never another exception."""
    with suppress(InputError):
        assert oip.parse_request(body, FakeSession()).feeds


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, 10**400, -(10**4000)])
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {"name": st.just("a") | JSON},
    optional={
        "shape": st.just([1, 4]) | JSON,
        "datatype": st.sampled_from(sorted(oip.NUMPY_NAMES)) | JSON,
        "data": st.lists(JSON, min_size=4, max_size=4) | JSON,
        "parameters": JSON,
    },
)


@given(st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=2)}, optional={"outputs": JSON, "parameters": JSON}))
def test_any_request_runs_or_is_clearly_refused(document):
    """Whatever JSON is sent, it is a feed that the model takes, or an InputError."""
    session = FakeSession(tensor=INT8)
    with suppress(InputError):
        request = oip.parse_request(json.dumps(document).encode(), session)
        assert session.run(request.feeds)[0].dtype == np.int8


def test_errors_of_inference_keep_their_cause(running):
    """What the runtime raised stays attached to what the client is told."""

    def fail(_array):
        raise ZeroDivisionError("kernel")

    with pytest.raises(InferenceError) as caught:
        running.service.load(FakeSession(fail)).run({"a": np.zeros((1, 4), np.float32)})

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_golden_fixture_is_the_evaluation_set(tmp_path):
    """The self-test used here holds real images, so that passing it means something."""
    with np.load(digits_golden(tmp_path / "g.npz", samples=3)) as data:
        assert data["x"].shape == (3, 32, 32, 1)
        assert data["x"].any()
