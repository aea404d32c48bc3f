"""Bias correction: what quantization adds to a layer's mean output is taken off its bias.

Empirical, layer by layer in order, so that each layer is corrected for what the corrected ones before it still do
(Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, arXiv 1906.04721,
appendix D). On the finished file: only integers of biases change.
"""

import numpy as np
import numpy.typing as npt

from edgepick_host.compress import tflite_file
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_integer_layers import integer_layers, read
from edgepick_host.compress.tflite_tensors import TensorRunner

Floats = npt.NDArray[np.float64]


def correct_biases(model: bytes, quantized: bytes, context: StepContext) -> bytes:
    """Return the quantized model with the mean error of every layer's output channels taken off its bias.

    Args:
        model: The float file's bytes.
        quantized: The same model, quantized.
        context: Calibration samples.
    """
    parsed = read(quantized)
    outputs = [layer.output for layer in integer_layers(parsed)]
    ideal = _means(model, outputs, context)
    for layer in integer_layers(parsed):
        if layer.output in ideal:
            found = _means(tflite_file.write(parsed), [layer.output], context)[layer.output]
            layer.set_real_bias(layer.bias * layer.bias_scales + ideal[layer.output] - found)
    return tflite_file.write(parsed)


def _means(model: bytes, names: list[str], context: StepContext) -> dict[str, Floats]:
    """Return the mean of every channel (last size) of these tensors over all samples; absent ones are left out."""
    runner = TensorRunner(model, names)
    sums: dict[str, Floats] = {}
    for sample in context.calibration.samples(context.source.inputs):
        for name, values in runner.run(sample).items():
            mean = values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
            sums[name] = sums.get(name, np.zeros_like(mean)) + mean
    return {name: total / len(context.calibration) for name, total in sums.items()}
