"""Open Inference Protocol v2: requests to model inputs, outputs to responses, as JSON or as binary tensors.

https://github.com/kserve/open-inference-protocol, required REST API and binary tensor data extension
(``binary_data.md``): tensors with a ``binary_data_size`` follow the JSON header one after the other, row-major and
little-endian. A quantized tensor is shown as FP32 in the float model's scale, so that a client need not know which
variant of a model serves it; a request whose datatype is the stored one is taken as it is, and
``"parameters": {"raw": true}`` asks for stored outputs.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgepick_agent.core.open_inference import SERVER_NAME, TYPES
from edgepick_agent.errors import InputError
from edgepick_agent.ports import Session, TensorSpec
from edgepick_agent.runner.tensors import to_real, to_tensor
from edgepick_wire.version import __version__

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

_LITTLE_ENDIAN = {name: np.dtype(code) for name, code in TYPES.items()}
"""The protocol's name -> the type as it travels."""
NUMPY_NAMES = {name: dtype.name for name, dtype in _LITTLE_ENDIAN.items()}
DATATYPES = {dtype: name for name, dtype in NUMPY_NAMES.items()}
"""numpy name -> the protocol's name."""
_DATATYPE_OF = {np.dtype(dtype): name for dtype, name in DATATYPES.items()}
"""The same by numpy's type: to ask one for its name takes longer than to run a small model."""
BINARY_EXTENSION = "binary_tensor_data"
MOST_DIMENSIONS, MOST_NUMBER = 64, 2**63 - 1
"""Of a shape, which is numpy's bound, and of a whole number: a longer one can be neither computed with nor shown."""


class Wanted(NamedTuple):
    """An output asked for: its position, and whether as binary."""

    position: int
    binary: bool


class Answer(NamedTuple):
    """A response: the JSON document, and the binary tensors that follow it."""

    document: dict[str, Any]
    tensors: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A request that fits the model.

    Attributes:
        id: The client's, given back.
        feeds: One stored tensor per input.
        outputs: The outputs asked for, in the order asked.
        raw: Give outputs as stored, not dequantized.
        patience_seconds: How long the client lets the request wait for its turn.
    """

    id: str | None
    feeds: Mapping[str, "Array"]
    outputs: Sequence[Wanted]
    raw: bool
    patience_seconds: float = math.inf


def server_metadata() -> dict[str, Any]:
    """Return what ``GET /v2`` answers."""
    return {"name": SERVER_NAME, "version": __version__, "extensions": [BINARY_EXTENSION]}


def model_metadata(session: Session, model: str, version: str, platform: str) -> dict[str, Any]:
    """Return what ``GET /v2/models/{model}`` answers."""
    return {
        "name": model,
        "versions": [version] if version else [],
        "platform": platform,
        "inputs": [_tensor_metadata(spec) for spec in session.inputs],
        "outputs": [_tensor_metadata(spec) for spec in session.outputs],
    }


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    plain = {"name": spec.name, "shape": list(spec.shape)}
    stored = DATATYPES.get(spec.dtype, "BYTES")
    if not spec.scale:
        return {**plain, "datatype": stored}
    parameters = {"stored_datatype": stored, "scale": spec.scale, "zero_point": spec.zero_point}
    return {**plain, "datatype": "FP32", "parameters": parameters}


def parse_request(body: "bytes | memoryview", session: Session, header_bytes: int | None = None) -> InferRequest:
    """Return the request in a body.

    Args:
        body: JSON, and behind it the binary tensors, if there are any.
        session: The model that is asked.
        header_bytes: Length of the JSON part; ``None`` if it is all there is.

    Raises:
        InputError: It is not JSON, not a request, or does not fit the model; the message says what
            was found and what the model takes.
    """
    data = memoryview(body)
    if header_bytes is not None and header_bytes > len(data):
        raise InputError(f"the JSON header is said to have {header_bytes} bytes, the body has {len(data)}")
    header, rest = (data, data[len(data) :]) if header_bytes is None else (data[:header_bytes], data[header_bytes:])
    document = _document(bytes(header))
    tensors = [_named(t, "inputs") for t in _list(document, "inputs")]
    specs = {spec.name: spec for spec in session.inputs}
    names = [t["name"] for t in tensors]
    if sorted(names) != sorted(specs):
        raise InputError(f"inputs: the model takes {sorted(specs)}, found {sorted(names)}")
    parts = _binary_parts(tensors, rest)
    return InferRequest(
        id=str(document["id"]) if "id" in document else None,
        feeds={t["name"]: _feed(t, specs[t["name"]], parts.get(t["name"])) for t in tensors},
        outputs=_wanted(document, session),
        raw=_parameters(document).get("raw") is True,
        patience_seconds=_patience(_parameters(document).get("timeout")),
    )


def _patience(microseconds: Any) -> float:
    """Return the parameter ``timeout`` in seconds; it is in microseconds, and 0 means none (Triton's extension)."""
    if microseconds is None or microseconds == 0:
        return math.inf
    if not _is_size(microseconds):
        raise InputError(f"parameter timeout: {microseconds!r} is not a number of microseconds")
    return float(microseconds) / 1e6


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number <= MOST_NUMBER


def _binary_parts(tensors: Sequence[Mapping[str, Any]], data: memoryview) -> dict[str, memoryview]:
    """Return each binary tensor's bytes; they follow one another in the order of the inputs."""
    parts: dict[str, memoryview] = {}
    at = 0
    for tensor in tensors:
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(data) - at:
            raise InputError(f"input {tensor['name']}: binary_data_size {size!r}; {len(data) - at} bytes are left")
        parts[tensor["name"]] = data[at : at + size]
        at += size
    if at != len(data):
        raise InputError(f"{len(data) - at} bytes follow the last binary tensor; no input has claimed them")
    return parts


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError("the body is not a JSON object")
    return document


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list) or not value:
        raise InputError(f"{key}: expected a list with at least one tensor")
    return value


