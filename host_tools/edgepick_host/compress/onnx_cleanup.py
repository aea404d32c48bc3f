"""Clean-up of a float ONNX graph by ONNX Runtime's own basic rewrites, which keep to standard operators.

They fold constants, fuse batch norms and biases into convolutions, and drop identities, dropouts and dead branches
(ONNX Runtime documentation, "Graph Optimizations", level basic).
"""

import tempfile
from pathlib import Path

from edgepick_host.compress import onnx_file
from edgepick_host.compress.quiet import quiet
from edgepick_host.errors import CompressionError

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


def cleaned(data: bytes) -> bytes:
    """Return the model with a smaller graph of the same function.

    Raises:
        CompressionError: ONNX Runtime cannot do it, or leaves operators that only it has.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder, quiet():
        target = Path(folder) / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        try:
            onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class of their own
            first = str(error).strip().partition("\n")[0]
            raise CompressionError(f"ONNX Runtime cannot clean the graph up: {first}") from error
        model = onnx_file.read(target.read_bytes(), target)
    foreign = sorted({node.op_type for node in model.graph.node if node.domain not in STANDARD_DOMAINS})
    if foreign:
        raise CompressionError(f"the cleaned-up graph uses {', '.join(foreign)}, which only ONNX Runtime has")
    onnx_file.drop_unused(model.graph)
    used = {node.domain for node in model.graph.node}
    for entry in [each for each in model.opset_import if each.domain not in used | {""}]:
        model.opset_import.remove(entry)
    del model.metadata_props[:]
    return onnx_file.write(model)
