"""Quantization-aware training: grids as integer files have them, and ranges that arrive in the file."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.passes import train_qat
from edgepick_host.compress.source import describe
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.training.engine import export_trained, train
from edgepick_host.compress.training.export import export_module
from edgepick_host.compress.training.fake_quant import FakeActivation, FakeWeight, rounded
from edgepick_host.compress.training.graph import lower
from edgepick_host.compress.training.matching import match_ranges, same_values
from edgepick_host.compress.training.qat import FakeQuantized
from edgepick_host.compress.training.ranged import RangedModule
from edgepick_host.compress.training.samples import to_file_layout
from edgepick_host.core.variants import Step
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat


@pytest.fixture(scope="module")
def trained(task):
    from edgepick_host.compress.training.engine import training_context

    context = training_context(task, seed=1, say=lambda _: None)
    return train([Step(pass_name="train_qat", parameters={"epochs": "1"})], context, lambda _: train_qat.build())


def test_rounding_passes_gradients_on_unchanged():
    """The straight-through estimator's gradient is 1 everywhere."""
    x = torch.tensor([0.2, 1.7, -3.4], requires_grad=True)

    rounded(x).sum().backward()

    assert torch.equal(x.grad, torch.ones(3))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_a_quantizer_finds_the_trained_grid_again(bits, per_channel, learned):
    """The largest rounded weight is the grid's end, so that the widest symmetric grid over it is the trained one."""
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    fake = FakeWeight(weight, bits=bits, per_channel=per_channel, learned=learned)

    found = fake(weight).detach()
    limit = 2 ** (bits - 1) - 1
    largest = found.abs().amax(dim=(1, 2, 3), keepdim=True) if per_channel else found.abs().max()
    stored = torch.round(found / (largest / limit))

    assert int(stored.abs().max()) == limit
    assert torch.allclose(stored * (largest / limit), found, atol=1e-6)


def test_a_learned_scale_begins_where_the_squared_error_is_least():
    """With an outlier, 4 bits are better spent on the many small weights."""
    weight = torch.randn(1000, generator=torch.Generator().manual_seed(0))[:, None]
    weight[0] = 12.0

    learned, widest = (FakeWeight(weight, bits=4, per_channel=False, learned=way) for way in (True, False))

    first, plain = (float((fake(weight).detach() - weight).square().mean()) for fake in (learned, widest))
    assert first < 0.9 * plain


def test_scales_and_ranges_are_learned_only_if_they_are_to_be():
    """Gradients reach the factors of learned grids."""
    x = torch.randn(40) * 3
    for learned in (True, False):
        fake = FakeActivation(learned=learned)
        fake(x * 0.5)
        fake.observing = False
        fake.train()
        value = fake(x)
        if learned:
            value.square().sum().backward()
        assert (fake.factors.grad is not None) is learned


@given(low=st.floats(-50, 0), high=st.floats(0.01, 50))
def test_ranges_are_those_of_an_int8_grid_with_zero_on_it(low, high):
    """From the range, a quantizer computes the same scale and zero point."""
    fake = FakeActivation(learned=True)
    fake(torch.tensor([low, high]))
    fake.observing = False

    found_low, found_high = fake.range()
    scale = (found_high - found_low) / 255
    zero = -128 - found_low / scale

    assert zero == pytest.approx(round(zero), abs=1e-3)
    assert -128 <= round(zero) <= 127
    assert scale == pytest.approx((high - low) / 255, rel=1e-4)


def test_observed_ranges_follow_a_moving_average_while_training_only():
    """A single wide batch moves the range by a twentieth of the way."""
    fake = FakeActivation(learned=False)
    fake(torch.tensor([0.0, 1.0]))
    fake.observing = False

    fake.eval()(torch.tensor([0.0, 21.0]))
    kept = fake.range()[1]
    fake.train()(torch.tensor([0.0, 21.0]))

    assert kept == pytest.approx(1.0)
    assert fake.range()[1] == pytest.approx(2.0)


def test_points_are_what_kernels_write(task):
    """Input, convolutions after their own rectifier, sums after theirs, head; the pool stays on its input's grid."""
    fake = FakeQuantized(lower(task.module, task.probe), bits=8, per_channel=True, learned=True)

    assert sorted(fake.points) == sorted(["x", "relu", "conv2d_1", "relu_1", "conv2d_2", "relu_2", "linear"])
    assert len(fake.weights) == 4


@pytest.mark.parametrize("model_format", ModelFormat)
def test_every_learned_range_arrives_at_a_tensor_of_the_file(model_format, trained, context):
    """The file's tensors that hold a point's values get its range, whatever the exporter called them."""
    data, ranges = export_trained(trained, model_format, context)
    facts = describe(data, model_format, context.task.path)

    assert set(ranges) <= {tensor.name for tensor in facts.tensors}
    assert set(ranges.values()) == set(trained.ranges.values())
    assert ranges["input"] == trained.ranges["x"]


