"""The trainer: reproducible, stops when told, and lets techniques look in."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepick_host.compress.training.samples import Samples, split, to_file_layout, to_module_layout
from edgepick_host.compress.training.trainer import Hooks, Plan, accuracy, fit, logits
from edgepick_host.errors import CompressionError


def test_the_same_seed_gives_the_same_weights(context, few_steps):
    """Two runs agree bit for bit, dropout and order of samples included."""
    first, second = (copy.deepcopy(context.task.module) for _ in range(2))

    fit(first, context, few_steps)
    torch.rand(3)
    fit(second, context, few_steps)

    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_training_raises_the_held_out_accuracy(context):
    """A new network learns the tiny task."""
    student = context.task.student(seed=1)
    before = accuracy(student, context.held_out)

    progress = fit(student, context, Plan(epochs=12, rate=1e-2))

    assert progress.accuracy > max(before, 0.8)


def test_training_ends_with_the_first_epoch_that_reaches_the_tolerance(context):
    """stop_at ends the training early."""
    module = copy.deepcopy(context.task.module)

    progress = fit(module, context, Plan(epochs=50, batch=16, stop_at=0.0))

    assert progress.steps == Plan(batch=16).steps_of_epoch(len(context.data))


def test_keep_best_returns_weights_of_an_epoch_that_was_not_the_last(context):
    """Weights that a later, wild epoch spoils are restored."""
    module = copy.deepcopy(context.task.module)
    last = Plan(batch=16).steps_of_epoch(len(context.data)) * 2 - 1

    def spoil(step: int) -> None:
        if step == last:
            module.head.weight.data.zero_()
            module.head.bias.data.copy_(torch.tensor([9.0, 0, 0, 0]))

    plan = Plan(epochs=2, batch=16, rate=1e-4, keep_best=True)
    progress = fit(module, context, plan, hooks=Hooks(after_step=spoil))

    assert progress.accuracy > 0.5


def test_masks_hold_through_every_step(context, few_steps):
    """after_step sees every step, so that pruned weights stay at zero."""
    module = copy.deepcopy(context.task.module)
    mask = torch.rand_like(module.stem.weight) > 0.5
    steps: list[int] = []

    def keep(step: int) -> None:
        steps.append(step)
        module.stem.weight.data.mul_(mask)

    fit(module, context, few_steps, hooks=Hooks(after_step=keep))

    assert steps == list(range(6))
    assert bool((module.stem.weight[~mask] == 0).all())


def test_frozen_batch_norms_keep_their_statistics(context, few_steps):
    """freeze_batch_norm leaves means and variances as they are."""
    module = copy.deepcopy(context.task.module)
    before = module.blocks[0].norm.running_mean.clone()

    fit(module, context, Plan(steps=3, freeze_batch_norm=True))
    frozen = module.blocks[0].norm.running_mean.clone()
    fit(module, context, few_steps)

    assert torch.equal(frozen, before)
    assert not torch.equal(module.blocks[0].norm.running_mean, before)


def test_a_loss_that_is_not_finite_ends_with_a_clear_error(context, few_steps):
    """Divergence is said, with the step and what to do."""
    with pytest.raises(CompressionError, match="loss is nan at step 1") as caught:
        fit(copy.deepcopy(context.task.module), context, few_steps, loss=lambda m, b: m(b.x).sum() * float("nan"))

    assert "lower learning rate" in caught.value.hint


@pytest.mark.parametrize("change", [{"optimizer": "lion"}, {"rate_shape": "square"}])
def test_unknown_settings_are_refused_with_what_is_allowed(change, context):
    """A misspelt plan is an error, not a default."""
    with pytest.raises(CompressionError, match="allowed are"):
        fit(copy.deepcopy(context.task.module), context, Plan(steps=1, **change))


@pytest.mark.parametrize("shape", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_rate_shape_takes_exactly_the_planned_steps(shape, optimizer, context):
    """The plan's steps are steps, for every schedule."""
    plan = Plan(steps=4, rate=1e-3, rate_shape=shape, optimizer=optimizer)

    assert fit(copy.deepcopy(context.task.module), context, plan).steps == 4


def test_probabilities_become_logits_that_give_them_back():
    """The logarithm of probabilities has them as its softmax."""
    given_ = torch.softmax(torch.randn(5, 3), dim=1)

    assert torch.allclose(torch.softmax(logits(given_, probabilities=True), dim=1), given_, atol=1e-6)


@given(labels=st.lists(st.integers(0, 3), min_size=4, max_size=60), share=st.floats(0.05, 0.5), seed=st.integers(0, 9))
def test_the_cut_loses_no_sample_and_holds_out_some_of_every_class(labels, share, seed):
    """Data and held-out samples are disjoint, complete, and every class of two stays on both sides."""
    x = torch.arange(len(labels), dtype=torch.float32)[:, None]
    data, held_out = split(Samples(x=x, y=torch.tensor(labels)), held_out=share, seed=seed)

    together = torch.cat([data.x, held_out.x]).flatten().sort().values
    assert torch.equal(together, x.flatten())
    for label in set(labels):
        assert int((data.y == label).sum()) >= 1
        assert int((held_out.y == label).sum()) >= (1 if labels.count(label) > 1 else 0)


def test_layouts_are_each_others_inverse():
    """A batch comes back from the file's layout as it was."""
    x = torch.randn(2, 3, 4, 5)

    assert torch.equal(to_module_layout(to_file_layout(x, channels_last=True), channels_last=True), x)
    assert to_file_layout(x, channels_last=True).shape == (2, 4, 5, 3)


def test_relative_rates_move_each_weight_by_its_own_size(context):
    """A layer a thousand times smaller takes a step a thousand times smaller."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64, bias=False), nn.Linear(64, 4, bias=False))
    net[1].weight.data.mul_(1e-3)
    before = [layer.weight.detach().clone() for layer in (net[1], net[2])]

    fit(net, context, Plan(steps=1, rate=0.1, rate_shape="constant", relative_rate=True, weight_decay=0.0))

    moved = [float((layer.weight.detach() - old).abs().max() / old.square().mean().sqrt())
             for layer, old in zip((net[1], net[2]), before, strict=True)]  # fmt: skip
    assert moved == pytest.approx([0.1, 0.1], rel=0.05)
