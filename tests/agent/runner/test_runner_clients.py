"""What clients rely on: binary tensors, other people's clients, and a bounded line."""

import json
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.client import Client
from edgepick_agent.core.runner_spec import RunnerSpec, ServeLimits
from edgepick_agent.errors import BusyError, InferenceError, InputError
from edgepick_agent.ports import TensorSpec
from edgepick_agent.runner import oip, serve
from edgepick_agent.runner.endpoint import Service
from edgepick_agent.runner.pool import FullError, Pool, WaitedError
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from fakes.free_ports import free_port
from fakes.runner_outside import PATIENCE_SECONDS, UnixHttp, ask, until
from fakes.runtime import FakeSession

INT8 = TensorSpec(name="a", shape=(1, 4), dtype="int8", scale=0.5, zero_point=-10)
SPEC = RunnerSpec(
    model="m",
    version="7",
    model_path="unused",
    format=ModelFormat.TFLITE,
    runtimes=(RuntimeChoice(name=RuntimeName.LITERT),),
)
ROW = np.array([[1.5, -2, 0, 4]], np.float32)


class Naming(FakeSession):
    """A session whose output is words."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        super().run(feeds)
        return [np.array([["cat", "", "café", b"\x00raw"]], object)]


WORDS = [[b"cat", b"", "café".encode(), b"\x00raw"]]


class Serving:
    """A service in this process, on a Unix socket and on a port."""

    def __init__(self, folder: Path, spec: RunnerSpec = SPEC) -> None:
        self.service, self.path, self.port = Service(spec), folder / "s.sock", free_port()
        listeners = (serve.unix_listener(self.path), serve.tcp_listener(self.port))
        self.servers = [serve.Server(listener, self.service) for listener in listeners]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def opens(self, *sessions: FakeSession) -> "Serving":
        self.service.load(*sessions)
        self.service.open()
        return self

    def client(self) -> Client:
        return Client("m", path=self.path, timeout=PATIENCE_SECONDS)

    def infer(self, array: np.ndarray) -> dict[str, np.ndarray]:
        with self.client() as client:
            return client.infer(array)

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def serving(tmp_path):
    running = Serving(tmp_path)
    yield running
    running.close()


# --- binary tensors -------------------------------------------------------------------------------


def test_our_client_sends_and_gets_arrays(serving):
    """Numbers go in and come out as arrays; a single input need not be named."""
    serving.opens(FakeSession())

    with serving.client() as client:
        named, single = client.infer({"a": ROW}), client.infer(ROW)

    assert named["b"].dtype == np.float32
    assert named["b"].tolist() == single["b"].tolist() == [[1.5, 0, 0, 4]]


def test_words_travel_with_their_lengths(serving):
    """Strings that a model gives come out as the bytes that they are, empty ones included, and not as pointers."""
    serving.opens(Naming())

    assert serving.infer(ROW)["b"].tolist() == WORDS


@pytest.mark.parametrize(
    "array",
    [ROW.astype(">f4"), np.asfortranarray(np.tile(ROW, (2, 1)))[:1], np.repeat(ROW, 2, axis=1)[:, ::2]],
    ids=["big-endian", "column-major", "with gaps"],
)
def test_an_array_is_sent_as_what_it_means_however_it_lies_in_memory(serving, array):
    """Byte order and layout are numpy's business, not that of who asks."""
    serving.opens(FakeSession())

    assert serving.infer(array)["b"].tolist() == [[1.5, 0, 0, 4]]


def test_an_int8_variant_takes_and_gives_real_numbers_as_binary_too(serving):
    """What is said of JSON holds for binary tensors: a client does not notice which variant it asks."""
    serving.opens(FakeSession(lambda a: np.maximum(a, -10), tensor=INT8))

    with serving.client() as client:
        real, stored = client.infer(ROW)["b"], client.infer(np.array([[-128, -10, 0, 127]], np.int8))["b"]

    assert real.tolist() == [[1.5, 0, 0, 4]]
    assert stored.tolist() == [[0.0, 0.0, 5.0, 68.5]]


def test_tritonclient_works_unchanged(serving):
    """NVIDIA's client reads health and metadata, and infers with binary and with JSON tensors."""
    triton = pytest.importorskip("tritonclient.http")
    serving.opens(FakeSession())
    client = triton.InferenceServerClient(f"127.0.0.1:{serving.port}")

    ready = (client.is_server_live(), client.is_server_ready(), client.is_model_ready("m"))
    metadata = client.get_model_metadata("m")
    found = []
    for binary in (True, False):
        tensor = triton.InferInput("a", [1, 4], "FP32")
        tensor.set_data_from_numpy(ROW, binary_data=binary)
        wanted = triton.InferRequestedOutput("b", binary_data=binary)
        found.append(client.infer("m", [tensor], outputs=[wanted], request_id="7"))
    client.close()

    assert ready == (True, True, True)
    assert metadata["inputs"] == [{"name": "a", "datatype": "FP32", "shape": [1, 4]}]
    assert [answer.as_numpy("b").tolist() for answer in found] == [[[1.5, 0, 0, 4]]] * 2
    assert found[0].get_response()["id"] == "7"


