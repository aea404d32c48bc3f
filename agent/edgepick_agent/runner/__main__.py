"""``python -m edgepick_agent.runner measure SPEC.json | serve SPEC.json | shadow SPEC.json | runtimes``."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from edgepick_agent.core.runner_spec import SANDBOX_GAPS, RunnerMode, RunnerSpec
from edgepick_agent.core.settings import Sandbox
from edgepick_agent.errors import AgentError, RunError
from edgepick_agent.runner import process
from edgepick_agent.runner.result import failed, write_beside, write_result
from edgepick_wire import codec
from edgepick_wire.errors import WireError

USAGE = "usage: python -m edgepick_agent.runner measure|serve|shadow SPEC.json, or runtimes"
DONE, FAILED, WRONG_USAGE = 0, 1, 2
TLS = "ssl"
"""What ``http.server`` would load OpenSSL by, for clients of HTTPS; a runner has no network, and saves the memory."""


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return 0, 1 if the model cannot be run, 2 for wrong arguments or spec."""
    match arguments:
        case ["runtimes"]:
            from edgepick_agent.runner.available import print_runtimes

            print_runtimes()
            return DONE
        case [("measure" | "serve" | "shadow") as mode, path]:
            return _run(RunnerMode(mode), Path(path))
        case _:
            return _complain(USAGE)


def _run(mode: RunnerMode, path: Path) -> int:
    try:
        spec = codec.decode_document(RunnerSpec, path.read_bytes())
    except (OSError, WireError) as error:
        return _complain(f"{path}: {error}")
    if spec.parent_pid is not None:
        process.die_with(spec.parent_pid)
    try:
        _shut_in(spec)
        return _MODES[mode](spec)
    except AgentError as error:
        return _fail(spec, error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it is becomes a result
        traceback.print_exc()
        return _fail(spec, RunError(f"{type(error).__name__}: {error}"))


def _shut_in(spec: RunnerSpec) -> None:
    if spec.sandbox is Sandbox.OFF:
        return
    from edgepick_agent.runner.sandbox import shut_in

    if gaps := shut_in(spec):
        write_beside(spec, SANDBOX_GAPS, gaps.encode())


def _measure(spec: RunnerSpec) -> int:
    from edgepick_agent.runner.measure import measure
    from edgepick_agent.runner.result import give_up

    write_result(spec, measure(spec, lambda: give_up(spec)))
    return DONE


def _serve(spec: RunnerSpec) -> int:
    with process.without(TLS):
        from edgepick_agent.runner.serve import serve

    serve(spec)
    return DONE


def _shadow(spec: RunnerSpec) -> int:
    with process.without(TLS):
        from edgepick_agent.runner.shadow import shadow

    shadow(spec)
    return DONE


_MODES = {RunnerMode.MEASURE: _measure, RunnerMode.SERVE: _serve, RunnerMode.SHADOW: _shadow}


def _fail(spec: RunnerSpec, error: AgentError) -> int:
    write_result(spec, failed(error))
    return _complain(str(error), FAILED)


def _complain(text: str, code: int = WRONG_USAGE) -> int:
    sys.stderr.write(" ".join(text.split()) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
