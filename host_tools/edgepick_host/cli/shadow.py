"""``edgepick shadow``: a candidate beside what serves, on copies of live requests."""

import re
from typing import Any

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.service.shadows import Audience
from edgepick_host.service.targets import ToldTarget
from edgepick_wire.messages import Report, ShadowedVariant
from edgepick_wire.shadow import MAX_REQUESTS, WHOLE, ShadowSummary

COLUMNS = ("device", "candidate", "compared", "bad", "dropped", "agree", "most apart", "p50", "p95", "ratio", "remark")


def _permille(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Return ``10%`` or ``0.1`` as thousandths."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", value)
    share = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 1 <= round(share * WHOLE, 6) <= WHOLE or abs(share * WHOLE - round(share * WHOLE)) > 1e-6:
        raise click.BadParameter(f"{value!r} is not a share of whole thousandths such as 10%, 0.5% or 0.1")
    return round(share * WHOLE)


profile = click.option("--profile", "profiles", metavar="NAME", multiple=True, help="Only this kind of device.")
device = click.option("--device", "devices", metavar="ID", multiple=True, help="Only this device; repeatable.")


@click.group()
def shadow() -> None:
    """Have a candidate answer copies of live requests. Nobody is given its answers, and nothing is decided by them."""


@shadow.command("start")
@click.argument("model")
@click.argument("version")
@click.argument("variant")
@click.option(
    "--share", callback=_permille, metavar="SHARE", default="10%", show_default=True, help="Of the requests, at random."
)
@click.option(
    "--for", "seconds", callback=options.duration, metavar="TIME", default="1h", show_default=True, help="How long."
)
@click.option(
    "--requests", type=click.IntRange(1, MAX_REQUESTS), default=10_000, show_default=True, help="End after so many."
)
@profile
@device
@options.host_options
@options.as_json
@click.pass_context
def start_command(
    context: click.Context,
    /,
    *,
    model: str,
    version: str,
    variant: str,
    share: int,
    seconds: float,
    requests: int,
    profiles: tuple[str, ...],
    devices: tuple[str, ...],
    as_json: bool,
    **places: Any,
) -> None:
    """Have devices run VARIANT of MODEL VERSION, which is published, as the shadow of what is active there.

    Each device reports once, when the time is over: `edgepick shadow show`. A model has one shadow at a time.
    """
    settings = options.settings_of(context, **places)
    done = app.start_shadow(
        settings,
        (model, version, variant),
        Audience(profiles=profiles, devices=devices),
        permille=share,
        seconds=seconds,
        requests=requests,
    )
    if done.unable:
        click.echo(f"warning: too old to know what a shadow is: {', '.join(done.unable)}", err=True)
    if as_json:
        render.print_json(done)
        return
    click.echo(f"shadow {done.request.id}: {variant} answers {share / 10:g} % of the requests for {seconds:g} s")
    _print_told(done.targets)


@shadow.command("stop")
@click.argument("model")
@profile
@device
@options.host_options
@options.as_json
@click.pass_context
def stop_command(
    context: click.Context,
    /,
    *,
    model: str,
    profiles: tuple[str, ...],
    devices: tuple[str, ...],
    as_json: bool,
    **places: Any,
) -> None:
    """Call off the shadows of MODEL; one that is running ends without a report."""
    settings = options.settings_of(context, **places)
    told = app.stop_shadow(settings, model, Audience(profiles=profiles, devices=devices))
    if as_json:
        render.print_json(told)
    else:
        _print_told(told)


@shadow.command("show")
@click.argument("model", required=False)
@options.host_options
@options.as_json
@click.pass_context
def show_command(context: click.Context, /, *, model: str | None, as_json: bool, **places: Any) -> None:
    """Show what shadows have reported, oldest first; the host service stores it, so no broker is asked."""
    found = app.shadow_reports(options.settings_of(context, **places), model)
    if as_json:
        render.print_json(found)
    elif found:
        render.print_table(COLUMNS, [_row(report, report.shadow) for report in found if report.shadow is not None])
    else:
        click.echo("no shadow has reported yet; `edgepick serve` stores what devices report")


def _print_told(targets: tuple[ToldTarget, ...]) -> None:
    rows = [(t.kind.value, t.target, str(t.sequence), "" if t.changed else "as before") for t in targets]
    render.print_table(("told", "name", "sequence", ""), rows)


def _row(report: Report, shadowed: ShadowedVariant) -> tuple[str, ...]:
    remark = shadowed.refusal.detail if shadowed.refusal else shadowed.detail
    return (report.device, render.digest_text(shadowed.manifest), *_figures(shadowed.summary), remark)


def _figures(summary: ShadowSummary | None) -> tuple[str, ...]:
    if summary is None:
        return (render.NOTHING,) * 8
    bad = summary.misshapen + summary.not_finite + summary.failed
    return (
        str(summary.compared),
        str(bad),
        str(summary.dropped),
        agreement_text(summary),
        f"{max((o.max_abs for o in summary.outputs), default=0.0):.3g}",
        _times(summary, "p50_ns"),
        _times(summary, "p95_ns"),
        render.NOTHING if summary.ratio is None else f"{summary.ratio:.2f}",
    )


def agreement_text(summary: ShadowSummary) -> str:
    """Return the share of rows with one largest number, over all outputs that have classes."""
    rows = sum(o.rows for o in summary.outputs)
    return f"{100 * sum(o.agreeing for o in summary.outputs) / rows:.2f} %" if rows else render.NOTHING


def _times(summary: ShadowSummary, name: str) -> str:
    both = [getattr(side, name) if side else None for side in (summary.active, summary.candidate)]
    return " -> ".join(render.NOTHING if ns is None else f"{ns / 1e6:.2f}" for ns in both) + " ms"
