"""Masks: which weights go, and that they stay gone."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepick_host.compress.passes import train_prune
from edgepick_host.compress.training import masks as masked
from edgepick_host.compress.training import prune
from edgepick_host.compress.training.export import export_module
from edgepick_host.compress.training.recovery import recovery_loss
from edgepick_host.compress.training.schedules import PolynomialDecay
from edgepick_host.compress.training.trainer import Hooks, Plan, fit
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

PRUNED = ("first", "second", "hidden")


@pytest.fixture
def job(cut_context):
    """Give a function that returns what procedures are given, with a training of a few steps."""

    def make(steps: int = 9, pattern: str = "unstructured", context=cut_context) -> prune.Job:
        return prune.Job(
            context=context,
            plan=Plan(steps=steps, batch=16, rate=0.02, relative_rate=True, optimizer="sgd", weight_decay=0.01),
            pattern=pattern,
            loss=recovery_loss(copy.deepcopy(context.task.module), context),
            shares={},
        )

    return make


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=60), st.floats(0, 0.99))
def test_the_smallest_magnitudes_go(values, share):
    """Exactly floor(share * size) weights go, and none that is larger than one that stays."""
    weight = torch.tensor(values)

    mask = masked.magnitude_mask(weight, share)

    assert int((~mask).sum()) == int(share * len(values) + 1e-9)
    assert not (~mask).any() or weight[~mask].abs().max() <= weight[mask].abs().min()


@pytest.mark.parametrize("shape", [(5, 8), (3, 8, 3, 3), (4, 10), (2, 3, 1, 1)])
def test_two_of_every_four_inputs_stay(shape):
    """The pattern holds in every group along the input channels; inputs left over stay."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    mask = masked.two_of_four_mask(weight)

    whole = shape[1] // 4 * 4
    groups = mask.movedim(1, -1)[..., :whole].reshape(-1, 4)
    assert mask.shape == weight.shape
    assert (groups.sum(dim=1) == 2).all()
    assert mask[:, whole:].all()


def test_first_last_small_and_depthwise_layers_stay_dense():
    """Only inner layers that are worth it are pruned."""
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.Conv2d(32, 32, 3, groups=32),
        nn.Conv2d(32, 8, 1),
        nn.Conv2d(32, 16, 1),
        nn.Linear(64, 9),
    )

    assert list(masked.prunable(net)) == ["2", "3"]
    with pytest.raises(CompressionError, match="no layer to prune"):
        masked.prunable(nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40)))


def test_zeros_survive_momentum_and_weight_decay(cut_context, job):
    """After every optimizer step, masked weights are exactly zero, although momentum moves them."""
    module = copy.deepcopy(cut_context.task.module)
    masks = masked.dense_masks(module)
    plan, moved, kept = job().plan, [], []

    def after_step(step: int) -> None:
        if step == 3:
            masks.prune(0.5)
        zeros = ~masks.masks["first"]
        moved.append(bool((module.first.weight[zeros] != 0).any()))
        masks.hold()
        kept.append(bool((module.first.weight[zeros] == 0).all()))

    fit(module, cut_context, plan, hooks=Hooks(after_step=after_step))

    assert any(moved[4:])
    assert all(kept)


def test_sparsity_follows_the_schedule(cut_context, job):
    """The share of zeros at the end is the final one in every pruned layer, and nowhere else."""
    module = copy.deepcopy(cut_context.task.module)
    schedule = PolynomialDecay(initial=0.25, final=0.75, begin=2, end=8, frequency=2)

    prune.polynomial(module, schedule, job())

    for name, layer in masked.layers(module).items():
        zeros = float((layer.weight == 0).float().mean())
        assert zeros == pytest.approx(0.75 if name in PRUNED else 0.0, abs=0.01)


