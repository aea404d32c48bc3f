"""``edgepick demo``: the whole job on this machine, with a report."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from edgepick_host.cli import render
from edgepick_host.demo import quantities as q
from edgepick_host.demo.broker import BrokerKind
from edgepick_host.demo.orchestrate import Options, run_demo
from edgepick_host.demo.progress import Progress
from edgepick_host.demo.result import DemoResult, ProfileResult, problems
from edgepick_host.demo.workspace import MODEL_NAME, Workspace

AUTO = "auto"
COLUMNS = ("kind of device", "runs", "size", "accuracy", "p50", "against float32")
LOG_WIDTH = 120
"""Columns of a table that is not shown on a terminal."""


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True, help="Folder for everything."
)
@click.option("--keep", is_flag=True, help="Leave the fleet running until Ctrl-C, to be played with.")
@click.option(
    "--broker",
    type=click.Choice([AUTO, *(kind.value for kind in BrokerKind)]),
    default=AUTO,
    show_default=True,
    help="auto takes mosquitto where it is installed, else the embedded amqtt.",
)
@click.option(
    "--tflite-runtime/--no-tflite-runtime", default=True, help="Install tflite-runtime for the Raspberry Pi 3. [on]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def demo(context: click.Context, /, *, out: Path, keep: bool, broker: str, tflite_runtime: bool, as_json: bool) -> None:
    """Run the main job on this machine, which stands in for six boards.

    Compresses the demo model for five kinds of device, delivers it over MQTT, lets the devices
    measure, selects, rolls out, and lets three things go wrong. Ends with a table and an HTML report.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    options = Options(out=out, broker=None if broker == AUTO else BrokerKind(broker), tflite_runtime=tflite_runtime)
    result = run_demo(options, Progress(), _shower(keep=keep, as_json=as_json))
    context.exit(1 if problems(result) else 0)


def _end(number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: everything that was started is ended too."""
    sys.exit(128 + number)


def _shower(*, keep: bool, as_json: bool) -> Callable[[DemoResult, Workspace], None]:
    def show(result: DemoResult, workspace: Workspace) -> None:
        if as_json:
            render.print_json(result)
        else:
            _print_result(result, workspace)
        if keep:
            _print_keep(result, workspace)
            _wait()

    return show


def _print_result(result: DemoResult, workspace: Workspace) -> None:
    click.echo("")
    width = None if sys.stdout.isatty() else LOG_WIDTH
    table = render.table(COLUMNS, [_row(profile) for profile in result.profiles])
    Console(highlight=False, width=width).print(table)
    click.echo(f"\nStand-in figures: measured on {result.environment.machine}, not on the boards.")
    for line in _facts(result):
        click.echo(line)
    for text in problems(result):
        click.echo(f"problem: {text}")
    click.echo(f"\nreport: {workspace.report}")


def _row(profile: ProfileResult) -> tuple[str, ...]:
    winner = profile.winner
    if winner is None:
        return (profile.profile, "nothing was chosen", *[q.UNKNOWN] * (len(COLUMNS) - 2))
    return (
        profile.profile,
        winner.label,
        q.size_text(winner.size_bytes),
        q.share_text(winner.accuracy),
        q.latency_text(winner.p50_ns),
        q.pace_text(profile.speedup) if profile.speedup else q.UNKNOWN,
    )


def _facts(result: DemoResult) -> list[str]:
    lines = [
        f"{f.title}: {'caught' if f.caught else 'NOT caught'} on {f.device} ({f.code}); it runs {f.still_running}."
        for f in result.faults
    ]
    resume = result.delivery.resume
    if resume is not None:
        fate = "resumed" if resume.completed else "did not complete"
        passed = f"{resume.fetched_twice} asked for again (up to {resume.window} may be in flight)"
        done = f"killed after {resume.chunks_before} of {resume.chunks_total} chunks and {fate}; {passed}"
        lines.insert(0, f"{resume.device} was {done}.")
    return lines


def _print_keep(result: DemoResult, workspace: Workspace) -> None:
    command = f"edgepick --config {workspace.config}"
    click.echo("\nThe fleet is running until Ctrl-C. In another terminal:")
    for rest in ("devices list", "devices watch", f"why {MODEL_NAME} --rollout {result.rollout}", "rollout status"):
        click.echo(f"  {command} {rest}")


def _wait() -> None:
    """Return at Ctrl-C."""
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("ending the fleet", err=True)
