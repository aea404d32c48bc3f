"""``edgepick conformance``: attack any agent over a real broker, and print what it did."""

import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from edgepick_host.cli import options, render
from edgepick_host.conformance.catalogue import CASES
from edgepick_host.conformance.interface import BrokerAddress
from edgepick_host.conformance.run import Options, read_xfails, run_cases
from edgepick_host.conformance.verdict import CaseResult, RunResult, Verdict
from edgepick_host.demo.broker import BrokerKind, mosquitto_program, running_broker
from edgepick_host.errors import InputFileError, UnreachableError

AUTO = "auto"
EMBEDDED = "embedded"
SCHEME = "mqtt://"
DEFAULT_PORT = 1883
COLUMNS = ("case", "verdict", "seconds", "what is attacked", "expected", "observed")
HELP = """\
Run the cases against the agent that COMMAND is, after `--`.

\b
COMMAND is called in three ways; answers are one JSON object on stdout:
  COMMAND init DIR CONTEXT.json
      Prepare an agent that keeps everything in DIR. CONTEXT.json holds
      fleet, device, profile, root_document, broker {host, port} and
      pace {fetch_timeout_seconds, confirm_seconds, reconnect_seconds}.
      Prints {"agent": "name 1.0", "capabilities": ["tflite", "onnx",
      "golden", "reports"]}, less what it cannot do.
  COMMAND run DIR
      Be that agent until SIGTERM, then end with exit code 0.
  COMMAND status DIR
      Print {"sequence", "security_epoch", "models": [{"model", "phase",
      "active", "refusal"}]}; exit code 3 while it is not ready.

\b
Exit codes: 0 all passed or failed as expected, 1 a case failed,
2 usage, 3 no broker. Everything else is in docs/conformance.md.
"""
LIST_COLUMNS = ("case", "needs", "what is attacked", "expected")


@click.group()
def conformance() -> None:
    """Attack an agent in any language, and see whether it keeps the protocol."""


@conformance.command("list")
@options.as_json
def list_cases(*, as_json: bool) -> None:
    """Show every case: what is attacked, and what is expected."""
    rows = [(case.name, ", ".join(sorted(case.needs)) or render.NOTHING, case.attack, case.expected) for case in CASES]
    if as_json:
        render.print_json([dict(zip(("name", "needs", "attack", "expected"), row, strict=True)) for row in rows])
    else:
        render.print_table(LIST_COLUMNS, rows)


@conformance.command(help=HELP)
@click.option("--only", metavar="CASE", multiple=True, help="Run this case; may be given several times.")
@click.option(
    "--broker",
    metavar="auto|embedded|URL",
    default=AUTO,
    show_default=True,
    help="auto starts mosquitto, embedded our own, which some cases overstrain; or mqtt://host[:port].",
)
@click.option("--timeout", "seconds", type=click.FloatRange(min=0.1), default=15.0, show_default=True, metavar="S",
              help="Longest wait for any one thing in a case.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), default=4, show_default=True, help="Cases at a time.")
@click.option(
    "--xfails",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Cases that are expected to fail, one a line; one that passes is an error.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Keep the agents' folders and logs."
)
@options.as_json
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    only: tuple[str, ...],
    broker: str,
    seconds: float,
    jobs: int,
    xfails: Path | None,
    keep: Path | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run the cases against an agent; exit with 1 if one fails that is not expected to."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    expected = read_xfails(xfails) if xfails else frozenset()
    with _folder(keep) as folder, _broker(broker, folder / "broker") as (name, address):
        result = run_cases(
            Options(
                command=command,
                broker=address,
                broker_name=name,
                folder=folder,
                seconds=seconds,
                jobs=jobs,
                only=only,
                xfails=expected,
            ),
            _say,
        )
    if as_json:
        render.print_json(result)
    else:
        _print_result(result)
    context.exit(0 if result.passed else 1)


def _end(number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: everything that was started is ended too."""
    sys.exit(128 + number)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Provide the folder to keep, or one that is gone at the end; its name is short, as sockets lie in it."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="conf-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@contextmanager
def _broker(given: str, folder: Path) -> Iterator[tuple[str, BrokerAddress]]:
    """Provide a broker's name and address: one of our own, or the one at a URL."""
    if given in (AUTO, EMBEDDED):
        with running_broker(folder, kind=_kind(given)) as started:
            yield str(started), BrokerAddress(host="127.0.0.1", port=started.port)
        return
    yield given, parse_address(given)


def _kind(given: str) -> BrokerKind:
    """Return which broker to start: mosquitto unless the embedded one was asked for in so many words.

    Raises:
        UnreachableError: mosquitto is not installed.
    """
    if given == EMBEDDED:
        return BrokerKind.AMQTT
    if mosquitto_program() is None:
        raise UnreachableError(
            "the kit needs mosquitto, which is not installed here",
            hint="sudo apt install mosquitto; or name a broker that anybody may use: --broker mqtt://host:1883. "
            "`--broker embedded` takes our own, which leaves some of many short connections without an answer: "
            "cases may fail for that reason alone.",
        )
    return BrokerKind.MOSQUITTO


def parse_address(url: str) -> BrokerAddress:
    """Return where a broker listens.

    Raises:
        InputFileError: Not ``mqtt://host[:port]``.
    """
    host, _, port = url.removeprefix(SCHEME).partition(":")
    if not url.startswith(SCHEME) or not host or "@" in host or not (port or str(DEFAULT_PORT)).isdigit():
        hint = "The kit needs a broker of its own, without password and TLS: --broker auto starts one."
        raise InputFileError(f"--broker {url}: expected auto, embedded or mqtt://host[:port]", hint=hint)
    return BrokerAddress(host=host, port=int(port or DEFAULT_PORT))


def _say(case: CaseResult) -> None:
    click.echo(f"{case.verdict.value:<8} {case.name} ({case.seconds:.1f} s)", err=True)


def _print_result(result: RunResult) -> None:
    rows = [(c.name, c.verdict.value, f"{c.seconds:.1f}", c.attack, c.expected, c.observed) for c in result.cases]
    render.console().print(_table(rows))
    counts = {verdict: sum(c.verdict is verdict for c in result.cases) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    click.echo(f"\n{result.agent} at {result.broker}: {told}")


def _table(rows: Sequence[Sequence[str]]) -> Table:
    """Return the table; its sentences break between words, its names do not."""
    made = Table(*COLUMNS, box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for number, column in enumerate(made.columns):
        column.overflow, column.no_wrap = "fold", number < COLUMNS.index("what is attacked")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made
