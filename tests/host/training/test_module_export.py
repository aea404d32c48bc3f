"""From module to file: the same answers, the same bytes, tidy names, and clear words where it does not work."""

import copy

import pytest
import torch
from torch import nn

from edgepick_host.compress.predictor import open_predictor
from edgepick_host.compress.source import describe
from edgepick_host.compress.training.engine import float_models
from edgepick_host.compress.training.export import export_module
from edgepick_host.compress.training.graph import fold_batch_norms, lower
from edgepick_host.compress.training.samples import to_file_layout
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat


@pytest.fixture(scope="module")
def files(task):
    return float_models(task)


@pytest.mark.parametrize("model_format", ModelFormat)
def test_the_file_answers_as_the_module(model_format, files, task):
    """One sample at a time in the file's layout gives the module's answers."""
    predictor = open_predictor(files[model_format], model_format)
    x = to_file_layout(task.probe, channels_last=True).numpy()

    with torch.no_grad():
        expected = task.module(task.probe)
    found = torch.stack([torch.from_numpy(predictor.run([x[i : i + 1]])) for i in range(len(x))])

    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("model_format", ModelFormat)
def test_the_file_takes_the_data_files_layout_and_has_no_batch_norm(model_format, files, tmp_path):
    """The input is [1, 8, 8, 1] named "input", and batch norms are part of convolutions."""
    facts = describe(files[model_format], model_format, tmp_path)

    assert (facts.inputs[0].name, facts.inputs[0].shape) == ("input", (1, 8, 8, 1))
    assert facts.outputs[0].name == "output"
    assert not {"BatchNormalization", "MUL", "Mul", "RSQRT", "Dropout"} & facts.operator_names


def test_tflite_tensors_are_named_after_their_operators(files, tmp_path):
    """No module path of the exporter is left, and no name occurs twice."""
    names = [tensor.name for tensor in describe(files[ModelFormat.TFLITE], ModelFormat.TFLITE, tmp_path).tensors]

    assert len(names) == len(set(names))
    assert not [name for name in names if ";" in name or "/" in name]


def test_the_same_weights_give_the_same_bytes(files, task):
    """ONNX files carry nothing of the exporter that differs between runs."""
    again = export_module(task.module, ModelFormat.ONNX, task.probe, channels_last=True)

    assert again == files[ModelFormat.ONNX]


def test_exporting_prints_nothing(task, capfd):
    """Neither stream sees the exporters' chatter."""
    export_module(task.module, ModelFormat.ONNX, task.probe, channels_last=True)

    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_lowering_leaves_the_module_as_it_was(task):
    """Folding happens in a copy."""
    before = copy.deepcopy(task.module.state_dict())

    graph = lower(task.module, task.probe)

    assert fold_batch_norms(graph) == 0
    assert all(torch.equal(before[name], value) for name, value in task.module.state_dict().items())


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        return self.head(x.flatten(1)) if x.sum() > 0 else -self.head(x.flatten(1))


def test_a_module_that_branches_on_values_is_refused_in_words(task):
    """What torch.export does not take is said with what to write instead."""
    with pytest.raises(CompressionError, match=r"torch\.export does not take the module") as caught:
        export_module(Branching(), ModelFormat.ONNX, task.probe, channels_last=True)

    assert "branch" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_convolutions_own_bias_is_folded_with_its_batch_norm():
    """Bias, mean and shift all end in one bias."""
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()).eval()
    net[1].running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    net[1].running_var.copy_(torch.tensor([0.2, 3.0, 1.0]))
    x = torch.randn(4, 2, 5, 5)

    graph = lower(net, x)

    assert not [node for node in graph.graph.nodes if "batch_norm" in str(node.target)]
    assert torch.allclose(graph(x), net(x), atol=1e-5)
