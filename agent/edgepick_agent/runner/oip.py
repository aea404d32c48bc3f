"""Open Inference Protocol v2, JSON tensors: requests to model inputs, outputs to responses.

https://github.com/kserve/open-inference-protocol, required REST API. A quantized tensor is shown as
FP32 in the float model's scale, so that a client need not know which variant of a model serves it;
a request whose datatype is the stored one is taken as it is, and ``"parameters": {"raw": true}``
asks for stored outputs. The binary tensor extension is not spoken yet.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepick_agent.errors import InputError
from edgepick_agent.ports import Session, TensorSpec
from edgepick_agent.runner.tensors import to_real, to_tensor
from edgepick_wire.version import __version__

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

DATATYPES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign}INT{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
"""numpy name -> the protocol's name."""
NUMPY_NAMES = {name: dtype for dtype, name in DATATYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A request that fits the model.

    Attributes:
        id: The client's, given back.
        feeds: One stored tensor per input.
        outputs: Indexes of the outputs asked for, in the order asked.
        raw: Give outputs as stored, not dequantized.
    """

    id: str | None
    feeds: Mapping[str, "Array"]
    outputs: Sequence[int]
    raw: bool


def server_metadata() -> dict[str, Any]:
    """Return what ``GET /v2`` answers."""
    return {"name": "edgepick-agent", "version": __version__, "extensions": []}


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


def parse_request(body: bytes, session: Session) -> InferRequest:
    """Return the request in a JSON body.

    Raises:
        InputError: It is not JSON, not a request, or does not fit the model; the message says what
            was found and what the model takes.
    """
    document = _document(body)
    tensors = [_named(t, "inputs") for t in _list(document, "inputs")]
    specs = {spec.name: spec for spec in session.inputs}
    names = [t["name"] for t in tensors]
    if sorted(names) != sorted(specs):
        raise InputError(f"inputs: the model takes {sorted(specs)}, found {sorted(names)}")
    return InferRequest(
        id=str(document["id"]) if "id" in document else None,
        feeds={t["name"]: _feed(t, specs[t["name"]]) for t in tensors},
        outputs=_wanted(document, session),
        raw=_parameters(document).get("raw") is True,
    )


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
    if "binary_data_size" in _parameters(tensor):
        raise InputError(f"{where}: {tensor['name']}: binary tensors are not supported, send data as JSON")
    return tensor


def _parameters(document: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = document.get("parameters", {})
    return parameters if isinstance(parameters, dict) else {}


def _wanted(document: Mapping[str, Any], session: Session) -> Sequence[int]:
    names = [spec.name for spec in session.outputs]
    if "outputs" not in document:
        return range(len(names))
    wanted = [_named(t, "outputs")["name"] for t in _list(document, "outputs")]
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise InputError(f"outputs: the model has {names}, found {unknown}")
    return [names.index(name) for name in wanted]


def _feed(tensor: Mapping[str, Any], spec: TensorSpec) -> "Array":
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if not isinstance(datatype, str) or datatype not in NUMPY_NAMES:
        raise InputError(f"input {spec.name}: datatype {datatype!r} is not one of {sorted(NUMPY_NAMES)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise InputError(f"input {spec.name}: shape {shape!r} is not a list of sizes")
    given = _array(tensor.get("data"), spec.name, shape, np.dtype(NUMPY_NAMES[datatype]))
    return given if NUMPY_NAMES[datatype] == spec.dtype else to_tensor(given, spec)


def _array(data: Any, name: str, shape: list[int], dtype: "np.dtype[Any]") -> "Array":
    if not isinstance(data, list):
        raise InputError(f"input {name}: data is not a list")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise InputError(f"input {name}: data is a ragged list: {error}") from error
    if array.size != np.prod(shape, dtype=object):
        raise InputError(f"input {name}: shape {shape} wants {np.prod(shape, dtype=object)} values, found {array.size}")
    return _cast(array, name, dtype).reshape(shape)


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


def response(
    request: InferRequest, outputs: Sequence["Array"], session: Session, model: str, version: str
) -> dict[str, Any]:
    """Return the answer as JSON-ready data.

    Raises:
        ValueError: An output is not finite, which JSON cannot carry.
    """
    tensors = [_output(outputs[i], session.outputs[i], raw=request.raw) for i in request.outputs]
    named = {"model_name": model, **({"model_version": version} if version else {})}
    return {**named, **({"id": request.id} if request.id is not None else {}), "outputs": tensors}


def _output(tensor: "Array", spec: TensorSpec, *, raw: bool) -> dict[str, Any]:
    shown = to_real(tensor, spec) if spec.scale and not raw else tensor
    if shown.dtype.kind == "f" and not np.all(np.isfinite(shown)):
        raise ValueError(f"output {spec.name} holds NaN or infinity")
    return {
        "name": spec.name,
        "datatype": DATATYPES.get(shown.dtype.name, "BYTES"),
        "shape": list(shown.shape),
        "data": shown.reshape(-1).tolist(),
    }
