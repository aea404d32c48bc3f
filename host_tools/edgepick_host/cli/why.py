"""``edgepick why``: why a variant was chosen, with every figure and gate."""

from collections.abc import Sequence
from fractions import Fraction

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.core.decision import CandidateResult, Decision, DecisionRecord, sentence
from edgepick_host.core.gates import Gate, GateVerdict
from edgepick_host.core.objective import Metric
from edgepick_host.core.proof import Proof, Scope
from edgepick_host.errors import StateError

BYTES = "bytes"


@click.command()
@click.argument("model")
@options.host_options
@click.option("--profile", metavar="NAME", help="Only this kind of device.")
@click.option("--rollout", "rollout", metavar="ID", help="Decisions of this rollout. [the newest]")
@click.option("--full", is_flag=True, help="Every gate of every variant, and the effects.")
@options.as_json
@click.pass_context
def why(
    context: click.Context,
    /,
    *,
    model: str,
    profile: str | None,
    rollout: str | None,
    full: bool,
    as_json: bool,
    **places: str | None,
) -> None:
    """Show why MODEL runs what it runs: the latest decision for each kind of device."""
    settings = options.settings_of(context, **places)
    records = chosen(app.decision_records(settings, model), profile=profile, rollout=rollout)
    if not records:
        raise StateError(
            f"no decision about model {model!r}" + (f" for profile {profile!r}" if profile else ""),
            hint="Decisions are made by: edgepick rollout start MODEL",
        )
    if as_json:
        render.print_json(records)
        return
    gone = app.evidence_gone(settings, records)
    for number, record in enumerate(records):
        if number:
            click.echo()
        _print_record(record, full=full)
        if record.id in gone:
            click.echo(f"\n{gone[record.id]}. What the record says is intact; it cannot be derived again.")


def chosen(
    records: Sequence[DecisionRecord], *, profile: str | None, rollout: str | None
) -> tuple[DecisionRecord, ...]:
    """Return the records of one rollout (the newest that decided about the profile), oldest first."""
    mine = [r for r in records if profile in (None, r.decision.stratum.profile)]
    mine = [r for r in mine if rollout is None or r.rollout.startswith(rollout)]
    return tuple(r for r in mine if r.rollout == mine[-1].rollout)


def _print_record(record: DecisionRecord, *, full: bool) -> None:
    decision = record.decision
    click.echo(sentence(decision))
    for reason in decision.reasons[1:]:
        click.echo(f"  - {reason}")
    if decision.candidates:
        click.echo()
        render.print_table(("variant", "latency", "memory", "size", "error", "result"), _candidate_rows(decision))
    gates = _gate_rows(decision.candidates, full=full)
    if gates:
        click.echo()
        render.print_table(("variant", "gate", "limit", "observed", "verdict", "detail"), gates)
    if full:
        _print_details(record)


def _candidate_rows(decision: Decision) -> list[tuple[str, ...]]:
    return [
        (
            result.label,
            _figure(result, Metric.LATENCY),
            _figure(result, Metric.MEMORY),
            _figure(result, Metric.SIZE),
            _figure(result, Metric.ERROR),
            _result(decision, result),
        )
        for result in decision.candidates
    ]


def _result(decision: Decision, result: CandidateResult) -> str:
    if result.manifest == decision.winner:
        return "wins"
    if result.excluded is None:
        return "best" if result.manifest != decision.incumbent else "runs already"
    return f"{result.excluded}: {result.reason}"


def _figure(result: CandidateResult, metric: Metric) -> str:
    value = next((f.value for f in result.figures if f.metric is metric), None)
    if value is None:
        return render.NOTHING
    if metric is Metric.LATENCY:
        return f"{value / 1e6:.3g} ms"
    return f"{value:.4f}" if metric is Metric.ERROR else render.size_text(int(value))


def _gate_rows(candidates: Sequence[CandidateResult], *, full: bool) -> list[tuple[str, ...]]:
    return [
        (c.label, g.name.value, _amount(g.limit, g), _amount(g.observed, g), g.verdict.value, g.detail)
        for c in candidates
        for g in c.gates
        if full or g.verdict is not GateVerdict.PASS
    ]


def _amount(value: float | None, gate: Gate) -> str:
    if value is None:
        return render.NOTHING
    return render.size_text(int(value)) if gate.unit == BYTES else f"{value:.4g} {gate.unit}".strip()


PROOF_COLUMNS = ("variant", "about", "evidence", "needed", "harm", "needed", "units", "ratio", "dropped", "verdict")


def _proof_row(proof: Proof, label: str) -> tuple[str, ...]:
    bounds = [render.NOTHING if b is None else f"{b:.3f}" for b in (proof.low, proof.high)]
    about = f"{proof.scope}{'' if proof.paired or proof.scope is Scope.FACT else ', unpaired'}"
    return (
        label,
        about,
        f"{proof.e_promote:.3g}",
        f"{float(1 / Fraction(proof.rate)):.3g}",
        f"{proof.e_harm:.3g}",
        f"{float(1 / Fraction(proof.rate_harm)):.3g}",
        f"{proof.wins} of {proof.units}",
        " to ".join(bounds),
        "; ".join(f"{n} {why}" for why, n in proof.dropped.items()) or render.NOTHING,
        proof.verdict.value,
    )


def _print_details(record: DecisionRecord) -> None:
    decision = record.decision
    labels = {c.manifest: c.label for c in decision.candidates}
    effects = [
        (labels.get(e.candidate, render.NOTHING), e.metric.value, f"{(e.ratio - 1) * 100:+.1f} %", str(e.devices))
        for e in decision.effects
    ]
    if effects:
        click.echo()
        render.print_table(("variant", "metric", f"against {decision.incumbent_label}", "devices"), effects)
    if decision.proofs:
        click.echo()
        render.print_table(
            PROOF_COLUMNS, [_proof_row(p, labels.get(p.candidate, render.NOTHING)) for p in decision.proofs]
        )
    policy = decision.policy
    click.echo()
    render.print_facts(
        [
            ("record", f"{record.id}, after {record.previous[:16]}"),
            ("rollout", record.rollout),
            ("devices", ", ".join(decision.stratum.devices)),
            ("objective", decision.objective),
            (
                "policy",
                f"at least {policy.min_devices} device(s), accuracy drop at most {policy.max_accuracy_drop:.2%}",
            ),
            ("error rates", f"any false gain {policy.alpha:.2%}, a false alarm of harm {policy.alpha_harm:.2%}"),
            ("inputs", decision.inputs),
            ("decided by", f"edgepick {decision.code_version}"),
        ]
    )
