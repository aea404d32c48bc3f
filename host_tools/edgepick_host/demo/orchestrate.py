"""The whole job on one machine: compress, deliver, measure, select, roll out; with three things going wrong."""

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgepick_host import app
from edgepick_host.core.strata import Results, latest_results
from edgepick_host.core.variants import VariantSet
from edgepick_host.demo import collect, stages
from edgepick_host.demo.broker import BrokerKind
from edgepick_host.demo.fleet import PROFILES
from edgepick_host.demo.progress import Progress
from edgepick_host.demo.report import write_report
from edgepick_host.demo.result import Delivery, DemoResult, Environment, Fault, Resume
from edgepick_host.demo.scene import Scene, open_scene
from edgepick_host.demo.tflite_environment import TfliteEnvironment, tflite_environment
from edgepick_host.demo.workspace import MODEL_NAME, Workspace, data, open_workspace
from edgepick_host.service.publisher import Publication
from edgepick_profiles.load import load_profile
from edgepick_wire.codec import encode_document
from edgepick_wire.version import __version__

LIBRARIES = ("ai-edge-litert", "ai-edge-quantizer", "onnxruntime", "tflite-micro", "paho-mqtt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the demo is to be run.

    Attributes:
        out: Its folder.
        broker: Which broker; ``None`` for the best that is installed.
        tflite_runtime: Try to get tflite-runtime for the Raspberry Pi 3.
    """

    out: Path
    broker: BrokerKind | None = None
    tflite_runtime: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened, before it is put in order for the report."""

    variants: VariantSet
    publication: Publication
    resume: Resume
    rolled_out: stages.RolledOut
    faults: tuple[Fault, ...]
    tflite: TfliteEnvironment


OnResult = Callable[[DemoResult, Workspace], None]


def run_demo(options: Options, progress: Progress, on_result: OnResult) -> DemoResult:
    """Return what was found; report and result are written, and ``on_result`` was called while all still ran.

    Raises:
        MissingExtraError: Something is not installed without which the demo cannot run.
        StateError: A part ended or did not answer in time; its log is named.
    """
    with closing(open_workspace(options.out)) as workspace:
        variants, tflite = _prepare(workspace, options, progress)
        progress.heading("Deliver")
        with open_scene(workspace, kind=options.broker, tflite_python=tflite.python) as scene:
            progress.note(f"{scene.broker}; everything of this run lies in {workspace.folder}")
            story = _play(scene, variants, tflite, progress)
            result = _tell(scene, story, progress)
            workspace.result.write_bytes(encode_document(result, indent=2) + b"\n")
            write_report(result, workspace.report)
            on_result(result, workspace)
    return result


def _prepare(workspace: Workspace, options: Options, progress: Progress) -> tuple[VariantSet, TfliteEnvironment]:
    """Return the variants, and the environment that was made ready in the meantime."""
    progress.heading("Compress")
    with ThreadPoolExecutor(max_workers=1) as aside:
        environment = aside.submit(_tflite, options, progress)
        variants = stages.compress(workspace, progress)
        found = environment.result()
    if found.python is None:
        progress.warn(f"no tflite-runtime: {found.reason}; the Raspberry Pi 3 takes LiteRT instead")
    return variants, found


def _tflite(options: Options, progress: Progress) -> TfliteEnvironment:
    if not options.tflite_runtime:
        return TfliteEnvironment(reason="it was not asked for")
    return tflite_environment(say=progress.note)


def _play(scene: Scene, variants: VariantSet, tflite: TfliteEnvironment, progress: Progress) -> Story:
    """Return what happened from the first agent's start to the last fault."""
    stages.start_agents(scene, progress)
    publication = stages.publish(scene, progress)
    kill = stages.kill_while_downloading(scene, progress)
    progress.heading("Measure, select, roll out")
    stages.measure_in_turn(scene, progress)
    resume = stages.resume_of(scene, kill, completed=True)
    rolled_out = stages.roll_out(scene, progress)
    progress.heading("Wrong on purpose")
    wrong = stages.roll_out_wrong_variant(scene, variants, progress)
    forged = stages.send_tampered_manifest(scene, progress)
    return Story(
        variants=variants,
        publication=publication,
        resume=resume,
        rolled_out=rolled_out,
        faults=(wrong, forged),
        tflite=tflite,
    )


def _tell(scene: Scene, story: Story, progress: Progress) -> DemoResult:
    """Return everything that the report shows."""
    reports = scene.store.reports(model=MODEL_NAME)
    results = latest_results(reports)
    rollout = story.rolled_out.state
    evidence = collect.Evidence(
        variants=story.variants,
        releases={r.manifest: r for r in scene.store.releases(MODEL_NAME)},
        results=results,
        decisions=collect.decisions_of(app.decision_records(scene.settings, MODEL_NAME), rollout.id),
    )
    return DemoResult(
        model=MODEL_NAME,
        version=stages.VERSION,
        rollout=rollout.id,
        float_bytes=data("digits.tflite").stat().st_size,
        float_accuracy=story.variants.float_accuracy,
        started=time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(app.clock().now() - progress.seconds)),
        seconds=progress.seconds,
        fleet=tuple(
            collect.fleet_device(device, MODEL_NAME, results, rss_bytes=scene.agents[name].rss_bytes())
            for name, device in scene.devices().items()
        ),
        profiles=tuple(collect.profile_result(load_profile(name), evidence) for name in PROFILES),
        delivery=_delivery(story),
        faults=story.faults,
        waves=collect.waves(rollout, reports, story.rolled_out.begun),
        environment=_environment(scene, results),
        notes=_notes(story),
    )


def _delivery(story: Story) -> Delivery:
    published = story.publication
    return Delivery(
        variants=len(published.variants),
        bundle_bytes=sum(v.size_bytes for v in published.variants),
        published_bytes=published.bytes_sent,
        chunks=sum(v.chunks_new for v in published.variants),
        chunk_bytes=stages.CHUNK_BYTES,
        resume=story.resume,
    )


def _notes(story: Story) -> tuple[str, ...]:
    if story.tflite.python is None:
        return (f"The Raspberry Pi 3 used LiteRT, because there is no tflite-runtime here: {story.tflite.reason}.",)
    return (f"The Raspberry Pi 3 used tflite-runtime {story.tflite.version} in an environment of its own.",)


def _environment(scene: Scene, results: Results) -> Environment:
    machines = {r.measurement.conditions.machine for r in results.values() if r.measurement}
    return Environment(
        machine=", ".join(sorted(machines)) or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.release()}",
        broker=str(scene.broker),
        versions={"edgepick": __version__, "Python": platform.python_version(), **_libraries()},
    )


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # noqa: PERF203 - each may be missing for itself
            continue
    return found
