"""``edgepick-agent doctor``: everything that the agent needs, checked, each with how to mend it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click

from edgepick_agent import app, instruments
from edgepick_agent.cli import site
from edgepick_agent.cli.options import config_option, json_option
from edgepick_agent.cli.render import as_json_text
from edgepick_agent.config import Loaded, read_config
from edgepick_agent.core.advice import CONNECTED, troubles
from edgepick_agent.core.assignments import Configured, is_new_to
from edgepick_agent.core.conditions import FIRMWARE_FLAGS
from edgepick_agent.core.control import AgentStatus
from edgepick_agent.core.findings import Finding, Level, worst
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.core.state import AgentState
from edgepick_agent.errors import AgentError, StorageError
from edgepick_wire.errors import WireError
from edgepick_wire.messages import RuntimeAvailable

PIP_LINES = {
    "litert": "pip install 'edgepick[litert]'",
    "tflite_runtime": "pip install 'edgepick[tflite]'   (in an environment of its own; name it in runner.python)",
    "onnxruntime": "pip install 'edgepick[onnx]'",
    "tflm": "pip install 'edgepick[tflm]'",
}

Check = Callable[[AgentSettings], Iterator[Finding]]


@click.command()
@config_option
@json_option
def doctor(*, config_file: Path, as_json: bool) -> None:
    """Check everything that the agent needs; exit code 1 if something must be mended."""
    findings = list(examine(config_file, os.environ, progress=not as_json))
    if as_json:
        click.echo(as_json_text({"worst": worst(findings), "findings": findings}))
    else:
        click.echo(summary(findings))
    raise click.exceptions.Exit(1 if worst(findings) is Level.FAIL else 0)


def examine(config_file: Path, environ: Mapping[str, str], *, progress: bool) -> Iterator[Finding]:
    """Yield the findings of every check, and show each as it comes if ``progress``."""
    for finding in _findings(config_file, environ):
        if progress:
            click.echo(line(finding))
        yield finding


def line(finding: Finding) -> str:
    """Return a finding as text, with its mend below it."""
    head = f"{finding.level.value.upper():<5} {finding.check:<16} {finding.detail}"
    return head + (f"\n{'':22} -> {finding.mend}" if finding.mend else "")


def summary(findings: Sequence[Finding]) -> str:
    """Return one closing sentence."""
    fails, warns = (sum(f.level is level for f in findings) for level in (Level.FAIL, Level.WARN))
    if fails:
        return f"\n{fails} to mend, {warns} to know. Mend the FAIL lines from the top; one often causes the next."
    return f"\nready, {warns} to know." if warns else "\nready."


def _findings(config_file: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        loaded = read_config(config_file, environ)
    except AgentError as error:
        yield Finding(check="configuration", level=Level.FAIL, detail=str(error), mend=error.hint)
        return
    yield from _configuration(loaded)
    if loaded.settings is not None:
        for check in CHECKS:
            yield from _guarded(check, loaded.settings)


def in_the_way(settings: AgentSettings, status: AgentStatus) -> tuple[Finding, ...]:
    """Return what ails this device beside what its agent says; for ``status``, hence quick.

    A running agent speaks for its own state directory and space, which another account sees otherwise.
    """
    checks: tuple[Check, ...] = (_root_document, _machine, _board_sensors)
    found = [finding for check in checks for finding in _guarded(check, settings)]
    if status.running:
        found = [finding for finding in found if finding.check != "state directory"]
        found += runtime_findings(settings, status.runtimes) if status.runtimes is not None else ()
    else:
        found += [held for held in (held_by_another(settings),) if held is not None]
    return tuple(f for f in found if f.level is not Level.OK and f.mend and f.check != "disk space")


def _guarded(check: Check, settings: AgentSettings) -> Iterator[Finding]:
    """Yield a check's findings; an error of the check itself is one more finding."""
    try:
        yield from check(settings)
    except (AgentError, WireError) as error:
        yield Finding(check=_name(check), level=Level.FAIL, detail=str(error), mend=error.hint)
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        yield Finding(check=_name(check), level=Level.WARN, detail=f"not checked: {type(error).__name__}: {error}")


