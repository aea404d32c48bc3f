"""Where a search has its work done: what the cache knows is taken from there, the rest goes to an executor."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from edgepick_host.compress.cache import Cache, cpu_name, key_of_work
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.executor import Executor
from edgepick_host.compress.request import Say
from edgepick_host.compress.work import (
    ArenaJob,
    Crashed,
    Job,
    Layers,
    LayersJob,
    Made,
    MakeJob,
    Material,
    Result,
    Score,
    ScoreJob,
    SensitivityJob,
    Start,
    Trained,
    TrainJob,
)
from edgepick_host.core.variants import Recipe
from edgepick_host.core.verify import ArenaFacts
from edgepick_wire.codec import decode_document, encode_document, plain
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat

_MODEL, _FAILURE = b"\x01", b"\x00"


@dataclass(slots=True, kw_only=True)
class Laboratory:
    """Does jobs, each kind once.

    Attributes:
        material: What all jobs share.
        executor: Does what the cache does not know; opened when first needed.
        deadline: Of ``time.monotonic``; nothing is begun after it.
        end: The deadline of what explains the results, once nothing is tried any more.
        computed: Jobs done so far.
        remembered: Jobs that the cache knew.
    """

    material: Material
    open_executor: Callable[[], Executor]
    cache: Cache
    say: Say
    deadline: float | None = None
    end: float | None = None
    computed: int = 0
    remembered: int = 0
    _executor: Executor | None = None
    _digests: dict[str, str] = field(default_factory=dict)

    def results(self, jobs: Sequence[Job], what: str) -> list[Result | None]:
        """Return each job's result; ``None`` for what was not done before the deadline.

        Args:
            jobs: Any; the same work given twice is done once.
            what: In words, for progress.
        """
        keys = [self._key(job) for job in jobs]
        known = {key: self._known(key, job) for key, job in zip(keys, jobs, strict=True)}
        missing = {key: job for key, job in zip(keys, jobs, strict=True) if known[key] is None}
        self.remembered += len(known) - len(missing)
        if missing:
            known.update(self._compute(missing, what))
        return [known[key] for key in keys]

    def close(self) -> None:
        """Leave nothing running; the next job starts anew."""
        if self._executor is not None:
            self._executor.close()
        self._executor = None

    def _compute(self, missing: Mapping[str, Job], what: str) -> dict[str, Result | None]:
        if self._executor is None:
            self._executor = self.open_executor()
        keys, found = list(missing), cast("dict[str, Result | None]", {})
        for index, result in self._executor.run(list(missing.values()), self.deadline):
            found[keys[index]] = result
            self.computed += 1
            self.say(f"{what}: {len(found)} of {len(keys)}")
            if not isinstance(result, Crashed):
                self.cache.write(keys[index], _encoded(result))
        return found

    def _known(self, key: str, job: Job) -> Result | None:
        content = self.cache.read(key)
        if content is None:
            return None
        try:
            found = _decoded(content, job)
        except WireError:
            return None
        if isinstance(found, Score) and isinstance(job, ScoreJob):
            return found if found.failure or found.complete or found.least_loss > job.limit else None
        return found

    def _key(self, job: Job) -> str:
        return key_of_work(type(job).__name__, self._facts(job))

    def _facts(self, job: Job) -> dict[str, object]:
        if isinstance(job, TrainJob):
            return self._facts_of_training(job)
        if isinstance(job, MakeJob | SensitivityJob):
            return self._facts_of_recipe(job.recipe, job.start)
        facts: dict[str, object] = {"model": digest_of(job.model), "evaluation": self._digest("evaluation")}
        if isinstance(job, ScoreJob):
            return facts | {"format": job.format.value, "cpu": cpu_name()}
        if isinstance(job, LayersJob):
            source = self._digest(job.format.value) if job.start is None else digest_of(job.start.model)
            calibration = self._digest("calibration")
            known = {"model": facts["model"], "source": source, "calibration": calibration, "cpu": cpu_name()}
            return known | {"before": plain(job.before)}
        return facts

    def _facts_of_recipe(self, recipe: Recipe, start: Start | None) -> dict[str, object]:
        source = self._digest(recipe.format.value) if start is None else digest_of(start.model)
        return {
            "steps": plain(recipe.steps),
            "format": recipe.format.value,
            "source": source,
            "ranges": plain({} if start is None else start.ranges),
            "calibration": self._digest("calibration"),
        }

    def _facts_of_training(self, job: TrainJob) -> dict[str, object]:
        return {
            "training": plain(job.training),
            "formats": plain(job.formats),
            "task": self._digest("task"),
            # What model() holds beside its tensors shows in the float model's file.
            "sources": [self._digest(each.value) for each in self.material.sources],
            "calibration": self._digest("calibration"),
            "seed": self.material.seed,
            "max_accuracy_drop": self.material.max_accuracy_drop,
        }

    def _digest(self, name: str) -> str:
        if name not in self._digests:
            self._digests[name] = _digest_of(name, self.material)
        return self._digests[name]


def _digest_of(name: str, material: Material) -> str:
    if name == "calibration":
        return _data_digest(material.calibration)
    if name == "task":
        return _task_digest(material)
    if name == "evaluation":
        answers = digest_of(material.reference.tobytes())
        return digest_of(f"{_data_digest(material.evaluation)} {answers} {material.golden} {material.seed}".encode())
    return digest_of(next(data for model_format, data in material.sources.items() if model_format.value == name))


def _task_digest(material: Material) -> str:
    """Return the digest of what the task file returns now: its data and its neighbours change without it."""
    from edgepick_host.compress.training.task import load_task

    assert material.task is not None
    return load_task(material.task).sha256


def _data_digest(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    arrays = dict(dataset.arrays) if dataset.labels is None else {**dataset.arrays, "y": dataset.labels}
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _encoded(result: Result) -> bytes:
    if isinstance(result, Made):
        return _FAILURE + result.failure.encode() if result.failure else _MODEL + result.model
    if isinstance(result, Trained):
        models = {each.value: base64.b64encode(start.model).decode() for each, start in result.starts.items()}
        ranges = {each.value: plain(start.ranges) for each, start in result.starts.items()}
        return json.dumps({"models": models, "ranges": ranges, "failure": result.failure}).encode()
    return encode_document(result)


def _decoded(content: bytes, job: Job) -> Result:
    if isinstance(job, MakeJob):
        made = content[:1] == _MODEL
        return Made(model=content[1:]) if made else Made(failure=content[1:].decode())
    if isinstance(job, TrainJob):
        return _decoded_training(content)
    if isinstance(job, ArenaJob):
        return decode_document(ArenaFacts, content)
    if isinstance(job, ScoreJob):
        return decode_document(Score, content)
    return decode_document(Layers, content)


def _decoded_training(content: bytes) -> Trained:
    found = json.loads(content)
    starts = {
        ModelFormat(name): Start(
            model=base64.b64decode(model),
            ranges={tensor: (low, high) for tensor, (low, high) in found["ranges"][name].items()},
        )
        for name, model in found["models"].items()
    }
    return Trained(starts=starts, failure=found["failure"])
