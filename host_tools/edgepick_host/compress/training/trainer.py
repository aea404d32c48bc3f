"""A small trainer: every training pass fine-tunes with it.

One thread and one seed: on one machine the same arguments give the same weights, bit for bit.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from edgepick_host.compress.training.samples import Samples
from edgepick_host.compress.training.step import TrainingContext
from edgepick_host.errors import CompressionError

SECONDS_BETWEEN_LINES = 3.0
EVALUATION_BATCH = 256
TINY = 1e-9
"""Below any probability that a float32 softmax distinguishes from 0 in a loss."""
MAX_GRADIENT_NORM = 5.0
VECTOR_SCALE = 0.1
OPTIMIZERS = ("adamw", "sgd")
RATE_SHAPES = ("one_cycle", "cosine", "constant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how hard to train.

    Attributes:
        epochs: Passes over the data.
        steps: Number of optimizer steps instead; 0 for whole epochs.
        rate: Peak learning rate.
        rate_shape: Of the learning rate: "one_cycle" (warm-up of 30 %, then cosine), "cosine", "constant".
        relative_rate: The rate is a share of each weight tensor's root mean square (Adafactor's relative step, Shazeer
            and Stern 2018); right for networks with folded scales, whose layers differ in size by orders of magnitude.
            For tensors of fewer than two dimensions, whose size says little, the share of ``VECTOR_SCALE``.
        optimizer: "adamw" or "sgd" (momentum 0.9).
        weight_decay: Of the optimizer.
        batch: Samples of one step.
        label_smoothing: Of the labels' cross entropy.
        freeze_batch_norm: Batch norms keep their statistics; right for short fine-tuning with small batches.
        keep_best: End with the weights of the epoch that answers best on the held-out samples.
        stop_at: End after the first epoch whose held-out accuracy reaches this (0..1); above 1, never.
    """

    epochs: int = 10
    steps: int = 0
    rate: float = 1e-3
    rate_shape: str = "one_cycle"
    relative_rate: bool = False
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    batch: int = 64
    label_smoothing: float = 0.0
    freeze_batch_norm: bool = False
    keep_best: bool = False
    stop_at: float = 2.0

    def steps_over(self, samples: int) -> int:
        """Return the number of optimizer steps for this many samples."""
        return self.steps or self.epochs * self.steps_of_epoch(samples)

    def steps_of_epoch(self, samples: int) -> int:
        """Return the number of optimizer steps of one epoch."""
        return math.ceil(samples / self.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step sees.

    Attributes:
        x: Inputs, in the module's layout, augmented if the task does.
        y: Labels.
        indices: Places of the samples in the data trained on, int64.
        step: Number of the step, from 0.
    """

    x: Tensor
    y: Tensor
    indices: Tensor
    step: int


Loss = Callable[[nn.Module, Batch], Tensor]
"""From the module in training mode and a batch to a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What training came to.

    Attributes:
        steps: Optimizer steps taken.
        loss: Mean of the last epoch.
        accuracy: On the held-out samples, of the weights that are kept.
    """

    steps: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a technique does besides the loss.

    Attributes:
        before_step: Called with the step's number before its gradient is taken (schedules).
        after_step: Called with the step's number after the weights changed (masks).
        parameters: Trained together with the module's (adapters, learned scales).
    """

    before_step: Callable[[int], None] | None = None
    after_step: Callable[[int], None] | None = None
    parameters: Sequence[nn.Parameter] = ()


def fit(
    module: nn.Module,
    context: TrainingContext,
    plan: Plan,
    *,
    loss: Loss | None = None,
    hooks: Hooks | None = None,
    data: Samples | None = None,
    title: str = "training",
) -> Progress:
    """Train ``module`` in place; it ends in evaluation mode.

    Args:
        module: To train; every parameter that requires a gradient is.
        context: Data, held-out samples, seed and whom to tell.
        plan: How long and how hard.
        loss: Instead of the labels' cross entropy.
        hooks: Called around every step.
        data: To train on instead of ``context.data``.
        title: What the lines of progress begin with.

    Raises:
        CompressionError: The loss is no longer finite, or the plan names something unknown.
    """
    run = _Run(
        module=module,
        context=context,
        plan=plan,
        loss=loss or labels_loss(context.task.probabilities, plan),
        hooks=hooks or Hooks(),
        title=title,
        dice=torch.Generator().manual_seed(context.seed),
    )
    with single_thread():
        return run.over(data or context.data)


def labels_loss(probabilities: bool, plan: Plan) -> Loss:  # noqa: FBT001 - what the task's module answers with
    """Return the labels' cross entropy of a module that answers with probabilities or with logits."""

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        scores = logits(module(batch.x), probabilities=probabilities)
        return nn.functional.cross_entropy(scores, batch.y, label_smoothing=plan.label_smoothing)

    return loss


def logits(answers: Tensor, *, probabilities: bool) -> Tensor:
    """Return answers as logits; of probabilities the logarithm, whose softmax is the probabilities again."""
    return answers.clamp_min(TINY).log() if probabilities else answers


def accuracy(module: nn.Module, samples: Samples) -> float:
    """Return the share of samples that the module, in evaluation mode, answers as labelled (0..1)."""
    found = answers(module, samples.x).argmax(dim=1)
    return float((found == samples.y).double().mean())


def answers(module: nn.Module, x: Tensor) -> Tensor:
    """Return the answers of the module in evaluation mode, without gradients, ``[N, classes]``."""
    module.eval()
    with torch.no_grad(), single_thread():
        return torch.cat([module(part) for part in x.split(EVALUATION_BATCH)])


def score(module: nn.Module, context: TrainingContext) -> float:
    """Return what schedules and tolerances go by: the user's ``evaluate``, or the held-out accuracy without it."""
    found = context.task.evaluate(module)
    return accuracy(module, context.held_out) if found is None else found


def zeros_kept(module: nn.Module) -> Callable[[int], None]:
    """Return an ``after_step`` that keeps every weight at zero that is exactly zero now: pruned ones stay pruned."""
    masks = [(each, each.detach() != 0) for each in module.parameters() if each.ndim > 1]
    pruned = [(each, mask) for each, mask in masks if not bool(mask.all())]

    def keep(_step: int) -> None:
        with torch.no_grad():
            for each, mask in pruned:
                each.mul_(mask)

    return keep


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Let torch compute in one thread while the block runs: sums come in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_mode(module: nn.Module, *, freeze_batch_norm: bool) -> None:
    """Put the module in training mode; batch norms in evaluation mode if they are frozen."""
    module.train()
    if freeze_batch_norm:
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the only common base
                part.eval()


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of :func:`fit`."""

    module: nn.Module
    context: TrainingContext
    plan: Plan
    loss: Loss
    hooks: Hooks
    title: str
    dice: torch.Generator
    step: int = 0
    told: float = field(default_factory=time.monotonic)
    best: tuple[float, dict[str, Tensor]] | None = None

    def over(self, data: Samples) -> Progress:
        if len(data) < 2:
            raise CompressionError(f"{len(data)} samples are too few to train on")
        plan, total = self.plan, self.plan.steps_over(len(data))
        optimizer = _optimizer(plan, [*self.module.parameters(), *self.hooks.parameters])
        rates = _rates(plan, optimizer, total)
        mean = math.nan
        with _own_randomness(self.context.seed):
            while self.step < total:
                mean = self._epoch(data, optimizer, rates, total)
                if self._may_stop():
                    break
        return self._finish(mean)

    def _epoch(self, data: Samples, optimizer: Optimizer, rates: LRScheduler, total: int) -> float:
        train_mode(self.module, freeze_batch_norm=self.plan.freeze_batch_norm)
        losses: list[float] = []
        for indices in torch.randperm(len(data), generator=self.dice).split(self.plan.batch):
            if self.step == total:
                break
            if len(indices) < 2:  # a batch norm has no variance of one
                indices = torch.randperm(len(data), generator=self.dice)[:2]  # noqa: PLW2901 - replaced on purpose
            losses.append(self._one(self._batch(data, indices), optimizer))
            rates.step()
            self.step += 1
            self._tell(losses[-1], total)
        return sum(losses) / max(1, len(losses))

    def _batch(self, data: Samples, indices: Tensor) -> Batch:
        x, augment = data.x[indices], self.context.task.augment
        return Batch(
            x=x if augment is None else augment(x, self.dice), y=data.y[indices], indices=indices, step=self.step
        )

    def _one(self, batch: Batch, optimizer: Optimizer) -> float:
        if self.hooks.before_step:
            self.hooks.before_step(self.step)
        loss = self.loss(self.module, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CompressionError(
                f"{self.title}: the loss is {value} at step {self.step + 1}", hint="Train with a lower learning rate."
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], MAX_GRADIENT_NORM)
        optimizer.step()
        if self.hooks.after_step:
            self.hooks.after_step(self.step)
        return value

    def _may_stop(self) -> bool:
        if self.plan.stop_at > 1 and not self.plan.keep_best:
            return False
        found = accuracy(self.module, self.context.held_out)
        if self.plan.keep_best and (self.best is None or found >= self.best[0]):
            self.best = (found, {name: value.clone() for name, value in self.module.state_dict().items()})
        return found >= self.plan.stop_at

    def _finish(self, mean: float) -> Progress:
        if self.best is not None:
            self.module.load_state_dict(self.best[1])
        self.module.zero_grad(set_to_none=True)
        self.module.eval()
        return Progress(steps=self.step, loss=mean, accuracy=accuracy(self.module, self.context.held_out))

    def _tell(self, loss: float, total: int) -> None:
        now = time.monotonic()
        if now - self.told >= SECONDS_BETWEEN_LINES:
            self.told = now
            self.context.say(f"{self.title}: step {self.step} of {total}, loss {loss:.4f}")


def _optimizer(plan: Plan, parameters: Sequence[nn.Parameter]) -> Optimizer:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise CompressionError("the module has no parameter to train")
    groups = [{"params": [each], "lr": _rate(plan, each)} for each in trained]
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=plan.weight_decay)
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=plan.weight_decay)
    raise CompressionError(f"optimizer={plan.optimizer!r}: allowed are {', '.join(OPTIMIZERS)}")


def _rate(plan: Plan, parameter: nn.Parameter) -> float:
    if not plan.relative_rate:
        return plan.rate
    size = float(parameter.detach().square().mean().sqrt()) if parameter.ndim > 1 else VECTOR_SCALE
    return plan.rate * max(size, TINY)


def _rates(plan: Plan, optimizer: Optimizer, total: int) -> LRScheduler:
    schedulers = torch.optim.lr_scheduler
    if plan.rate_shape == "one_cycle":
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        # One more than the steps: the schedule refuses to be asked after its end.
        return schedulers.OneCycleLR(optimizer, peaks, total_steps=total + 1)
    if plan.rate_shape == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, T_max=total)
    if plan.rate_shape == "constant":
        return schedulers.ConstantLR(optimizer, factor=1.0)
    raise CompressionError(f"rate_shape={plan.rate_shape!r}: allowed are {', '.join(RATE_SHAPES)}")


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Let dropout and the like follow the seed, without touching the program's own random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