def test_tritonclient_reads_words(serving):
    """Strings travel in the way that NVIDIA's client knows."""
    triton = pytest.importorskip("tritonclient.http")
    serving.opens(Naming())
    tensor = triton.InferInput("a", [1, 4], "FP32")
    tensor.set_data_from_numpy(ROW)

    with triton.InferenceServerClient(f"127.0.0.1:{serving.port}") as client:
        found = client.infer("m", [tensor], outputs=[triton.InferRequestedOutput("b", binary_data=True)])

    assert found.as_numpy("b").tolist() == WORDS


def test_curl_works_over_the_socket(serving):
    """The line in the documentation works."""
    serving.opens(FakeSession())
    body = json.dumps({"inputs": [{"name": "a", "shape": [1, 4], "datatype": "FP32", "data": ROW[0].tolist()}]})

    command = ["curl", "-sS", "--unix-socket", str(serving.path), "http://localhost/v2/models/m/infer", "-d", body]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        pytest.skip("curl is not installed")

    assert json.loads(done.stdout)["outputs"][0]["data"] == [1.5, 0, 0, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"header": 10_000}, "is said to have 10000 bytes"),
        ({"size": 12}, "wants 16 bytes, found 12"),
        ({"size": -1}, "binary_data_size -1"),
        ({"size": "16"}, "binary_data_size '16'"),
        ({"more": b"xyz"}, "3 bytes follow"),
        ({"data": np.array([[1, np.nan, 0, 0]], np.float32).tobytes()}, "NaN"),
        ({"outputs": [{"name": "b", "parameters": {"classification": 3}}]}, "classification"),
    ],
)
def test_binary_tensors_that_do_not_fit_are_refused_with_why(change, said):
    """Lengths that disagree, numbers that are none, and extensions that are not spoken are named."""
    data = change.get("data", ROW.tobytes())
    size = {"binary_data_size": change.get("size", len(data))}
    document = {"inputs": [{"name": "a", "shape": [1, 4], "datatype": "FP32", "parameters": size}]}
    header = json.dumps(document | ({"outputs": change["outputs"]} if "outputs" in change else {})).encode()
    kept = data[: change["size"]] if change.get("size") == 12 else data

    with pytest.raises(InputError, match=said):
        oip.parse_request(header + kept + change.get("more", b""), FakeSession(), change.get("header", len(header)))


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_with_any_header_length_are_a_request_or_a_clear_refusal(body, header_bytes):
    """Wherever the header is said to end, parsing ends in a request or an InputError."""
    with suppress(InputError):
        assert oip.parse_request(body, FakeSession(), header_bytes).feeds


NUMBERS = {
    "FP16": st.floats(-100, 100, width=16), "FP32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "FP64": st.floats(allow_nan=False, allow_infinity=False), "BOOL": st.booleans(),
    "INT8": st.integers(-128, 127), "UINT16": st.integers(0, 65535), "INT64": st.integers(-(2**63), 2**63 - 1),
}  # fmt: skip