def test_pruning_leaves_the_given_module_and_repeats_itself(cut_context):
    """The pass works on a copy, and the same seed gives the same weights."""
    before = copy.deepcopy(cut_context.task.module.state_dict())
    arguments = {"epochs": "1", "final": "0.6"}

    first, second = (train_prune.build()(cut_context.task.module, arguments, cut_context) for _ in range(2))

    assert all(torch.equal(a, before[name]) for name, a in cut_context.task.module.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_two_of_four_holds_in_the_trained_module(cut_context):
    """Training does not break the pattern."""
    found = train_prune.build()(
        cut_context.task.module, {"epochs": "1", "pattern": "2:4", "schedule": "one_shot"}, cut_context
    )

    for name in PRUNED:
        groups = (found.get_submodule(name).weight != 0).movedim(1, -1).reshape(-1, 4)
        assert (groups.sum(dim=1) <= 2).all()


def test_iterative_pruning_keeps_the_sparsest_that_holds(cut_context, job, tolerating, monkeypatch):
    """Rounds go on until one loses too much; the one before it is returned."""
    scores = iter([1.0, 0.99, 0.98, 0.5])
    monkeypatch.setattr(prune, "score", lambda _module, _context: next(scores))

    found = prune.iterative(copy.deepcopy(cut_context.task.module), 0.936, 4, job(2, context=tolerating(0.05)))

    assert float((found.first.weight == 0).float().mean()) == pytest.approx(1 - (1 - 0.936) ** 0.5, abs=0.01)


def test_iterative_pruning_that_never_holds_says_so(cut_context, job, tolerating, monkeypatch):
    """Where the first round already loses too much, there is an error with the share."""
    scores = iter([1.0, 0.2])
    monkeypatch.setattr(prune, "score", lambda _module, _context: next(scores))

    with pytest.raises(CompressionError, match="already loses"):
        prune.iterative(copy.deepcopy(cut_context.task.module), 0.9, 3, job(2, context=tolerating(0.0)))


def test_rewinding_restores_the_early_weights_exactly(cut_context, job):
    """What is not masked has its early value, bit for bit; what is masked is zero."""
    module = copy.deepcopy(cut_context.task.module)
    early = prune.early_weights(module, job(40))
    masks = masked.dense_masks(module)
    fit(module, cut_context, job().plan)
    masks.prune(0.5)

    prune.rewind(module, early, masks)

    for name, value in module.state_dict().items():
        layer = name.removesuffix(".weight")
        expected = early[name] * masks.masks[layer] if layer in masks.masks else early[name]
        assert torch.equal(value, expected)


def test_a_lottery_ticket_is_as_sparse_as_asked(cut_context, job):
    """The whole procedure ends with the final sparsity, trained."""
    module = copy.deepcopy(cut_context.task.module)

    masks = prune.lottery(module, 0.7, 2, job(4))

    assert masks.share() == pytest.approx(0.7, abs=0.01)


def test_sensitivity_prunes_one_layer_at_a_time(cut_context):
    """The table has every prunable layer, starts at the dense accuracy, and leaves the module alone."""
    module = copy.deepcopy(cut_context.task.module)

    table = prune.sensitivity(module, cut_context, (0.5, 0.95))

    assert tuple(table) == PRUNED
    assert len({row[0.0] for row in table.values()}) == 1
    assert all(list(row) == [0.0, 0.5, 0.95] for row in table.values())
    for a, b in zip(module.parameters(), cut_context.task.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_layers_that_hurt_less_give_more():
    """Shares by layer reach the share asked for, and spare the sensitive layer."""
    table = {"a": {0.0: 1.0, 0.5: 0.7, 0.9: 0.2}, "b": {0.0: 1.0, 0.5: 1.0, 0.9: 0.99}}

    shares = masked.allot(table, {"a": 100, "b": 300}, 0.6)

    assert shares["a"] < shares["b"]
    assert (shares["a"] * 100 + shares["b"] * 300) / 400 == pytest.approx(0.6)
    with pytest.raises(CompressionError, match="sensitivity table"):
        masked.allot(table, {"a": 100, "b": 300}, 0.95)


@pytest.mark.parametrize("model_format", list(ModelFormat)[:2])
def test_zeros_are_exact_in_the_exported_file(cut_context, job, model_format):
    """The file of a sparse module compresses to much less than the dense one's."""
    import zlib

    dense = cut_context.task.module
    module = copy.deepcopy(dense)
    prune.one_shot(module, 0.9, job(2))

    sizes = [
        len(zlib.compress(export_module(each, model_format, cut_context.task.probe, channels_last=False), 9))
        for each in (dense, module)
    ]

    assert sizes[1] < 0.6 * sizes[0]
