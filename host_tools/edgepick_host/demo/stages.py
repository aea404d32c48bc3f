"""The stages of the demo, each a function over the running scene. What they find out is returned as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepick_host import app
from edgepick_host.compress.request import CompressRequest
from edgepick_host.core.release import NONE, Wish
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.strata import latest_results
from edgepick_host.core.variants import VariantSet
from edgepick_host.core.waves import Plan
from edgepick_host.demo.collect import state_of
from edgepick_host.demo.faults import tampered, write_wrong_variant
from edgepick_host.demo.fleet import FLEET, MEMBERS, PROFILES, WINDOW, Member
from edgepick_host.demo.progress import Progress, Step
from edgepick_host.demo.result import Fault, Resume
from edgepick_host.demo.scene import QUICK_BYTES_PER_SECOND, Scene, slow_member
from edgepick_host.demo.waiting import wait_until
from edgepick_host.demo.workspace import MODEL_NAME, Workspace, data
from edgepick_host.service.prepare import Selection
from edgepick_host.service.publisher import Activation, Publication
from edgepick_host.service.targets import Target, Targets
from edgepick_profiles.load import load_profile
from edgepick_wire import topics
from edgepick_wire.messages import ModelState, Outcome, Refusal, TargetKind

VERSION, WRONG_VERSION, FORGED_VERSION = "1", "2", "3"
OBJECTIVE = "weighted latency=0.5 size=0.5"
"""Fast and small count the same: the demo has no application whose deadline could decide."""

CHUNK_BYTES = 4096
"""Small, so that a small model is many chunks and a kill falls between them."""

TRAP_BYTES = 150_000
"""Carried to the device on the slow link when it is killed: about a quarter of what it needs."""

START_SECONDS = 120.0
DOWNLOAD_SECONDS = 240.0
MEASURE_SECONDS = 300.0
ROLLOUT_SECONDS = 600.0
FAULT_SECONDS = 240.0

WRONG_PROFILE = "raspberry-pi-4"
"""Has two devices, so that one can be spared by the other."""

TAMPERED_DEVICE = "coral-gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledOut:
    """A rollout that has ended.

    Attributes:
        state: Its end.
        begun: Number of a wave -> seconds after the demo's start when it was first seen.
    """

    state: RolloutState
    begun: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The moment when the device on the slow link was killed.

    Attributes:
        sent: Chunks that had passed whole.
        asked: How many had been asked for.
    """

    sent: frozenset[str]
    asked: int


def compress(workspace: Workspace, progress: Progress) -> VariantSet:
    """Return the variants of the demo model for the kinds of device in the fleet."""
    request = CompressRequest(
        models=(data("digits.tflite"), data("digits.onnx")),
        profiles=tuple(load_profile(name) for name in PROFILES),
        calibration=data("calibration.npz"),
        evaluation=data("evaluation.npz"),
        out=workspace.variants,
        name=MODEL_NAME,
    )
    with progress.step(f"compress {MODEL_NAME} for {len(PROFILES)} kinds of device") as step:
        found = app.compress_model(request, say=step.detail)
        step.detail(f"{len(found.variants)} variants kept, {len(found.rejections)} rejected with reasons")
    return found


def start_agents(scene: Scene, progress: Progress) -> None:
    """Leave every agent running and known to the host as online."""
    with progress.step(f"start {len(MEMBERS)} agents, each a process of its own") as step:
        for agent in scene.agents.values():
            agent.start()

        def all_online() -> bool:
            online = [d for d in scene.devices().values() if d.online]
            step.detail(f"{len(online)} online")
            return len(online) == len(MEMBERS)

        wait_until(all_online, what="the agents to appear", seconds=START_SECONDS, check=scene.check)


def publish(scene: Scene, progress: Progress) -> Publication:
    """Return what was published: every variant; no device is told to run or to measure anything yet."""
    with progress.step("sign and publish every variant, once for all devices") as step:
        done = app.publish(
            scene.settings,
            scene.workspace.variants,
            selection=Selection(fleet=FLEET, version=VERSION, chunk_size=CHUNK_BYTES),
            activation=Activation(activate=NONE, measure=False),
        )
        step.detail(f"{done.bytes_sent / 1e3:.0f} kB in {sum(v.chunks_new for v in done.variants)} chunks")
    return done