@given(st.data(), st.sampled_from(sorted(NUMBERS)), st.lists(st.integers(0, 3), max_size=3))
def test_every_type_survives_the_way_there_and_back(data, datatype, shape):
    """What goes in as binary comes out as it was, of any type and shape, empty ones included."""
    count = int(np.prod(shape, dtype=int))
    values = data.draw(st.lists(NUMBERS[datatype], min_size=count, max_size=count))
    array = np.array(values, dtype=oip.NUMPY_NAMES[datatype]).reshape(shape)
    session = FakeSession(lambda a: a, tensor=TensorSpec(name="a", shape=array.shape, dtype=array.dtype.name))
    parameters = {"binary_data_size": array.nbytes}
    header = json.dumps(
        {
            "inputs": [{"name": "a", "shape": list(shape), "datatype": datatype, "parameters": parameters}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()

    request = oip.parse_request(header + array.tobytes(), session, len(header))
    answer = oip.response(request, session.run(request.feeds), session, "m", "")

    assert answer.tensors == [array.tobytes()]
    assert answer.document["outputs"][0]["shape"] == list(shape)


# --- the line -------------------------------------------------------------------------------------


class Gate:
    """A session that answers when it is let."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.session = FakeSession(self._wait)
        self.inside = 0

    def _wait(self, array: np.ndarray) -> np.ndarray:
        self.inside += 1
        self.open.wait(PATIENCE_SECONDS)
        return array


def test_a_request_beyond_the_line_is_refused_at_once_and_may_come_again(tmp_path):
    """With one running and one waiting, a third gets 503 and when to come again; the two are answered."""
    gate = Gate()
    serving = Serving(tmp_path, replace(SPEC, serve_limits=ServeLimits(queue=1))).opens(gate.session)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(serving.infer, ROW)
        until(lambda: gate.inside, "an inference under way")
        second = pool.submit(serving.infer, ROW)
        until(lambda: serving.service.pool()._line, "a request that waits")
        connection = UnixHttp(serving.path)
        connection.request("POST", "/v2/models/m/infer", json.dumps({"inputs": [
            {"name": "a", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}))  # fmt: skip
        refused = connection.getresponse()
        said = json.loads(refused.read())
        connection.close()
        gate.open.set()
        answers = [first.result(PATIENCE_SECONDS), second.result(PATIENCE_SECONDS)]
    serving.close()

    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert said == {"error": "1 requests wait already"}
    assert [answer["b"].tolist() for answer in answers] == [ROW.tolist()] * 2


def test_a_request_that_waits_too_long_is_told_so(tmp_path):
    """After its wait, the device's or the client's own, a request gives up; the client raises BusyError."""
    gate = Gate()
    serving = Serving(tmp_path, replace(SPEC, serve_limits=ServeLimits(queue_seconds=0.05))).opens(gate.session)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(serving.infer, ROW)
        until(lambda: gate.inside, "an inference under way")
        with pytest.raises(BusyError, match="waited too long"):
            serving.infer(ROW)
        gate.open.set()
        first.result(PATIENCE_SECONDS)
    serving.close()


def test_clients_for_whom_there_was_no_thread_take_no_place(serving, monkeypatch):
    """However many connections the system had no thread for, once it has them again clients are answered."""
    serving.opens(FakeSession())

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as lacking:
        lacking.setattr(threading.Thread, "start", refuse)
        for _ in range(serve.MOST_CONNECTIONS):
            with pytest.raises(ConnectionError):
                ask(serving.path, "GET", "/v2")

    assert ask(serving.path, "GET", "/v2")[0] == 200


def test_several_copies_answer_at_the_same_time(tmp_path):
    """With two copies of the model, two requests run side by side."""
    gates = [Gate(), Gate()]
    serving = Serving(tmp_path).opens(*(gate.session for gate in gates))
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(serving.infer, ROW) for _ in range(2)]
        until(lambda: all(gate.inside for gate in gates), "both copies at work")
        for gate in gates:
            gate.open.set()
        found = [answer.result(PATIENCE_SECONDS)["b"].tolist() for answer in answers]
    serving.close()

    assert found == [ROW.tolist()] * 2


def test_the_line_is_first_come_first_served():
    """Requests are let in in the order in which they came."""
    pool, order, threads = Pool([FakeSession()], 10), [], []
    with pool.take(PATIENCE_SECONDS):
        for number in range(5):

            def wait(number: int = number) -> None:
                with pool.take(PATIENCE_SECONDS):
                    order.append(number)

            threads.append(threading.Thread(target=wait))
            threads[-1].start()
            until(lambda number=number: len(pool._line) == number + 1, "one more in the line")
    for thread in threads:
        thread.join(PATIENCE_SECONDS)

    assert order == [0, 1, 2, 3, 4]


def test_who_gives_up_leaves_the_line():
    """A request that waited in vain is forgotten, and the line is as short as before."""
    pool = Pool([FakeSession()], 1)
    with pool.take(1):
        with pytest.raises(WaitedError), pool.take(0.01):
            pass
        assert not pool._line
    assert pool._free


def test_a_line_of_nobody_takes_only_who_can_run_at_once():
    """With a queue of 0, a request runs if the model is free and is refused otherwise."""
    pool = Pool([FakeSession()], 0)

    with pool.take(1), pytest.raises(FullError), pool.take(1):
        pass
    with pool.take(1) as session:
        assert session is pool.first


def test_the_client_names_what_is_wrong(serving):
    """Refusals of the server become errors with its words; what is no number is refused before it is sent."""
    serving.opens(FakeSession(lambda a: a * np.nan))

    with serving.client() as client:
        with pytest.raises(InputError, match=r"takes float32 \[1, 4\]"):
            client.infer(np.zeros((1, 5), np.float32))
        with pytest.raises(InferenceError, match="NaN"):
            client.infer(ROW)
        with pytest.raises(InputError, match="cannot be sent"):
            client.infer({"a": np.array(["x"])})


def test_a_client_that_waited_in_vain_asks_anew(tmp_path):
    """After an answer that did not come in time, the same client is answered again, and with its own answer."""
    gate = Gate()
    serving = Serving(tmp_path).opens(gate.session)
    with Client("m", path=serving.path, timeout=0.2) as client:
        with pytest.raises(TimeoutError):
            client.infer({"a": ROW})
        gate.open.set()
        until(lambda: serving.service.answers.any_good, "the end of the late inference")
        client._timeout = PATIENCE_SECONDS
        found = client.infer({"a": 2 * ROW})
    serving.close()

    assert found["b"].tolist() == (2 * ROW).tolist()


# --- taking over ----------------------------------------------------------------------------------
