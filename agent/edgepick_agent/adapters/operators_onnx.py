"""Where the time goes in an ONNX model, by ONNX Runtime's own profiler.

Facts (docs/performance/tune-performance/profiling-tools.md; issues 16334, 17013): it is set for a whole
session, so it gets a session of its own; times are whole microseconds; it stops without a word at a
maximum number of events. The nodes are those of the graph as optimized: fused, reordered, renamed.
"""

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepick_agent.adapters import native_stderr
from edgepick_agent.adapters.runtimes import onnxruntime as runtime
from edgepick_agent.core.profile import OperatorTable, OperatorTime
from edgepick_agent.core.summarise import middle_mean
from edgepick_wire.manifest import RuntimeChoice

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

METHOD = "runtime profiler"
RUNS, WARMUP_RUNS = 50, 5
LEAST_RUNS = 2
MOST_SECONDS = 20.0
"""For all of them; fewer of them are warm-up where fewer fit in."""
MOST_EVENTS = 500_000
"""Half of what the profiler keeps."""
SUFFIX = "_kernel_time"


def profile(model: Path, choice: RuntimeChoice, feeds: Sequence[Mapping[str, "Array"]]) -> OperatorTable:
    """Return the time of each node over some inferences in a session that profiles, on the choice's first provider."""
    provider = runtime.PROVIDERS.get(choice.accelerators[0], choice.accelerators[0])
    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder, native_stderr.captured():
        session = runtime.create(runtime.module(), model, choice, provider, profile=Path(folder) / "profile")
        made = _run(session, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return table(events, made)


def _run(session: Any, feeds: Sequence[Mapping[str, "Array"]]) -> int:
    """Run as often as is wanted, or as fits in; return how often."""
    end = time.monotonic() + MOST_SECONDS
    for index in range(WARMUP_RUNS + RUNS):
        if index >= LEAST_RUNS and time.monotonic() > end:
            return index
        session.run(None, dict(feeds[index % len(feeds)]))
    return WARMUP_RUNS + RUNS


def table(events: Iterable[Mapping[str, Any]], made: int) -> OperatorTable:
    """Return the nodes in the order of their last run, each with its time in the runs after warm-up.

    ``made`` is how many inferences there were, of which the profiler may have kept fewer.
    """
    found = [e for e in events if e.get("ph") == "X"]
    warm_up = min(WARMUP_RUNS, made // 2)
    runs = sorted(e["ts"] for e in found if e.get("name") == "model_run")[warm_up:]
    if not runs:
        return OperatorTable(method=METHOD, reason="the profiler kept no complete inference")
    nodes = [e for e in found if e.get("cat") == "Node" and e["name"].endswith(SUFFIX) and e["ts"] >= runs[0]]
    last = {e["name"]: e for e in sorted(nodes, key=lambda e: int(e["ts"]))}
    spent: dict[str, list[int]] = {}
    for event in nodes:
        spent.setdefault(event["name"], []).append(int(event["dur"]) * 1000)
    cut = len(runs) < made - warm_up or len(found) >= MOST_EVENTS
    return OperatorTable(
        method=METHOD,
        runs=len(runs),
        operators=tuple(_operator(event, round(middle_mean(spent[name]))) for name, event in last.items()),
        reason=f"the profiler stopped after {len(runs)} of {made - warm_up} inferences" if cut else None,
    )


def _operator(event: Mapping[str, Any], mean_ns: int) -> OperatorTime:
    arguments = event.get("args", {})
    return OperatorTime(
        name=event["name"].removesuffix(SUFFIX),
        kind=str(arguments.get("op_name", "")),
        provider=str(arguments.get("provider", "")),
        mean_ns=mean_ns,
    )
