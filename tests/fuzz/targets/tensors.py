"""What a client asks of a model: a JSON header and binary tensors, the first byte saying how long the header is."""

import json
from typing import Any

import numpy as np

from edgepick_agent.errors import InputError
from edgepick_agent.ports import TensorSpec
from edgepick_agent.runner.oip import DATATYPES, parse_request, response

INPUTS = (
    TensorSpec(name="image", shape=(1, 8), dtype="int8", scale=0.5, zero_point=3),
    TensorSpec(name="gain", shape=(-1, 2), dtype="float32"),
)
OUTPUTS = (TensorSpec(name="scores", shape=(1, 4), dtype="uint8", scale=0.25),)
STORED = {spec.name: np.dtype(spec.dtype) for spec in INPUTS}


class Model:
    """A loaded model of two inputs that answers nothing in particular."""

    inputs = INPUTS
    outputs = OUTPUTS


def _seed(*, binary: bool, **more: object) -> bytes:
    feeds: dict[str, Any] = {"image": np.arange(8, dtype=np.int8).reshape(1, 8), "gain": np.ones((2, 2), np.float32)}
    header = json.dumps({"inputs": [_tensor(name, feed, binary) for name, feed in feeds.items()], **more}).encode()
    header += b" " * (len(header) % 2)
    return bytes([len(header) // 2]) + header + b"".join(f.tobytes() for f in feeds.values()) * binary


def _tensor(name: str, feed: Any, binary: object) -> dict[str, object]:
    values = {"parameters": {"binary_data_size": feed.nbytes}} if binary else {"data": feed.ravel().tolist()}
    return {"name": name, "shape": feed.shape, "datatype": DATATYPES[feed.dtype.name], **values}


SEEDS = [
    b'\0{"inputs": [{"name": "image", "shape": [1, 0, 9999999999999999999], "datatype": "INT8", "data": []}]}',
    _seed(binary=False, id="7", parameters={"raw": True, "timeout": 10}),
    _seed(binary=True, outputs=[{"name": "scores", "parameters": {"binary_data": True}}]),
    _seed(binary=True, parameters={"binary_data_output": True}).replace(b"FP32", b"FP64"),
]


def one(data: bytes) -> None:
    """Parse: refused in words, or the feeds have the model's types and bounded sizes, and an answer follows."""
    length = 2 * data[0] if data and data[0] else None
    try:
        asked = parse_request(data[1:], Model(), length)  # type: ignore[arg-type]
    except InputError:
        return
    assert asked.feeds.keys() == STORED.keys()
    for name, feed in asked.feeds.items():
        assert feed.dtype == STORED[name]
        assert feed.nbytes <= 16 * len(data), "more memory than was sent; whether the shape fits, the model says"
    answer = response(asked, [np.zeros((1, 4), np.uint8)], Model(), "m", "1")  # type: ignore[arg-type]
    json.dumps(answer.document)
