"""One sample per message of the protocol, and the script that records them.

``records/*.json`` are the memory of the protocol: each holds a message as JSON (``object``) and as
the exact bytes that travel (``bytes``, UTF-8). A change in them is a change of the protocol, which
old devices must survive. After a wanted change, write them anew and read the difference:

    python tests/golden/golden_samples.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from edgepick_wire import codec
from edgepick_wire.envelope import DocumentType, Envelope, Role, Signature, key_id, pack, signed_bytes
from edgepick_wire.manifest import (
    Encoding,
    FileEntry,
    GoldenSpec,
    Manifest,
    ModelFormat,
    RunLimits,
    RuntimeChoice,
    RuntimeName,
    manifest_digest,
)
from edgepick_wire.messages import (
    Ack,
    Assignment,
    Birth,
    Desired,
    Incident,
    IncidentCode,
    InstallOutcome,
    MeasuredVariant,
    MeasureRequest,
    ModelState,
    Outcome,
    Phase,
    Presence,
    Refusal,
    RefusalCode,
    Report,
    Reported,
    ReportKind,
    RuntimeAvailable,
    ShadowedVariant,
    TargetKind,
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
from edgepick_wire.pairing import PairedRun, PairOrder, Quad, quad_order
from edgepick_wire.shadow import OutputDifference, ShadowRequest, ShadowSummary
from edgepick_wire.trust import RootDocument

RECORDS = Path(__file__).parent / "records"

KEY = SigningKey(bytes(range(32)))
"""A key for tests only: its secret is 00 01 02 ... 1f."""
PUBLIC = KEY.verify_key.encode().hex()
OTHER = "ab" * 32

CHUNK = 512
MODEL = bytes(i % 251 for i in range(1500))
"""A "model" of three chunks, the last of 476 bytes."""
CHUNKS = tuple(MODEL[i : i + CHUNK] for i in range(0, len(MODEL), CHUNK))
INDEX = b"".join(hashlib.sha256(chunk).digest() for chunk in CHUNKS)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


DELTA = bytes(700)
"""Something that stands for an encoded form: two chunks of zeros."""
DELTA_CHUNKS = tuple(DELTA[i : i + CHUNK] for i in range(0, len(DELTA), CHUNK))
DELTA_INDEX = b"".join(hashlib.sha256(chunk).digest() for chunk in DELTA_CHUNKS)
ENCODING = Encoding(
    algorithm="aligned-zstd",
    size=len(DELTA),
    sha256=digest(DELTA),
    chunk_size=CHUNK,
    index=(digest(DELTA_INDEX),),
    base=OTHER,
    window_bytes=8388608,
)


def entry(name: str, *encodings: Encoding) -> FileEntry:
    return FileEntry(
        name=name,
        size=len(MODEL),
        sha256=digest(MODEL),
        chunk_size=CHUNK,
        index=(digest(INDEX),),
        encodings=encodings,
    )


MANIFEST = Manifest(
    fleet="demo",
    model="digits",
    version="1.4",
    variant="static_wi8_ai8-tflite",
    security_epoch=2,
    profiles=("raspberry-pi-4", "coral-dev-board"),
    format=ModelFormat.TFLITE,
    runtimes=(
        RuntimeChoice(name=RuntimeName.TFLITE_RUNTIME, accelerators=("edgetpu", "cpu")),
        RuntimeChoice(name=RuntimeName.LITERT, threads=2),
    ),
    model_file="model.tflite",
    files=(entry("model.tflite", ENCODING), entry("golden.npz")),
    golden=GoldenSpec(file="golden.npz", min_agreement=0.98, max_mean_abs_error=0.05),
    limits=RunLimits(peak_rss_bytes=268435456, start_seconds=30.0, inference_seconds=5.0),
    requires=("golden", "memory-cap"),
    provenance={"recipe": "static_wi8_ai8", "quantizer": "ai-edge-quantizer 0.10.0"},
    sources=("https://models.example.com/{sha256}",),
)
MANIFEST_DIGEST = manifest_digest(codec.encode(MANIFEST))
PREVIOUS_DIGEST = "cd" * 32

ROOT = RootDocument(
    fleet="demo",
    version=1,
    root=Role(threshold=1, keys=(PUBLIC, OTHER)),
    release=Role(threshold=1, keys=(PUBLIC,)),
    campaign=Role(threshold=1, keys=(PUBLIC,)),
)

DESIRED = Desired(
    fleet="demo",
    target_kind=TargetKind.PROFILE,
    target="raspberry-pi-4",
    sequence=42,
    issued_at=1767225600.5,
    models=(
        Assignment(
            model="digits",
            max_bytes=2_000_000,
            active=PREVIOUS_DIGEST,
            measure=(
                MeasureRequest(
                    id="m-7",
                    manifest=MANIFEST_DIGEST,
                    plan=MeasurePlan(min_runs=300),
                    pair=PairOrder(against=PREVIOUS_DIGEST, key="r-2026-01"),
                    max_bytes=500_000,
                ),
            ),
            rollout="r-2026-01",
            shadow=ShadowRequest(id="s-3", manifest=MANIFEST_DIGEST, permille=50, seconds=600.0, requests=500),
        ),
        Assignment(model="other"),
    ),
)

MEASUREMENT = Measurement(
    plan=MeasurePlan(),
    runtime=RuntimeUsed(
        name="litert",
        version="2.3.0",
        accelerator="cpu",
        nodes=31,
        accelerated_nodes=0,
        fallback_reason="edgetpu: libedgetpu.so.1 not found",
        threads=2,
    ),
    load_ns=41_250_000,
    first_inference_ns=2_900_000,
    latency=LatencySummary(
        runs=60,
        mean_ns=1_204_000,
        stdev_ns=31_000,
        min_ns=1_151_000,
        max_ns=1_410_000,
        p50_ns=1_198_000,
        p90_ns=1_250_000,
        p95_ns=1_301_000,
        p95_high_ns=1_410_000,
    ),
    throughput_per_s=830.5,
    memory=MemorySummary(
        peak_rss_bytes=61_000_000,
        steady_rss_bytes=59_500_000,
        private_bytes=33_000_000,
        proportional_bytes=41_000_000,
        baseline_rss_bytes=28_000_000,
        model_file_bytes=1500,
        session_bytes=4_200_000,
    ),
    energy=EnergySummary(reason="no sensor"),
    golden=GoldenResult(
        samples=64,
        agreement=0.984375,
        mean_abs_error=0.0125,
        accuracy=0.96875,
        finite=True,
        passed=True,
        detail="63 of 64 as the float model",
    ),
    conditions=Conditions(
        stand_in=True,
        machine="Raspberry Pi 4 Model B Rev 1.4",
        temperature_mc=(48_200, 51_100),
        frequency_khz=(1_800_000, 1_800_000),
        governor="performance",
        throttled=False,
        load_1min=0.25,
        cpu_pressure_us=1200,
        memory_pressure_us=0,
        io_pressure_us=310,
        foreign_cpus=0.25,
        steal_share=0.0,
        preemptions=7,
        hottest_mc=51_400,
        slowest_khz=1_800_000,
    ),
    verdict=Verdict.DEGRADED,
    reasons=("the frequency was not fixed",),
    extra={"delegate": "none"},
    paired=PairedRun(
        against=PREVIOUS_DIGEST,
        key="r-2026-01",
        block_runs=20,
        dropped_runs=3,
        quads=(
            Quad(
                index=0,
                order=quad_order("r-2026-01", "pi-7", 0),
                latency_ns=(1_210_000.0, 1_450_000.5, 1_447_000.0, 1_204_000.0),
                energy_uj=(2100.0, 2600.5, 2590.0, 2110.0),
            ),
            Quad(index=1, order=quad_order("r-2026-01", "pi-7", 1), latency_ns=(), invalid="throttled"),
        ),
    ),
)

SHADOW = ShadowSummary(
    against=PREVIOUS_DIGEST,
    seconds=600.25,
    seen=4021,
    drawn=201,
    dropped=3,
    compared=195,
    misshapen=1,
    not_finite=1,
    failed=1,
    outputs=(OutputDifference(name="probabilities", max_abs=0.125, mean_abs=0.0078125, rows=195, agreeing=193),),
    active=LatencySummary(runs=197, mean_ns=1_210_000, stdev_ns=40_000, min_ns=1_150_000, max_ns=1_900_000,
                          p50_ns=1_200_000, p90_ns=1_260_000, p95_ns=1_300_000, p95_high_ns=1_350_000),
    candidate=LatencySummary(runs=197, mean_ns=910_000, stdev_ns=70_000, min_ns=850_000, max_ns=2_900_000,
                             p50_ns=900_000, p90_ns=960_000, p95_ns=1_100_000, p95_high_ns=1_300_000),
    ratio=0.75,
    slower=4,
)  # fmt: skip

REFUSAL = Refusal(
    code=RefusalCode.TRIAL_FAILED,
    detail="12 of 64 golden inputs are answered as by the float model; at least 63 are needed",
    hint="Compress the model again, or widen the tolerance of its bundle.",
)


def report(name: str, kind: ReportKind, **part: Any) -> Report:
    return Report(id=name, device="pi-7", session=3, recorded_at=1767225660.25, kind=kind, **part)


SAMPLES: dict[str, object] = {
    "Ack": Ack(ids=("3-1", "3-2")),
    "Birth": Birth(
        device="pi-7",
        session=3,
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        machine="Raspberry Pi 4 Model B Rev 1.4",
        system="Linux 6.6.31 aarch64",
        python="3.11.2",
        runtimes=(RuntimeAvailable(name="litert", version="2.3.0", accelerators=("cpu", "xnnpack")),),
        sensors=("hwmon-ina2xx",),
        memory_bytes=4_000_000_000,
        disk_free_bytes=21_000_000_000,
        stand_in=True,
        capabilities=("golden", "memory-cap"),
        labels={"site": "Köln", "line": "3"},
    ),
    "Desired": DESIRED,
    "Manifest": MANIFEST,
    "Measurement": MEASUREMENT,
    "Presence": Presence(session=3, online=False),
    "Report-incident": report(
        "3-3",
        ReportKind.INCIDENT,
        incident=Incident(
            code=IncidentCode.RUNNER_CRASHED,
            detail="the runner ended with SIGSEGV",
            model="digits",
            manifest=MANIFEST_DIGEST,
            count=2,
        ),
    ),
    "Report-install": report(
        "3-2",
        ReportKind.INSTALL,
        install=InstallOutcome(
            model="digits",
            manifest=MANIFEST_DIGEST,
            outcome=Outcome.REVERTED,
            sequence=42,
            rollout="r-2026-01",
            active=PREVIOUS_DIGEST,
            refusal=REFUSAL,
            chunks_fetched=3,
            chunks_reused=1,
            bytes_fetched=1500,
            seconds=2.5,
        ),
    ),
    "Report-measurement": report(
        "3-1",
        ReportKind.MEASUREMENT,
        measurement=MeasuredVariant(request="m-7", model="digits", manifest=MANIFEST_DIGEST, measurement=MEASUREMENT),
    ),
    "Report-refused-measurement": report(
        "3-4",
        ReportKind.MEASUREMENT,
        measurement=MeasuredVariant(
            request="m-8", model="digits", manifest=PREVIOUS_DIGEST, measurement=None, refusal=REFUSAL
        ),
    ),
    "Report-shadow": report(
        "3-5",
        ReportKind.SHADOW,
        shadow=ShadowedVariant(
            request="s-3", model="digits", manifest=MANIFEST_DIGEST, summary=SHADOW, detail="what serves has changed"
        ),
    ),
    "Reported": Reported(
        device="pi-7",
        session=3,
        sequence=42,
        security_epoch=2,
        models=(
            ModelState(
                model="digits",
                phase=Phase.REVERTED,
                active=PREVIOUS_DIGEST,
                active_label="1.3 float32",
                wanted=MANIFEST_DIGEST,
                rollout="r-2026-01",
                chunks_done=4,
                chunks_total=4,
                refusal=REFUSAL,
            ),
            ModelState(model="other", phase=Phase.EMPTY),
        ),
    ),
    "RootDocument": ROOT,
}
"""Record name (class, then what it shows) -> the message."""


def signed(kind: DocumentType, payload: bytes) -> Envelope:
    signature = KEY.sign(signed_bytes(kind, payload)).signature.hex()
    return Envelope(type=kind, payload=payload, signatures=(Signature(key_id=key_id(PUBLIC), signature=signature),))


ENVELOPES = {
    "Envelope-desired": signed(DocumentType.DESIRED, codec.encode(DESIRED)),
    "Envelope-manifest": signed(DocumentType.MANIFEST, codec.encode(MANIFEST)),
    "Envelope-root": signed(DocumentType.ROOT, codec.encode(ROOT)),
    "Envelope-small": signed(DocumentType.DESIRED, b"hello"),
}
"""Signed documents, not one JSON value; the last one is the worked example of PROTOCOL.md."""


def record(message: object) -> dict[str, Any]:
    """Return what the record of a message holds."""
    if isinstance(message, Envelope):
        described = {**codec.plain(message), "payload": message.payload.decode()}
        return {"object": described, "bytes": pack(message).decode()}
    return {"object": codec.plain(message), "bytes": codec.encode(message).decode()}


def write_records() -> None:
    """Write every record anew."""
    RECORDS.mkdir(exist_ok=True)
    for name, message in {**SAMPLES, **ENVELOPES}.items():
        text = json.dumps(record(message), indent=2, sort_keys=True, ensure_ascii=False)
        (RECORDS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_records()
