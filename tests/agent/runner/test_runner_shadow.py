"""Shadow mode between real runner processes: copies of live requests, answers compared, and clients left alone."""

import io
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.client import Client
from edgepick_agent.core.runner_spec import SHADOW_FILE, RunnerMode, RunnerSpec, ShadowOrder, ShadowProgress
from edgepick_agent.ports import RunnerState, TensorSpec
from edgepick_agent.runner import tap as taps
from edgepick_agent.runner.comparison import Comparison, paired
from edgepick_agent.runner.tap import Counts, Served, Share, Tap, pack, receive, say_hello
from edgepick_wire import codec
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.shadow import ShadowRequest, ShadowSummary
from fakes.runner_outside import PATIENCE_SECONDS, is_gone, until, wait_for
from fakes.runtime_models import onnx_endless, onnx_logarithm, onnx_positions, onnx_relu

AGAINST, CANDIDATE = "a" * 64, "b" * 64
FLOAT4 = TensorSpec(name="b", shape=(1, 4), dtype="float32")
ROW = np.array([[1.5, 2, 0.25, 4]], np.float32)


# --- which requests are drawn ---------------------------------------------------------------------


@given(st.integers(1, 1000), st.text(max_size=8), st.integers(0, 3))
def test_of_every_thousand_requests_exactly_the_share_is_drawn(permille, seed, skipped):
    """Whatever the seed, and in every thousand that follows a whole number of thousands."""
    share = Share(permille, seed)
    for _ in range(skipped * 1000):
        share.draws()

    drawn = sum(share.draws() for _ in range(1000))

    assert drawn == permille


@given(st.integers(1, 1000), st.integers(0, 5000))
def test_the_share_holds_at_any_time_within_one_block(permille, requests):
    """After any number of requests the drawn ones are as many as the share says, give or take one block's."""
    share = Share(permille, "seed")
    block = 1000 // np.gcd(permille, 1000) * permille // 1000

    drawn = sum(share.draws() for _ in range(requests))

    assert abs(drawn - requests * permille / 1000) <= block


def test_the_seed_decides_which_requests_are_drawn():
    """One seed draws the same ones every time; two seeds draw different ones."""
    one, again, other = ([share.draws() for _ in range(1000)] for share in (Share(100, s) for s in ("x", "x", "y")))

    assert one == again
    assert one != other


# --- how it travels -------------------------------------------------------------------------------

COUNTS = st.tuples(*[st.integers(0, 2**40)] * 3).map(lambda three: Counts(*three))
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(COUNTS, st.binary(max_size=300), st.none() | st.integers(0, 300), st.lists(SHAPES, max_size=3))
def test_a_frame_arrives_as_it_was_sent(counts, body, header, shapes):
    """Counts, request and outputs of any shape come through a stream unchanged."""
    outputs = [np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape) for shape in shapes]
    specs = [TensorSpec(name=f"o{n}", shape=shape, dtype="float32") for n, shape in enumerate(shapes)]
    here, there = socket.socketpair()

    with here, there:
        here.sendall(pack(counts, Served(body, header, outputs, specs, 17)))
        frame = receive(there)

    assert frame is not None
    assert frame.counts == counts
    assert (frame.copied.body, frame.copied.header_bytes, frame.copied.took_ns) == (body, header, 17)
    assert [frame.copied.outputs[f"o{n}"].tolist() for n in range(len(shapes))] == [o.tolist() for o in outputs]


@given(st.binary(max_size=200))
def test_what_is_no_frame_is_refused_or_ended(data):
    """Any bytes end in a frame, in its end, or in one of the errors that the shadow takes for a source gone wrong."""
    here, there = socket.socketpair()

    with here, there:
        here.sendall(data)
        here.close()
        try:
            frame = receive(there)
        except (ValueError, KeyError, TypeError) as error:
            frame = error

    assert frame is None or frame