def _name(check: Check) -> str:
    return check.__name__.strip("_").replace("_", " ")


def _configuration(loaded: Loaded) -> Iterator[Finding]:
    for problem in loaded.problems:
        yield Finding(check="configuration", level=Level.FAIL, detail=str(problem), mend=f"Edit {loaded.path}")
    for missing in (m for m in loaded.missing_files if m.key != "root_document"):  # which has a check of its own
        mend = f"Put the file there, or correct {missing.key} in {loaded.path}"
        yield Finding(check="configuration", level=Level.FAIL, detail=str(missing), mend=mend)
    for warning in loaded.warnings:
        yield Finding(check="configuration", level=Level.WARN, detail=str(warning))
    if not loaded.problems:
        yield Finding(check="configuration", level=Level.OK, detail=f"{loaded.path}")


def _root_document(settings: AgentSettings) -> Iterator[Finding]:
    given = site.read_root(Path(settings.root_document))
    fleet = given.root.fleet
    if fleet == settings.fleet:
        yield _trust(given, _kept(settings))
    else:
        mend = "Set fleet to this name, or take the root document of your fleet."
        detail = f"is of fleet {fleet!r}, but this device is of {settings.fleet!r}"
        yield Finding(check="root document", level=Level.FAIL, detail=detail, mend=mend)


def _trust(given: Configured, state: AgentState) -> Finding:
    detail = f"version {given.root.version} of fleet {given.root.fleet!r}, signed by itself"
    if is_new_to(state, given):
        mend = "If you put it there: sudo systemctl restart edgepick-agent; from then on its keys count, and no others."
        detail += "; not the one that the agent began with"
        return Finding(check="root document", level=Level.WARN, detail=detail, mend=mend)
    followed = f"; version {state.root.version} is followed" if state.root is not None else ""
    return Finding(check="root document", level=Level.OK, detail=detail + followed)


def _kept(settings: AgentSettings) -> AgentState:
    with suppress(StorageError):  # which has a check of its own
        return site.kept(settings)
    return AgentState()


def _machine(settings: AgentSettings) -> Iterator[Finding]:
    yield from site.inspect_machine(settings)


def _board(settings: AgentSettings) -> Iterator[Finding]:
    board = site.detect(Path(settings.sysfs_root))
    if settings.stand_in or board.profile == settings.profile:
        said = " (stand-in: every figure says so)" if settings.stand_in else ""
        yield Finding(check="board", level=Level.OK, detail=f"{board.machine}, profile {settings.profile!r}{said}")
    else:
        mend = "Set stand_in = true if this machine only stands in for it, or correct profile."
        detail = f"{board.machine} looks like {board.profile!r}, but profile is {settings.profile!r}"
        yield Finding(check="board", level=Level.WARN, detail=detail, mend=mend)


def _broker(settings: AgentSettings) -> Iterator[Finding]:
    yield from site.probe_broker(settings.broker, f"{settings.device}-doctor")


def _runtimes(settings: AgentSettings) -> Iterator[Finding]:
    yield from runtime_findings(settings, site.runtimes(settings))


def runtime_findings(settings: AgentSettings, available: Sequence[RuntimeAvailable]) -> Iterator[Finding]:
    """Yield what there is to say about the runtimes that were found."""
    found = {runtime.name: runtime for runtime in available}
    wanted = settings.runner.runtimes or tuple(PIP_LINES)
    for name in wanted:
        if name in found:
            detail = f"{name} {found[name].version}: {', '.join(found[name].accelerators)}"
            yield Finding(check="runtime", level=Level.OK, detail=detail)
        elif name in settings.runner.runtimes:
            detail = f"{name} is configured, but not installed for {settings.runner.python or 'the agent'}"
            yield Finding(check="runtime", level=Level.WARN, detail=detail, mend=PIP_LINES[name])
    if not set(found) & set(wanted):
        mend = f"Install one: {PIP_LINES['litert']}"
        yield Finding(check="runtime", level=Level.FAIL, detail="no runtime can run a model here", mend=mend)


