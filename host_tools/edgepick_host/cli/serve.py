"""``edgepick serve``: the host service."""

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import click

from edgepick_host import app
from edgepick_host.cli import options
from edgepick_host.core.settings import HostSettings


@click.command()
@options.host_options
@options.profile_dirs
@click.option("--http", metavar="HOST:PORT", help="Serve the API, the page and Prometheus metrics there.")
@click.option("--keep-reports", metavar="TIME", help="Delete what nothing needs after so long, such as 90d.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate for --http, PEM.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Its private key, PEM.")
@options.as_json
@click.pass_context
def serve(
    context: click.Context,
    /,
    *,
    profile_dirs: tuple[str, ...],
    http: str | None,
    keep_reports: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    as_json: bool,
    **places: str | None,
) -> None:
    """Collect reports, decide and roll out, until SIGTERM or Ctrl-C.

    Of several services with one database and one broker, one decides, and all take in reports and answer --http.
    When the one that decides ends or dies, another takes over.
    """
    settings = options.settings_of(context, profile_dirs=profile_dirs, keep_reports=keep_reports, **places)
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    say = _line_json if as_json else _line
    with _page(settings, http, tls_cert, tls_key, say) if http else contextlib.nullcontext():
        app.serve(settings, say=say, stopped=ended.is_set)
    say("ended")


@contextlib.contextmanager
def _page(
    settings: HostSettings, http: str, cert_file: str | None, key_file: str | None, say: Callable[[str], None]
) -> Iterator[None]:
    from edgepick_host.web.api import Site, make_api
    from edgepick_host.web.server import Address, parse_address, serving

    host, port = parse_address(http)
    address = Address(host=host, port=port, cert_file=cert_file, key_file=key_file)
    with app.store_of(settings) as store:
        site = Site(
            fleet=settings.fleet,
            store=store,
            clock=app.clock(),
            budgets_of=app.budgets_of(settings),
            new_rollout_id=app.new_rollout_id,
        )
        with serving(make_api(site), address) as listening:
            say(f"page and API at {listening.url}")
            if not store.tokens():
                say("nobody has a token yet: edgepick tokens add NAME --role operator")
            yield


def _line(text: str) -> None:
    click.echo(f"{_now()} {text}")
    sys.stdout.flush()


def _line_json(text: str) -> None:
    click.echo(json.dumps({"at": _now(), "text": text}, ensure_ascii=False))
    sys.stdout.flush()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