@pytest.fixture
def tapped(tmp_path):
    """Provide a tap, and a way to listen to it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "t"))
    listener.listen()
    tap = Tap(listener)
    connections: list[socket.socket] = []

    def listen(permille: int = 1000) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connections.append(connection)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(str(tmp_path / "t"))
        say_hello(connection, permille, "seed")
        until(lambda: tap.is_open, "the tap is open")
        return connection

    yield tap, listen
    for connection in connections:
        connection.close()
    listener.shutdown(socket.SHUT_RDWR)
    tap.close()


def served(size: int = 10) -> Served:
    return Served(b"x" * size, None, [ROW], [FLOAT4], 5)


def test_without_a_listener_nothing_is_kept(tapped):
    """A tap that nobody has opened takes no copy and counts nothing."""
    tap, _ = tapped

    tap.offer(served())

    assert not tap.is_open
    assert tap._line == type(tap._line)()


def test_a_listener_that_does_not_read_costs_copies_never_time(tapped):
    """Much more than the line holds is offered while nobody reads: every offer returns, and the rest is counted."""
    tap, listen = tapped
    connection = listen()

    for _ in range(200):
        tap.offer(served(size=1_000_000))
    held = sum(each.size for each in tap._line)
    frames = [receive(connection)]
    while frames[-1].counts.dropped == 0 or frames[-1].copied is not None:
        frames.append(receive(connection))
    counts = frames[-1].counts

    assert held <= taps.MOST_BYTES
    assert (counts.seen, counts.drawn) == (200, 200)
    assert counts.dropped == 200 - sum(frame.copied is not None for frame in frames)
    assert counts.dropped > 100


class Loading:
    """The connection of a candidate that loads its model for longer than any limit."""

    limit = None

    def settimeout(self, seconds: float | None) -> None:
        self.limit = seconds

    def makefile(self, _mode: str) -> io.BytesIO:
        if self.limit is not None:
            raise TimeoutError
        return io.BytesIO(b'{"permille": 5, "seed": "s"}\n')


def test_a_candidate_has_as_long_to_load_its_model_as_it_needs():
    """The agent connects it to the tap as it starts; the tap waits without a limit until it says what it wants."""
    assert taps._hello(Loading()) == (5, "s")


def test_a_listener_that_goes_away_makes_room_for_the_next(tapped):
    """After a broken connection the tap is closed, and opens anew with counts of its own."""
    tap, listen = tapped
    listen().close()

    until(lambda: tap.offer(served()) or not tap.is_open, "the tap notices")
    second = listen()
    tap.offer(served())
    frames = iter(lambda: receive(second), None)

    assert next(frame for frame in frames if frame.copied).counts.seen == 1


# --- what is compared -----------------------------------------------------------------------------

FINITE = st.floats(-1e6, 1e6, width=32)
ANSWERS = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.tuples(st.lists(FINITE, min_size=n, max_size=n), st.lists(FINITE, min_size=n, max_size=n)), max_size=12
    )
)


def seen(pairs: list, **counts) -> ShadowSummary:
    comparison = Comparison(AGAINST)
    for one, other in pairs:
        active, candidate = ({"p": np.array([row], np.float32)} for row in (one, other))
        comparison.add(active, candidate, active_ns=100, candidate_ns=150)
    return comparison.summary(Counts(**counts), 1.0)


@given(ANSWERS)
def test_differences_are_those_of_all_numbers_together(pairs):
    """Largest and mean absolute difference, and the rows that agree, are those that one array of all gives."""
    found = seen(pairs)

    assert found.compared == len(pairs)
    if pairs:
        one, other = (np.array([p[i] for p in pairs], np.float64) for i in (0, 1))
        (output,) = found.outputs
        assert output.max_abs == pytest.approx(np.abs(one - other).max())
        assert output.mean_abs == pytest.approx(np.abs(one - other).mean())
        classes = one.shape[1] > 1
        assert output.rows == (len(pairs) if classes else 0)
        assert output.agreeing == (int(np.sum(one.argmax(1) == other.argmax(1))) if classes else 0)


@given(ANSWERS)
def test_a_variant_beside_itself_differs_in_nothing(pairs):
    """Equal answers have no difference, and all rows agree."""
    found = seen([(one, one) for one, _ in pairs])

    assert all((o.max_abs, o.mean_abs, o.agreeing) == (0, 0, o.rows) for o in found.outputs)


def test_each_answer_is_counted_in_one_place():
    """Compared, misshapen, not finite and failed together are all that the candidate was given."""
    comparison = Comparison(AGAINST)
    good, short = {"p": ROW}, {"p": ROW[:, :3]}
    for candidate in (good, short, {}, {"p": ROW * np.nan}, {"p": np.full((1, 4), np.inf)}):
        comparison.add(good, candidate, active_ns=10, candidate_ns=5)
    comparison.fail()

    found = comparison.summary(Counts(9, 7, 1), 2.5)

    assert (found.compared, found.misshapen, found.not_finite, found.failed) == (1, 2, 2, 1)
    assert comparison.answered == 6
    assert (found.seen, found.drawn, found.dropped, found.seconds) == (9, 7, 1, 2.5)
    assert found.active is not None
    assert (found.active.runs, found.slower, found.ratio) == (5, 0, 0.5)


def test_outputs_belong_together_by_name_or_else_by_order():
    """Names decide where both have the same ones, in whatever order; converters that rename leave the order."""
    one, two = np.zeros((1, 2)), np.ones((1, 3))

    same = paired({"x": one, "y": two}, {"y": two, "x": one})
    renamed = paired({"x": one, "y": two}, {"a": one, "b": two})

    assert [(name, other.shape) for name, _, other in same or []] == [("x", (1, 2)), ("y", (1, 3))]
    assert [(name, other.shape) for name, _, other in renamed or []] == [("x", (1, 2)), ("y", (1, 3))]
    assert paired({"x": one}, {"x": two}) is None


# --- real processes -------------------------------------------------------------------------------


class Pair:
    """A runner that serves ``relu`` to a client, and a candidate that shadows it."""

    def __init__(self, start, folder: Path) -> None:
        self._start, self._folder = start, folder
        self.spec = RunnerSpec(
            model="m",
            model_path=self._model("active", onnx_relu()),
            format=ModelFormat.ONNX,
            runtimes=(RuntimeChoice(name=RuntimeName.ONNXRUNTIME),),
            limits=RunLimits(start_seconds=PATIENCE_SECONDS, inference_seconds=PATIENCE_SECONDS),
            socket_path=str(folder / "s.sock"),
            tap_path=str(folder / "s.tap"),
        )
        self.active = start.serving(self.spec)

    def _model(self, name: str, data: bytes) -> str:
        path = self._folder / f"{name}.onnx"
        path.write_bytes(data)
        return str(path)

    def begin(self, model: bytes, *, permille: int = 1000, **rest):
        limits = rest.pop("limits", self.spec.limits)
        request = ShadowRequest(id="s", manifest=CANDIDATE, permille=permille, **rest)
        order = ShadowOrder(tap=self.spec.tap_path or "", against=AGAINST, seed="seed", request=request)
        path = self._model("candidate", model)
        spec = replace(self.spec, model_path=path, socket_path=None, tap_path=None, shadow=order, limits=limits)
        return self._start(spec, RunnerMode.SHADOW)

    def ask(self, row: np.ndarray = ROW) -> list[float]:
        with Client("m", path=self.spec.socket_path, timeout=PATIENCE_SECONDS) as client:
            return client.infer(row)["b"].reshape(-1).tolist()

    def ask_until(self, condition, what: str, row: np.ndarray = ROW) -> list[list[float]]:
        answers: list[list[float]] = []
        until(lambda: answers.append(self.ask(row)) or condition(), what)
        return answers


@pytest.fixture
def pair(start, tmp_path):
    (tmp_path / "p").mkdir()
    return Pair(start, tmp_path / "p")


def progress(candidate) -> ShadowProgress | None:
    data = candidate.left(SHADOW_FILE)
    return codec.decode_document(ShadowProgress, data) if data else None


def ended(candidate) -> ShadowProgress:
    wait_for(candidate, RunnerState.EXITED)
    found = progress(candidate)
    assert found is not None
    return found


def test_a_candidate_answers_copies_and_its_answers_reach_nobody(pair):
    """Logarithm shadows relu: every client gets relu, and the report knows exactly how far the logarithm is off."""
    candidate = pair.begin(onnx_logarithm(), requests=30)

    answers = pair.ask_until(lambda: candidate.observe().state is RunnerState.EXITED, "30 answers")
    found = ended(candidate)

    apart = np.abs(np.log(ROW) - ROW)
    assert answers == [ROW.reshape(-1).tolist()] * len(answers)
    assert (found.done, found.detail, found.summary.compared) == (True, "", 30)
    (output,) = found.summary.outputs
    assert (output.max_abs, output.mean_abs) == pytest.approx((apart.max(), apart.mean()), rel=1e-5)
    assert (output.rows, output.agreeing) == (30, 30)
    assert found.summary.active is not None
    assert found.summary.candidate is not None
    assert found.summary.active.runs == found.summary.candidate.runs == 30


def test_only_the_share_is_copied(pair):
    """Of two hundred requests a quarter is drawn; all the others are only counted."""
    candidate = pair.begin(onnx_relu(), permille=250, seconds=PATIENCE_SECONDS)

    pair.ask_until(lambda: (p := progress(candidate)) and p.summary.seen, "it compares")
    for _ in range(200):
        pair.ask()
    found = until(lambda: (p := progress(candidate)) and p.summary.seen >= 200 and p.summary, "all are counted")

    assert found.drawn in (found.seen // 4, found.seen // 4 + 1)
    assert found.dropped + found.compared <= found.drawn


def test_the_time_ends_it_too(pair):
    """A shadow that nobody asks anything ends when its time is over, with zeros."""
    candidate = pair.begin(onnx_relu(), seconds=0.2)

    found = ended(candidate)

    assert (found.done, found.detail, found.summary.compared, found.summary.ratio) == (True, "", 0, None)


@pytest.mark.parametrize(
    ("model", "row", "counted"),
    [(onnx_logarithm(), -ROW, "not_finite"), (onnx_positions(), ROW, "misshapen"), (onnx_relu(width=3), ROW, "failed")],
    ids=["nan", "other-output", "other-input"],
)
def test_bad_answers_of_a_candidate_are_counted_not_given(pair, model, row, counted):
    """NaN, another shape, and a model that the requests do not fit, are what a shadow is there to find."""
    candidate = pair.begin(model, requests=5)

    answers = pair.ask_until(lambda: candidate.observe().state is RunnerState.EXITED, "five answers", row)
    found = ended(candidate)

    assert answers == [np.maximum(row, 0).reshape(-1).tolist()] * len(answers)
    assert (getattr(found.summary, counted), found.summary.compared) == (5, 0)


def kill(candidate) -> None:
    os.kill(candidate.pid, signal.SIGKILL)


def stop(candidate) -> None:
    os.kill(candidate.pid, signal.SIGSTOP)


@pytest.mark.parametrize(("fault", "state"), [(kill, RunnerState.EXITED), (stop, RunnerState.HUNG)])
def test_a_candidate_that_dies_or_stops_is_noticed_by_the_agent_only(pair, fault, state):
    """Clients get every answer before, during and after; the next shadow begins as if nothing had been."""
    candidate = pair.begin(onnx_relu(), seconds=PATIENCE_SECONDS)
    pair.ask_until(lambda: (p := progress(candidate)) and p.summary.seen, "it compares")

    fault(candidate)
    answers = pair.ask_until(lambda: candidate.observe().state is state, f"it is {state}")
    answers += [pair.ask() for _ in range(100)]
    candidate.stop(grace_seconds=0)
    after = pair.begin(onnx_relu(), requests=3)
    pair.ask_until(lambda: after.observe().state is RunnerState.EXITED, "the next one has compared")

    assert answers == [ROW.reshape(-1).tolist()] * len(answers)
    assert pair.active.observe().state is RunnerState.READY
    assert ended(after).summary.compared == 3


def test_a_candidate_that_hangs_inside_its_runtime_is_seen_to_hang(pair):
    """An inference without an end makes it hung; what serves goes on, and drops what it cannot hand over."""
    candidate = pair.begin(onnx_endless((1, 4)), seconds=PATIENCE_SECONDS, limits=RunLimits(inference_seconds=1))
    seen = []

    def is_hung() -> bool:
        seen.append(pair.active.observe().state)  # an agent looks at both, again and again
        return candidate.observe().state is RunnerState.HUNG

    answers = pair.ask_until(is_hung, "it hangs")

    assert answers == [ROW.reshape(-1).tolist()] * len(answers)
    assert set(seen) == {RunnerState.READY}


def test_a_candidate_over_its_memory_is_seen_and_shuts_nobody_out(pair):
    """Its own cap makes it over memory, whatever the cap of what serves."""
    candidate = pair.begin(onnx_relu(), limits=replace(pair.spec.limits, peak_rss_bytes=8 * 1024 * 1024))

    wait_for(candidate, RunnerState.OVER_MEMORY)

    assert pair.ask() == ROW.reshape(-1).tolist()


def test_a_candidate_stands_back_in_everything(pair):
    """Lowest priority, one CPU, a limit to its memory, and first to go when the device runs out of it."""
    candidate = pair.begin(onnx_relu(), limits=replace(pair.spec.limits, peak_rss_bytes=1 << 30))
    until(lambda: progress(candidate), "it compares")
    place = Path(f"/proc/{candidate.pid}")

    threads = [
        int((thread / "stat").read_text().rpartition(")")[2].split()[16]) for thread in (place / "task").iterdir()
    ]
    limits = (place / "limits").read_text()

    assert set(threads) == {19}
    assert len(os.sched_getaffinity(candidate.pid)) == 1
    assert (place / "oom_score_adj").read_text().strip() == "1000"
    assert any(line.startswith("Max data size") and "unlimited" not in line for line in limits.splitlines())


def test_when_what_serves_ends_the_shadow_keeps_what_it_has(pair):
    """It ends too, and says why; what it compared until then is there."""
    candidate = pair.begin(onnx_relu(), seconds=PATIENCE_SECONDS)
    pair.ask_until(lambda: (p := progress(candidate)) and p.summary.compared, "it compares")

    kill(pair.active)
    found = ended(candidate)

    assert (found.done, found.detail) == (True, "what serves has ended")
    assert found.summary.compared > 0


def test_the_tap_is_the_agents_own(pair):
    """Who may ask the model may not listen to what others ask: the tap's socket is for its owner only."""
    mode = Path(pair.spec.tap_path).stat().st_mode & 0o777

    assert mode == 0o600


def test_an_ended_runner_leaves_no_tap_behind(pair):
    """The socket's name goes with the runner."""
    pair.active.stop(grace_seconds=PATIENCE_SECONDS)

    assert is_gone(pair.active.pid)
    assert not Path(pair.spec.tap_path).exists()


def test_many_clients_are_answered_while_a_shadow_watches(pair):
    """Four clients at once, all requests copied or dropped: every answer is the active variant's, none is lost."""
    candidate = pair.begin(onnx_logarithm(), requests=200)
    pair.ask_until(lambda: (p := progress(candidate)) and p.summary.seen, "it compares")
    wrong: list[list[float]] = []

    def ask_many() -> None:
        with Client("m", path=pair.spec.socket_path, timeout=PATIENCE_SECONDS) as client:
            answers = (client.infer(ROW)["b"].reshape(-1).tolist() for _ in range(250))
            wrong.extend(answer for answer in answers if answer != ROW.reshape(-1).tolist())

    threads = [threading.Thread(target=ask_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    found = until(lambda: (p := progress(candidate)) and p.summary.compared and p, "it has compared")

    assert wrong == []
    assert found.summary.compared <= 200