def _power_sensor(settings: AgentSettings) -> Iterator[Finding]:
    if settings.power.command or settings.power.mqtt_topic:
        yield _meter(settings)
    else:
        yield from _board_sensors(settings)


def _board_sensors(settings: AgentSettings) -> Iterator[Finding]:
    sensors, reason = instruments.find_sensors(settings.sensors, Path(settings.sysfs_root))
    mends = [u for u in instruments.unusable_sensors(settings.sensors, Path(settings.sysfs_root)) if u.mend]
    if sensors:
        detail = ", ".join(f"{sensor.source} (covers the {sensor.scope})" for sensor in sensors)
        yield Finding(check="power sensor", level=Level.OK, detail=detail)
    elif mends:
        detail = "energy will read 'not measured': " + "; ".join(u.reason for u in mends)
        mend = "; ".join(u.mend for u in mends)
        yield Finding(check="power sensor", level=Level.WARN, detail=detail, mend=mend)
    else:
        detail = f"energy will read 'not measured': {reason}"
        yield Finding(check="power sensor", level=Level.OK, detail=detail)


def _meter(settings: AgentSettings) -> Finding:
    reason = site.try_meter(settings)
    if reason is None:
        return Finding(check="power sensor", level=Level.OK, detail="the external meter tells watts")
    mend = "Mend [power] in the configuration, or take it out: with it the board's own sensors are not used."
    return Finding(check="power sensor", level=Level.WARN, detail=reason, mend=mend)


def _throttling(settings: AgentSettings) -> Iterator[Finding]:
    reading = instruments.board(Path(settings.sysfs_root)).read()
    if reading.firmware_flags is not None:
        now = [name for bit, name in FIRMWARE_FLAGS.items() if reading.firmware_flags >> bit & 1]
        level = Level.WARN if now else Level.OK
        mend = "Use the board's own power supply, and cool it; figures taken now are void." if now else ""
        detail = f"the firmware says: {', '.join(now) or 'none now'}"
        yield Finding(check="throttling", level=level, detail=detail, mend=mend)
    elif reading.cooling:
        yield Finding(check="throttling", level=Level.OK, detail=f"seen through {len(reading.cooling)} counters")
    else:
        detail = "cannot be seen on this machine; measurements say 'throttling unknown'"
        yield Finding(check="throttling", level=Level.OK, detail=detail)


def _agent(settings: AgentSettings) -> Iterator[Finding]:
    status = site.status(settings)
    if status.running:
        level = Level.OK if status.broker == CONNECTED else Level.WARN
        yield Finding(check="agent", level=level, detail=f"running, broker: {status.broker}")
    elif held := held_by_another(settings):
        yield held
    else:
        mend = "sudo systemctl start edgepick-agent, or: edgepick-agent run"
        yield Finding(check="agent", level=Level.WARN, detail="not running", mend=mend)
    yield from (finding for finding in troubles(status) if finding.check != "disk")  # which has a check of its own


def held_by_another(settings: AgentSettings) -> Finding | None:
    """Return who holds the state directory of an agent that does not answer; ``None`` if nobody does."""
    holder = app.lock_holder(settings)
    if holder is None:
        return None
    who = f"process {holder}" if holder else "a process of another container"
    detail = f"does not answer, but {who} holds {settings.state_dir}"
    mend = f"wait until that has ended; if it hangs: sudo kill {holder or 'it'}; then start the agent"
    return Finding(check="agent", level=Level.FAIL, detail=detail, mend=mend)


CHECKS: Sequence[Check] = (_root_document, _machine, _board, _broker, _runtimes, _power_sensor, _throttling, _agent)
"""In the order in which a person should mend them."""
