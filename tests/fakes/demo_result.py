"""A made-up demo: what a good run would find."""

from edgepick_host.demo.result import (
    CandidateResult,
    Delivery,
    DemoResult,
    Environment,
    Fault,
    FleetDevice,
    ProfileResult,
    RejectedCandidate,
    Resume,
    Standing,
    Wave,
    WaveDevice,
)

NO_SENSOR = "no power sensor on this machine"
ROWS = {
    "float32": (149_028, 0.994, 0.0, 341_000, 392_000),
    "float16": (78_412, 0.994, 0.0, 352_000, 447_000),
    "dynamic_wi8_afp32": (48_120, 0.992, 0.002, 296_000, 331_000),
    "static_wi8_ai8": (49_744, 0.994, 0.0, 181_000, 203_000),
    "pruned50_static_wi8_ai8": (49_744, 0.981, 0.013, 180_000, 214_000),
}


def candidate(label: str, *, standing: Standing = Standing.ELIGIBLE, slower: float = 1.0, **changes) -> CandidateResult:
    size, accuracy, drop, p50, p95 = ROWS[label]
    values = {
        "label": label,
        "size_bytes": size,
        "accuracy": accuracy,
        "accuracy_drop": drop,
        "p50_ns": int(p50 * slower),
        "p95_ns": int(p95 * slower),
        "peak_rss_bytes": 61_800_000,
        "energy_reason": NO_SENSOR,
        "devices": 2,
        "on_front": standing is Standing.CHOSEN,
        "standing": standing,
    }
    return CandidateResult(**{**values, **changes})


def profile(name: str, title: str, candidates: tuple[CandidateResult, ...], **changes) -> ProfileResult:
    chosen = next((c.label for c in candidates if c.standing is Standing.CHOSEN), None)
    values = {
        "profile": name,
        "title": title,
        "candidates": candidates,
        "chosen": chosen,
        "reasons": (
            f"{chosen} has the lowest median latency of the variants within every limit.",
            "It loses no accuracy that 500 images can show.",
            "Measured by every device of this kind that is online.",
        ),
        "objective": "minimise latency within 5 %, then size",
        "limits": ("p95 under 50 ms", "model under 16 MB", "accuracy drop under 1 point"),
    }
    return ProfileResult(**{**values, **changes})


def pi(name: str, title: str, *, slower: float = 1.0) -> ProfileResult:
    return profile(
        name,
        title,
        (
            candidate("static_wi8_ai8", standing=Standing.CHOSEN, slower=slower),
            candidate("dynamic_wi8_afp32", slower=slower, reason="1.6 times the median latency of the chosen one."),
            candidate("float32", slower=slower, reason="1.9 times the median latency of the chosen one."),
            candidate("float16", slower=slower, accuracy_drop=-0.002, on_front=True, reason="It is slower."),
            candidate(
                "pruned50_static_wi8_ai8",
                slower=slower,
                standing=Standing.EXCLUDED,
                reason="Accuracy drop of 1.3 points; 1.0 is allowed.",
            ),
        ),
    )


