"""Releases, measurements and reports made up for tests; every figure is chosen by the test."""

from edgepick_host.core.records import Release
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import (
    Birth,
    Incident,
    IncidentCode,
    InstallOutcome,
    MeasuredVariant,
    Outcome,
    Refusal,
    RefusalCode,
    Report,
    ReportKind,
    RuntimeAvailable,
)
from edgepick_wire.metrics import (
    Conditions,
    EnergySummary,
    GoldenResult,
    LatencySummary,
    Measurement,
    MeasurePlan,
    MemorySummary,
    RuntimeUsed,
    Verdict,
)
from edgepick_wire.pairing import CAPABILITY, Order, PairedRun, PairOrder, Quad, quad_order

MS = 1_000_000
MIB = 1024 * 1024


def manifest_of(version: str, variant: str) -> str:
    return digest_of(f"{version} {variant}".encode())


def release(
    variant: str, *, version: str = "1", profiles=("pi",), size: int = 100_000, accuracy=0.95, drop=0.0, rank=0
) -> Release:
    return Release(
        model="digits",
        version=version,
        variant=variant,
        manifest=manifest_of(version, variant),
        profiles=tuple(profiles),
        size_bytes=size,
        security_epoch=0,
        accuracy=accuracy,
        accuracy_drop=drop,
        rank=rank,
        published_at=0.0,
    )


def measurement(
    p50_ms: float = 10.0,
    *,
    p95_ms: float | None = 12.0,
    rss: int | None = 50 * MIB,
    arena: int | None = None,
    energy_uj: float | None = None,
    golden: bool | None = True,
    agreement: float = 1.0,
    verdict: Verdict = Verdict.VALID,
    runtime: str = "litert",
    accelerator: str = "xnnpack",
    stand_in: bool = True,
) -> Measurement:
    answers = GoldenResult(
        samples=32,
        agreement=agreement,
        mean_abs_error=0.01,
        accuracy=None,
        finite=True,
        passed=bool(golden),
        detail="as expected" if golden else "3 of 32 answers agree",
    )
    return Measurement(
        plan=MeasurePlan(),
        runtime=RuntimeUsed(name=runtime, version="1", accelerator=accelerator),
        load_ns=MS,
        first_inference_ns=MS,
        latency=LatencySummary(
            runs=60,
            mean_ns=int(p50_ms * MS),
            stdev_ns=0,
            min_ns=int(p50_ms * MS),
            max_ns=int(p50_ms * MS),
            p50_ns=int(p50_ms * MS),
            p95_ns=None if p95_ms is None else int(p95_ms * MS),
        ),
        throughput_per_s=1000 / p50_ms,
        memory=MemorySummary(
            peak_rss_bytes=rss,
            steady_rss_bytes=rss,
            private_bytes=None,
            proportional_bytes=None,
            baseline_rss_bytes=None,
            model_file_bytes=1,
            arena_bytes=arena,
        ),
        energy=EnergySummary(gross_uj=energy_uj, reason=None if energy_uj is not None else "no sensor"),
        golden=None if golden is None else answers,
        conditions=Conditions(stand_in=stand_in, machine="test"),
        verdict=verdict,
        reasons=("throttled",) if verdict is Verdict.INVALID else (),
    )


def refusal(code: RefusalCode = RefusalCode.TRIAL_FAILED, detail: str = "wrong answers") -> Refusal:
    return Refusal(code=code, detail=detail, hint="see the log")


def measured(
    device: str, release_: Release, result: Measurement | Refusal, *, number: int = 1, session: int = 1
) -> Report:
    answer = {"measurement": result} if isinstance(result, Measurement) else {"measurement": None, "refusal": result}
    return Report(
        id=f"{release_.variant}-{number}",
        device=device,
        session=session,
        recorded_at=float(number),
        kind=ReportKind.MEASUREMENT,
        measurement=MeasuredVariant(request=f"m-{number}", model=release_.model, manifest=release_.manifest, **answer),
    )


def installed(
    device: str, manifest: str, outcome: Outcome, *, rollout: str | None, number: int = 1, why: Refusal | None = None
) -> Report:
    return Report(
        id=f"i-{number}",
        device=device,
        session=1,
        recorded_at=float(number),
        kind=ReportKind.INSTALL,
        install=InstallOutcome(
            model="digits",
            manifest=manifest,
            outcome=outcome,
            sequence=1,
            rollout=rollout,
            refusal=None if outcome is Outcome.CONFIRMED else why or refusal(),
        ),
    )


def fell_back(device: str, manifest: str, *, number: int = 1) -> Report:
    return Report(
        id=f"f-{number}",
        device=device,
        session=1,
        recorded_at=float(number),
        kind=ReportKind.INCIDENT,
        incident=Incident(
            code=IncidentCode.FELL_BACK, detail="crashed 3 times", model="digits", manifest=manifest, count=3
        ),
    )


def quads_of(device: str, pair: PairOrder, ratio: float) -> PairedRun:
    """Return quads in which the candidate takes ``ratio`` times what runs takes."""

    def quad(index: int) -> Quad:
        order = quad_order(pair.key, device, index)
        a, b = 1e6, ratio * 1e6
        return Quad(index=index, order=order, latency_ns=(a, b, b, a) if order is Order.ABBA else (b, a, a, b))

    return PairedRun(
        against=pair.against,
        key=pair.key,
        block_runs=pair.block_runs,
        dropped_runs=pair.dropped_runs,
        quads=tuple(quad(n) for n in range(pair.quads)),
    )


def birth(device: str, profile: str, *, session: int = 1, pairs: bool = False, labels=None) -> Birth:
    return Birth(
        device=device,
        session=session,
        profile=profile,
        agent_version="0",
        machine="test",
        system="test",
        python="3",
        runtimes=(RuntimeAvailable(name="litert", version="1"),),
        memory_bytes=1,
        disk_free_bytes=1,
        stand_in=True,
        capabilities=(CAPABILITY,) if pairs else (),
        labels=labels or {},
    )
