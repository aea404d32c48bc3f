"""``shadow``: answer copies of what another runner answers, and compare; nobody is given these answers.

It stands back in everything: one CPU, the lowest priority, a memory limit of its own, and the first to go if the
device runs out of memory. Whatever happens here, the runner that serves notices no more than a full line of copies.
"""

import select
import socket
import threading
import time

from edgepick_agent.core.runner_spec import SHADOW_FILE, RunnerSpec, ShadowProgress
from edgepick_agent.errors import InferenceError, InputError, RunError
from edgepick_agent.ports import Session
from edgepick_agent.runner import oip, process
from edgepick_agent.runner.comparison import Comparison
from edgepick_agent.runner.result import write_beside
from edgepick_agent.runner.serve import serve
from edgepick_agent.runner.tap import Copied, Counts, receive, say_hello
from edgepick_agent.runner.tensors import to_real
from edgepick_wire import codec

WRITE_SECONDS = 2.0
"""How often what has been seen so far is written down, for the agent to look at."""
FRAME_SECONDS = 10.0
"""A frame that has begun comes within this time, or the serving runner is no longer well."""
SOURCE_GONE = "what serves has ended"
SOURCE_SILENT = "what serves no longer hands over copies"


def shadow(spec: RunnerSpec) -> None:
    """Compare until the time is over, enough is answered, or what serves ends.

    Raises:
        RunError: The model cannot be loaded or run, or does not pass its golden inputs; or there is nothing to shadow.
    """
    if spec.shadow is None or spec.tap_fd is None:
        raise RunError("there is nothing to shadow")
    process.stand_back(spec.limits.peak_rss_bytes)
    tap = socket.socket(fileno=spec.tap_fd)
    serve(spec, alongside=lambda session: _Watch(spec, tap).compare(session))


class _Watch:
    """One shadow: what it was told, and what it has seen."""

    def __init__(self, spec: RunnerSpec, tap: socket.socket) -> None:
        assert spec.shadow is not None
        self._spec, self._order, self._tap = spec, spec.shadow, tap
        self._comparison = Comparison(spec.shadow.against)
        self._counts = Counts()
        self._began = time.monotonic()
        self._written = self._began

    def compare(self, session: Session) -> None:
        """Compare to the end, and leave what was seen."""
        process.stand_back_entirely()
        threading.current_thread().name = "shadow"
        tap = self._tap
        say_hello(tap, self._order.request.permille, self._order.seed)
        self._began = time.monotonic()
        self._write(done=False)
        detail = self._follow(session)
        self._write(done=True, detail=detail)

    def _follow(self, session: Session) -> str:
        end = self._began + self._order.request.seconds
        while self._comparison.answered < self._order.request.requests:
            left = end - time.monotonic()
            if left <= 0:
                break
            self._write_sometimes()
            if not select.select([self._tap], [], [], min(left, WRITE_SECONDS))[0]:
                continue
            gone = self._take(session)
            if gone:
                return gone
        return ""

    def _take(self, session: Session) -> str:
        self._tap.settimeout(FRAME_SECONDS)
        try:
            frame = receive(self._tap)
        except (OSError, ValueError, KeyError, TypeError):
            return SOURCE_SILENT
        if frame is None:
            return SOURCE_GONE
        self._counts = frame.counts
        if frame.copied is not None:
            self._judge(frame.copied, session)
        return ""

    def _judge(self, copied: Copied, session: Session) -> None:
        try:
            feeds = oip.parse_request(copied.body, session, copied.header_bytes).feeds
            began = time.perf_counter_ns()
            outputs = session.run(feeds)
            took = time.perf_counter_ns() - began
        except (InputError, InferenceError):
            self._comparison.fail()
            return
        if len(outputs) != len(session.outputs):
            raise InferenceError(f"{len(outputs)} outputs of {len(session.outputs)}")
        real = {spec.name: to_real(output, spec) for spec, output in zip(session.outputs, outputs, strict=True)}
        self._comparison.add(copied.outputs, real, active_ns=copied.took_ns, candidate_ns=took)

    def _write_sometimes(self) -> None:
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._write(done=False)

    def _write(self, *, done: bool, detail: str = "") -> None:
        self._written = time.monotonic()
        summary = self._comparison.summary(self._counts, round(self._written - self._began, 3))
        progress = ShadowProgress(done=done, detail=detail, summary=summary)
        write_beside(self._spec, SHADOW_FILE, codec.encode_document(progress))