def _named(tensor: Any, where: str) -> dict[str, Any]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise InputError(f"{where}: every tensor is an object with a name")
    return tensor


def _parameters(document: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = document.get("parameters", {})
    return parameters if isinstance(parameters, dict) else {}


def _wanted(document: Mapping[str, Any], session: Session) -> Sequence[Wanted]:
    names = [spec.name for spec in session.outputs]
    binary = _parameters(document).get("binary_data_output") is True
    if "outputs" not in document:
        return [Wanted(index, binary) for index in range(len(names))]
    wanted = [_named(t, "outputs") for t in _list(document, "outputs")]
    asked = sorted(t["name"] for t in wanted)
    if len(set(asked)) < len(asked) or not set(asked) <= set(names):
        raise InputError(f"outputs: the model has {names}, and gives each once; found {str(asked)[:200]}")
    if any("classification" in _parameters(t) for t in wanted):
        raise InputError("outputs: the classification extension is not spoken; ask for the output itself")
    return [Wanted(names.index(t["name"]), _parameters(t).get("binary_data", binary) is True) for t in wanted]


def _feed(tensor: Mapping[str, Any], spec: TensorSpec, binary: memoryview | None) -> "Array":
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if not isinstance(datatype, str) or datatype not in NUMPY_NAMES:
        raise InputError(f"input {spec.name}: datatype {datatype!r} is not one of {sorted(NUMPY_NAMES)}")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(map(_is_size, shape)):
        found = str(shape)[:100]
        raise InputError(f"input {spec.name}: shape {found} is not a list of at most {MOST_DIMENSIONS} sizes")
    if binary is None:
        given = _array(tensor.get("data"), spec.name, shape, np.dtype(NUMPY_NAMES[datatype]))
    else:
        given = _from_binary(binary, spec.name, shape, datatype)
    return given if NUMPY_NAMES[datatype] == spec.dtype else to_tensor(given, spec)


def _from_binary(data: memoryview, name: str, shape: list[int], datatype: str) -> "Array":
    dtype = _LITTLE_ENDIAN[datatype]
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise InputError(f"input {name}: shape {shape} of {datatype} wants {wanted} bytes, found {len(data)}")
    array = _shaped(np.frombuffer(data, dtype), name, shape)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"input {name}: holds NaN or infinity")
    return array.astype(NUMPY_NAMES[datatype], copy=False)


def _array(data: Any, name: str, shape: list[int], dtype: "np.dtype[Any]") -> "Array":
    if not isinstance(data, list):
        raise InputError(f"input {name}: data is not a list")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise InputError(f"input {name}: data is a ragged list: {error}") from error
    if array.size != math.prod(shape):
        raise InputError(f"input {name}: shape {shape} wants {math.prod(shape)} values, found {array.size}")
    return _shaped(_cast(array, name, dtype), name, shape)


def _shaped(array: "Array", name: str, shape: list[int]) -> "Array":
    try:
        return array.reshape(shape)
    except ValueError as error:  # more dimensions than an array may have, or one too large beside an empty one
        raise InputError(f"input {name}: shape {str(shape)[:100]}: {error}") from error


def _cast(array: "Array", name: str, dtype: "np.dtype[Any]") -> "Array":
    if array.dtype.kind not in "biuf":
        raise InputError(f"input {name}: data holds something that is not a number")
    if not _holds(dtype, array):
        raise InputError(f"input {name}: data does not fit {DATATYPES[dtype.name]}")
    return array.astype(dtype)


def _holds(dtype: "np.dtype[Any]", array: "Array") -> bool:
    """Return whether every value fits a type: whole and in range, or finite in it."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return bool(np.all(np.isfinite(array.astype(dtype))))
    if dtype.kind == "b" or not array.size:
        return array.dtype.kind == dtype.kind or not array.size
    limits = np.iinfo(dtype.name)
    return bool(array.dtype.kind != "f" and array.min() >= limits.min and array.max() <= limits.max)


def response(request: InferRequest, outputs: Sequence["Array"], session: Session, model: str, version: str) -> Answer:
    """Return the answer.

    Raises:
        ValueError: An output is not finite: no answer is better than one that looks like one.
    """
    tensors: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for position, binary in request.outputs:
        shown = _shown(outputs[position], session.outputs[position], raw=request.raw)
        datatype = _DATATYPE_OF.get(shown.dtype, "BYTES")
        plain = {"name": session.outputs[position].name, "datatype": datatype, "shape": list(shown.shape)}
        if binary:
            parts.append(_as_bytes(shown, datatype))
            tensors.append({**plain, "parameters": {"binary_data_size": len(parts[-1])}})
        else:
            tensors.append({**plain, "data": shown.reshape(-1).tolist()})
    named = {"model_name": model, **({"model_version": version} if version else {})}
    return Answer({**named, **({"id": request.id} if request.id is not None else {}), "outputs": tensors}, parts)


def _as_bytes(tensor: "Array", datatype: str) -> bytes:
    if datatype in _LITTLE_ENDIAN:
        return tensor.astype(_LITTLE_ENDIAN[datatype], copy=False).tobytes()
    # Of BYTES each element has its length before it.
    texts = [text if isinstance(text, bytes) else str(text).encode() for text in tensor.reshape(-1).tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _shown(tensor: "Array", spec: TensorSpec, *, raw: bool) -> "Array":
    shown = to_real(tensor, spec) if spec.scale and not raw else tensor
    if shown.dtype.kind == "f" and not np.all(np.isfinite(shown)):
        raise ValueError(f"output {spec.name} holds NaN or infinity")
    return shown
