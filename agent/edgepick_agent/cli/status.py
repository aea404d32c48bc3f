"""``edgepick-agent status``: one screen of 80 x 24."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.doctor import in_the_way
from edgepick_agent.cli.options import config_option, json_option, settings_for_commands
from edgepick_agent.cli.render import as_json_text, clip, pairs, printable, short, size
from edgepick_agent.core.advice import advise
from edgepick_agent.core.control import AgentStatus, RunnerStatus, ShadowStatus
from edgepick_agent.core.findings import Finding
from edgepick_agent.errors import AgentError
from edgepick_wire.messages import ModelState, Phase

WIDTH = 80
HEIGHT = 24
MODELS_SHOWN = 4
ADVICE_LINES = 2


@click.command()
@config_option
@json_option
def status(*, config_file: Path, as_json: bool) -> None:
    """Show what this device runs; works with and without a running agent."""
    settings = settings_for_commands(config_file)
    found = site.status(settings)
    findings = in_the_way(settings, found)
    if as_json:
        click.echo(as_json_text({"status": found, "findings": findings, "advice": advise(found, findings)}))
    elif never_ran(found) and not findings:
        raise AgentError(
            f"no agent is running, and none has run with {settings.state_dir}",
            hint=f"Start it: edgepick-agent run --config {config_file}, or sudo systemctl start edgepick-agent",
        )
    else:
        click.echo(screen(found, findings))
    raise click.exceptions.Exit(1 if never_ran(found) and not as_json else 0)


def never_ran(status: AgentStatus) -> bool:
    """Return whether there is neither an agent nor anything that one left behind."""
    return not status.running and status.session == 0 and not status.models


def screen(status: AgentStatus, in_the_way: Sequence[Finding] = ()) -> str:
    """Return the status as at most 24 lines of at most 80 characters, what to do at the end."""
    lines = list(_lines(status))
    texts = advise(status, in_the_way)
    advice = [line for text in texts for line in textwrap.wrap(text, WIDTH - 11, break_on_hyphens=False)]
    room = max(ADVICE_LINES, HEIGHT - len(lines))
    lines += [f"{'do' if i == 0 else '':<10} {line}" for i, line in enumerate(advice[:room])]
    return "\n".join(_fitted(line) for line in lines)


def _fitted(line: str) -> str:
    """Return a line cut at the screen's width; what could move a terminal's cursor becomes a question mark."""
    shown = printable(line)
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 3]}..."


def _lines(status: AgentStatus) -> Iterator[str]:
    yield f"{status.device}   fleet {status.fleet}   profile {status.profile}"
    for name, text in _facts(status):
        yield from _fact(name, text)
    yield ""
    for model in status.models[:MODELS_SHOWN]:
        runner = {runner.model: runner for runner in status.runners}.get(model.model)
        yield from _model(model, runner, held=model.model in status.held)
    if len(status.models) > MODELS_SHOWN:
        yield f"... and {len(status.models) - MODELS_SHOWN} more: edgepick-agent status --json"
    if not status.models:
        yield "no model"
    yield _shadow(status.shadow) if status.shadow is not None else ""  # in place of an empty line: a screen has 24
    yield f"last error {clip(status.last_error or '-', WIDTH - 11)}"


def _fact(name: str, text: str) -> Iterator[str]:
    """Yield a fact's line; what is wrong with a certificate is longer than one, and worth a second."""
    lines = textwrap.wrap(text, WIDTH - 11, break_on_hyphens=False, max_lines=2) if name == "broker" else [text]
    yield from (pairs([("" if i else name, line)]) for i, line in enumerate(lines))


def _facts(status: AgentStatus) -> Iterator[tuple[str, str]]:
    memory = f", {size(status.rss_bytes)}" if status.rss_bytes is not None else ""
    yield "agent", f"running, session {status.session}{memory}" if status.running else "not running"
    yield "broker", status.broker
    yield "follows", f"sequence {status.sequence}, security epoch {status.security_epoch}"
    yield "reports", f"{status.outbox} not yet confirmed by the host" if status.outbox else "all confirmed by the host"
    yield "disk", f"{size(status.disk_free_bytes)} free"


def _model(model: ModelState, runner: RunnerStatus | None, *, held: bool) -> Iterator[str]:
    chosen = ", pinned until it is unpinned" if held else ", chosen here" if model.pinned else ""
    yield f"{model.model}: {phase_words(model)}{_progress(model)}{chosen}"
    yield f"  active   {_variant(model.active, model.active_label)}"
    yield f"  previous {_variant(model.previous, model.previous_label)}"
    if runner:
        yield f"  runner   {_runner(runner)}"
        yield from ([f"  serves   {runner.socket}"] if runner.socket else [])
    if model.refusal:
        yield f"  refused  {model.refusal.code.value}: {clip(model.refusal.detail, WIDTH - 13)}"


def phase_words(model: ModelState) -> str:
    """Return how far a model is; what the host wants and a person here has overruled is no failure of what serves."""
    overruled = model.pinned and model.phase in {Phase.REFUSED, Phase.REVERTED}
    return "serves" if overruled else model.phase.value


def _progress(model: ModelState) -> str:
    if model.phase is not Phase.FETCHING or not model.chunks_total:
        return ""
    percent = 100 * model.chunks_done // model.chunks_total
    return f" {model.chunks_done} of {model.chunks_total} chunks ({percent} %)"


def _variant(digest: str | None, label: str | None) -> str:
    return f"{label or '?'}  ({short(digest)})" if digest else "-"


def _runner(runner: RunnerStatus) -> str:
    parts = [runner.state]
    if runner.pid is not None:
        parts.append(f"pid {runner.pid}")
    if runner.rss_bytes is not None:
        parts.append(size(runner.rss_bytes))
    if runner.failures:
        parts.append(f"{runner.failures} failures in a row")
    return ", ".join(parts) + (f": {clip(runner.detail, 40)}" if runner.detail else "")


def _shadow(shadow: ShadowStatus) -> str:
    seen = shadow.summary
    if seen is None:
        return f"shadow     {shadow.label}: {shadow.state}, nothing compared yet"
    bad = seen.misshapen + seen.not_finite + seen.failed
    return f"shadow     {shadow.label}: {seen.compared} compared, {bad} bad, {seen.dropped} dropped"