def a_good_run() -> DemoResult:
    micro = candidate("static_wi8_ai8", standing=Standing.CHOSEN, slower=97, arena_bytes=74_720, devices=1)
    integer_only = RejectedCandidate(recipe="float32", gate="rules", reason="The profile accepts integer-only models.")
    return DemoResult(
        model="digits",
        version="1",
        rollout="r-00000000",
        float_bytes=149_028,
        float_accuracy=0.994,
        started="21 November 2026, 01:22",
        seconds=74.2,
        fleet=(
            fleet("pi4-kitchen", "raspberry-pi-4"),
            fleet("pi4-hall", "raspberry-pi-4"),
            fleet("pi3-garage", "raspberry-pi-3", runtime="tflite_runtime 2.14.0, xnnpack"),
            fleet("coral-gate", "coral-usb-accelerator", fallback="libedgetpu.so.1 is not installed: ran on the CPU"),
            fleet(
                "jetson-dock",
                "jetson-orin-nano",
                runtime="onnxruntime 1.31.1, cpu",
                fallback="CUDAExecutionProvider is not available here",
                running="static_wi8_ai8_symmetric",
            ),
            fleet("mcu-pump", "mcu-cortex-m4", runtime="tflm, cpu"),
        ),
        profiles=(
            pi("raspberry-pi-4", "Raspberry Pi 4"),
            pi("raspberry-pi-3", "Raspberry Pi 3", slower=3.1),
            profile(
                "coral-usb-accelerator",
                "Coral USB Accelerator on a Raspberry Pi 4",
                (
                    candidate("static_wi8_ai8", standing=Standing.CHOSEN, devices=1),
                    candidate("pruned50_static_wi8_ai8", standing=Standing.EXCLUDED, reason="Accuracy drop too large."),
                ),
                rejected=(integer_only, RejectedCandidate(recipe="float16", gate="rules", reason="Not integer-only.")),
            ),
            pi("jetson-orin-nano", "Jetson Orin Nano", slower=0.6),
            profile(
                "mcu-cortex-m4",
                "Microcontroller, Cortex-M4 with 256 KiB RAM and 1 MiB flash",
                (micro,),
                rejected=(integer_only,),
            ),
        ),
        delivery=Delivery(
            variants=8,
            bundle_bytes=1_480_000,
            published_bytes=1_212_416,
            chunks=148,
            chunk_bytes=8192,
            fetched_bytes=2_640_000,
            resume=Resume(
                device="pi4-hall",
                chunks_total=41,
                chunks_before=17,
                chunks_after=24,
                fetched_twice=0,
                window=8,
                completed=True,
            ),
        ),
        faults=(
            Fault(
                title="A variant that answers wrongly",
                done="Its last layer was shuffled, so it loads and runs, and was signed like any other.",
                device="pi4-kitchen",
                caught=True,
                code="trial-failed",
                detail="Agreed with the float model on 9.4 % of the golden inputs; 97.0 % is required.",
                still_running="digits 1 static_wi8_ai8",
            ),
            Fault(
                title="A manifest that was tampered with",
                done="One byte of a signed manifest was changed on the broker.",
                device="coral-gate",
                caught=True,
                code="bad-signature",
                detail="No release key of this fleet signed these bytes.",
                still_running="digits 1 static_wi8_ai8",
            ),
        ),
        waves=(
            Wave(
                name="Canary",
                at_seconds=48.2,
                devices=(
                    WaveDevice(device="pi4-kitchen", variant="static_wi8_ai8", outcome="confirmed", seconds=4.1),
                    WaveDevice(device="pi3-garage", variant="static_wi8_ai8", outcome="confirmed", seconds=4.6),
                ),
            ),
            Wave(
                name="Wave 2",
                at_seconds=55.9,
                devices=(WaveDevice(device="pi4-hall", variant="static_wi8_ai8", outcome="confirmed", seconds=3.9),),
            ),
        ),
        environment=Environment(
            machine="AMD EPYC 7763",
            cores=2,
            system="Linux 6.1, Debian 12",
            broker="mosquitto on mqtt://127.0.0.1:41883",
            versions={"Python": "3.11.4", "edgepick": "0.1.0", "ai-edge-litert": "2.3.0", "onnxruntime": "1.31.1"},
        ),
        notes=("tflite-runtime was installed into an environment of its own.",),
    )


def fleet(device: str, name: str, **changes) -> FleetDevice:
    values = {
        "device": device,
        "profile": name,
        "runtime": "litert 2.3.0, xnnpack",
        "running": "static_wi8_ai8",
        "phase": "confirmed",
        "agent_rss_bytes": 24_600_000,
    }
    return FleetDevice(**{**values, **changes})