def kill_while_downloading(scene: Scene, progress: Progress) -> Kill:
    """Return what had passed when the device on the slow link was killed; it is running again."""
    victim = scene.agents[slow_member().device]
    with progress.step(f"kill {victim.name} in the middle of its download, and start it again") as step:
        trap = scene.link.set_trap(TRAP_BYTES)
        order_measurements(scene, slow_member())
        wait_until(trap.is_set, what=f"{victim.name} to download", seconds=DOWNLOAD_SECONDS, check=scene.check)
        victim.kill()
        kill = Kill(sent=frozenset(scene.link.sent()), asked=len(scene.link.asked()))
        scene.link.release()
        scene.link.set_rate(QUICK_BYTES_PER_SECOND)
        victim.start()
        step.detail(f"SIGKILL after {len(kill.sent)} chunks")
    return kill


def measure_in_turn(scene: Scene, progress: Progress) -> None:
    """Leave every variant measured on every device, one device after the other.

    The boards of a fleet measure all at once. Stand-ins share one machine, where that would only
    measure how they disturb each other.
    """
    first = slow_member()
    for member in (first, *(m for m in MEMBERS if m is not first)):
        wanted = [r.manifest for r in scene.store.releases(MODEL_NAME) if member.profile in r.profiles]
        with progress.step(f"measure on {member.device}") as step:
            if member is not first:
                order_measurements(scene, member)

            def measured(device: str = member.device, wanted: Sequence[str] = wanted, step: Step = step) -> bool:
                results = latest_results(scene.store.reports(model=MODEL_NAME, device=device))
                count = sum((device, manifest) in results for manifest in wanted)
                step.detail(f"{count} of {len(wanted)} variants")
                return count == len(wanted)

            wait_until(measured, what=member.device, seconds=MEASURE_SECONDS, check=scene.check)


def order_measurements(scene: Scene, member: Member) -> None:
    """Tell one device to measure every variant for its kind, without running any."""
    manifests = [r.manifest for r in scene.store.releases(MODEL_NAME) if member.profile in r.profiles]
    tell(scene, member, Wish(model=MODEL_NAME, best=None, measure=tuple(manifests)))


def tell(scene: Scene, member: Member, wish: Wish) -> None:
    """Leave a signed desired state for one device on the broker."""
    target = Target(kind=TargetKind.DEVICE, name=member.device, profile=member.profile)
    sign, clock = app.sign_document(scene.settings), app.clock()
    with app.broker_of(scene.settings) as broker:
        Targets(fleet=FLEET, broker=broker, store=scene.store, sign=sign, clock=clock).tell({target: wish})


def resume_of(scene: Scene, kill: Kill, *, completed: bool) -> Resume:
    """Return what the link has seen before and after the kill.

    Args:
        scene: The running parts.
        kill: When the device was killed.
        completed: The device has measured every variant since, so it has them whole.
    """
    asked_since = frozenset(scene.link.asked()[kill.asked :])
    return Resume(
        device=slow_member().device,
        chunks_total=len(kill.sent | asked_since),
        chunks_before=len(kill.sent),
        chunks_after=len(asked_since),
        fetched_twice=len(kill.sent & asked_since),
        window=WINDOW,
        completed=completed,
    )


def roll_out(scene: Scene, progress: Progress) -> RolledOut:
    """Return the rollout of the variants that the devices' own measurements chose."""
    plan = Plan(
        version=VERSION,
        objective=OBJECTIVE,
        waves=(1.0,),
        soak_seconds=1.0,
        wave_seconds=240.0,
        measure_seconds=300.0,
    )
    state = app.start_rollout(scene.settings, MODEL_NAME, plan)
    with progress.step("decide, and roll out: canary first, then the rest") as step:
        return _follow(scene, state.id, step, progress)


def _follow(scene: Scene, rollout: str, step: Step, progress: Progress) -> RolledOut:
    """Return the rollout once it has ended and everything that follows from it has been published."""
    begun: dict[int, float] = {}

    def ended() -> RolloutState | None:
        state = app.rollout(scene.settings, rollout)
        if state.stage in (Stage.CANARY, Stage.WAVE):
            begun.setdefault(state.wave, progress.seconds)
        step.detail(f"{state.stage}{f': {state.reason}' if state.reason else ''}")
        return state if state.settled else None

    state = wait_until(ended, what="the rollout", seconds=ROLLOUT_SECONDS, check=scene.check)
    return RolledOut(state=state, begun=begun)