def test_the_integer_file_has_the_learned_scales(trained, context):
    """After static quantization the scale of an activation is the learned range over 255."""
    from edgepick_host.compress.passes import tflite_static_int8

    data, ranges = export_trained(trained, ModelFormat.TFLITE, context)
    x = to_file_layout(context.calibration, channels_last=True).numpy()
    step = StepContext(
        calibration=Dataset(source=context.task.path, arrays={"x": x}, labels=None),
        source=describe(data, ModelFormat.TFLITE, context.task.path),
        ranges=ranges,
    )

    scales = _scales(tflite_static_int8.build()(data, {}, step))

    shared = set(scales) & set(ranges)
    assert len(shared) == len(trained.ranges)
    for name in shared:
        low, high = ranges[name]
        assert scales[name] == pytest.approx((high - low) / 255, rel=1e-3), name


def _scales(data: bytes) -> dict[str, float]:
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=data).get_tensor_details()
    return {each["name"]: each["quantization"][0] for each in details if each["dtype"] is np.int8}


def test_the_module_that_was_given_stays_as_it_was(task, trained):
    """The pass works on a copy, and its float graph differs from the module by rounding and training only."""
    assert isinstance(trained, RangedModule)
    assert not isinstance(task.module, RangedModule)
    with torch.no_grad():
        agreement = (trained(task.samples.x).argmax(1) == task.module(task.samples.x).argmax(1)).float().mean()
    assert float(agreement) > 0.9


def test_a_module_without_learned_ranges_hands_over_none(task):
    """Nothing is matched where nothing was learned."""
    assert match_ranges(task.module, b"", ModelFormat.ONNX, task.probe, channels_last=True) == {}


def test_values_are_the_same_in_either_layout_and_flattened():
    """A transposed or flattened tensor is recognised, another one of the same size is not."""
    point = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)

    assert same_values(point, np.moveaxis(point, 1, -1))
    assert same_values(point, point.reshape(2, -1))
    assert not same_values(point, point[:, ::-1])
    assert not same_values(point, point[:, :2])


def test_a_module_without_layers_is_refused():
    """There is nothing to train for integers in a network without weights."""
    with pytest.raises(CompressionError, match="no convolution or linear layer"):
        FakeQuantized(lower(torch.nn.Flatten(), torch.randn(4, 1, 2, 2)), bits=8, per_channel=True, learned=True)


@pytest.mark.parametrize("parameters", [{"weight_bits": "5"}, {"ranges": "guessed"}, {"epochs": "none"}])
def test_parameters_outside_of_the_allowed_are_refused(parameters, context):
    """A misspelt parameter names what is allowed."""
    with pytest.raises(CompressionError, match="parameter"):
        train_qat.build()(context.task.module, parameters, context)


def test_pruned_weights_stay_pruned(context):
    """What is exactly zero before is zero after, so that pruning and integers compose."""
    pruned = copy.deepcopy(context.task.module)
    mask = torch.rand_like(pruned.blocks[0].conv.weight) > 0.5
    pruned.blocks[0].conv.weight.data.mul_(mask)

    trained = train_qat.build()(pruned, {"epochs": "1"}, context)

    after = trained.get_parameter("graph_module.blocks.0.conv.weight")
    assert bool((after[~mask] == 0).all())
    assert bool((after[mask] != 0).any())


def test_filters_of_one_channel_keep_eight_bits(task):
    """No integer kernel takes depthwise weights in four; the others are on the grid of four."""
    fake = FakeQuantized(lower(task.module, task.probe), bits=4, per_channel=False, learned=True)

    limits = {name: fake.rounding.get_submodule(grid).limit for name, grid in fake.weights.items()}

    assert limits["stem.weight"] == 127
    assert limits["head.weight"] == limits["blocks.0.conv.weight"] == 7


class Mobile(nn.Module):
    """What edge networks are made of: depthwise filters, clipped and smooth rectifiers, pools, branches, gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish())
        self.branch, self.gate = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.max_pool2d(self.depth(self.stem(x)) + 0.5, 2)
        x = torch.cat([x, nn.functional.silu(self.branch(x))], 1)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return torch.softmax(self.head(x.mean((2, 3))), dim=1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_ranges_find_their_tensors_in_networks_of_other_makes(channels_last):
    """Every activation that is written has its range, whatever the exporter made of the operators."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, x = Mobile().eval(), torch.randn(4, 3, 16, 16)
    fake = FakeQuantized(lower(module, x), bits=8, per_channel=True, learned=True)
    fake.observe(x)
    trained = fake.trained()

    data = export_module(trained, ModelFormat.ONNX, x, channels_last=channels_last)
    found = match_ranges(trained, data, ModelFormat.ONNX, x, channels_last=channels_last)

    assert set(found.values()) == set(trained.ranges.values())


def test_a_file_without_most_of_the_tensors_is_refused(trained, task):
    """Ranges are not dropped in silence where the file is another network's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        other = export_module(task.student(seed=9), ModelFormat.ONNX, task.probe, channels_last=True)

    with pytest.raises(CompressionError, match="no tensor for the learned ranges"):
        match_ranges(trained, other, ModelFormat.ONNX, task.probe, channels_last=True)