def roll_out_wrong_variant(scene: Scene, found: VariantSet, progress: Progress) -> Fault:
    """Return how a variant that answers wrongly fared: signed, published and rolled out like any other."""
    folder = scene.workspace.wrong_variants
    wrong = write_wrong_variant(found, scene.workspace.variants, WRONG_PROFILE, folder)
    with progress.step("roll out a variant that answers wrongly") as step:
        app.publish(
            scene.settings,
            folder,
            selection=Selection(fleet=FLEET, version=WRONG_VERSION, chunk_size=CHUNK_BYTES),
            activation=Activation(activate=NONE, measure=False),
        )
        plan = Plan(version=WRONG_VERSION, variant=wrong.name, profiles=(WRONG_PROFILE,), wave_seconds=240.0)
        rollout = app.start_rollout(scene.settings, MODEL_NAME, plan)
        ended = _follow(scene, rollout.id, step, progress).state
        step.detail(f"{ended.stage}")
    return _wrong_variant_fault(scene, ended)


def _wrong_variant_fault(scene: Scene, ended: RolloutState) -> Fault:
    tried = [m for m in ended.members if m.touched]
    spared = ", ".join(m.device for m in ended.members if not m.touched) or "nobody else"
    device, previous = (tried[0].device, tried[0].previous) if tried else ("", None)
    refusal = _install_refusal(scene, device, ended.id)
    state = _state(scene, device)
    back = state is not None and state.active is not None and state.active == previous
    return Fault(
        title="A variant that answers wrongly",
        done="Its last layer was shifted by one class: it loads, runs, is signed and is rolled out like any other. "
        f"The canary tried it on its golden inputs; it went no further, and {spared} never got it.",
        device=device,
        caught=ended.stage is Stage.REVERTED and refusal is not None and back,
        code=refusal.code.value if refusal else ended.stage.value,
        detail=refusal.detail if refusal else ended.reason,
        still_running=(state.active_label or "") if state else "",
    )


def _install_refusal(scene: Scene, device: str, rollout: str) -> Refusal | None:
    """Return why an installation of a rollout ended without success on a device."""
    for report in reversed(scene.store.reports(model=MODEL_NAME, device=device)):
        install = report.install
        if install is not None and install.rollout == rollout and install.outcome is not Outcome.CONFIRMED:
            return install.refusal
    return None


def _state(scene: Scene, device: str) -> ModelState | None:
    known = scene.devices().get(device)
    return state_of(known, MODEL_NAME) if known else None


def send_tampered_manifest(scene: Scene, progress: Progress) -> Fault:
    """Return how a device met a manifest that was changed after it was signed; it is on its old course again."""
    before = _state(scene, TAMPERED_DEVICE)
    good = before.active if before else None
    with progress.step(f"order {TAMPERED_DEVICE} to run a manifest that was tampered with") as step:
        refused = _refused(scene, _forge(scene, good or ""))
        step.detail(refused.refusal.code.value if refused.refusal else "no refusal")
    with progress.step(f"order {TAMPERED_DEVICE} to go on as before"):
        tell(scene, tampered_member(), Wish(model=MODEL_NAME, best=None, forced=good))
        wait_until(lambda: _content(scene, good), what=TAMPERED_DEVICE, seconds=FAULT_SECONDS, check=scene.check)
    return Fault(
        title="A manifest that was tampered with",
        done="A signed manifest was changed and put on the broker under its new digest, and the device was ordered "
        "to run it. Nothing but the signature could give it away.",
        device=TAMPERED_DEVICE,
        caught=refused.refusal is not None and refused.active == good,
        code=refused.refusal.code.value if refused.refusal else refused.phase.value,
        detail=refused.refusal.detail if refused.refusal else "it was not refused",
        still_running=refused.active_label or "",
    )


def tampered_member() -> Member:
    """Return the member that is sent a tampered manifest."""
    return next(member for member in MEMBERS if member.device == TAMPERED_DEVICE)


def _forge(scene: Scene, manifest: str) -> str:
    """Return the digest of a forged manifest, which is on the broker, and which the device is ordered to run."""
    signed = scene.store.manifest(manifest) or b""
    digest, forged = tampered(signed, version=FORGED_VERSION)
    with app.broker_of(scene.settings) as broker:
        broker.publish(topics.manifest(FLEET, digest), forged, retain=True)
    tell(scene, tampered_member(), Wish(model=MODEL_NAME, best=None, forced=digest))
    return digest


def _refused(scene: Scene, digest: str) -> ModelState:
    def look() -> ModelState | None:
        state = _state(scene, TAMPERED_DEVICE)
        settled = state is not None and state.wanted == digest and state.refusal is not None
        return state if settled or (state and state.active == digest) else None

    return wait_until(look, what="the refusal", seconds=FAULT_SECONDS, check=scene.check)


def _content(scene: Scene, manifest: str | None) -> bool:
    state = _state(scene, TAMPERED_DEVICE)
    return state is not None and state.active == manifest and state.wanted == manifest and state.refusal is None
