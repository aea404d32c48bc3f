"""Asking the active model from a program on the device.

    from edgepick_agent.client import Client

    with Client("digits") as model:
        probabilities = model.infer(image)          # numpy in, numpy out, whatever variant is active

It speaks the Open Inference Protocol's binary tensors over the model's Unix socket, and needs numpy and the
standard library only. A connection that the runner has ended, as it does when another variant takes over, is
made anew, and the request sent again: an inference changes nothing, so sending it twice is safe.
"""

import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepick_agent.core.open_inference import HEADER_LENGTH, TYPES
from edgepick_agent.errors import BusyError, InferenceError, InputError

STATE_DIR = "/var/lib/edgepick-agent"
STATE_VARIABLE = "EDGEPICK_STATE_DIR"
"""Names the agent's state directory where that is not the usual one."""
ATTEMPTS = 3
"""A connection may be old, and the next one may meet a runner that is just retiring."""
DTYPES = {datatype: np.dtype(code) for datatype, code in TYPES.items()}
"""The protocol's name of a type -> numpy's type, as it travels."""
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}

Array = npt.NDArray[Any]


class Client:
    """Asks one model; not for several threads at once: give each its own.

    Args:
        model: Its name.
        path: Its socket; made from the agent's state directory if not given.
        timeout: Longest wait for an answer, in seconds.
    """

    def __init__(self, model: str, *, path: "str | os.PathLike[str] | None" = None, timeout: float = 30.0) -> None:
        folder = Path(os.environ.get(STATE_VARIABLE, STATE_DIR)) / "run"
        self._model = model
        self._path = Path(path) if path is not None else folder / f"{model}.sock"
        self._timeout = timeout
        self._connection: _Connection | None = None

    def infer(self, inputs: "Mapping[str, Array] | Array") -> dict[str, Array]:
        """Return the outputs by name; strings are an array of ``bytes``.

        Args:
            inputs: An array per input by name; a single array for a model with one input. Float arrays are real
                numbers in the float model's scale, also for an int8 variant.

        Raises:
            InputError: The arrays do not fit the model.
            BusyError: Too many requests wait, or no model is active now; try again.
            InferenceError: The model failed.
            TimeoutError: There was no answer in time; the next request has a connection of its own.
            OSError: The agent's socket cannot be reached.
        """
        given = inputs if isinstance(inputs, Mapping) else {self._only_input(): inputs}
        arrays = {name: _sendable(name, np.asarray(array)) for name, array in given.items()}
        header = json.dumps(
            {"inputs": [_described(*each) for each in arrays.items()], "parameters": {"binary_data_output": True}}
        ).encode()
        body = b"".join((header, *(array.data for array in arrays.values())))
        return _outputs(*self._ask("POST", "/infer", body, {HEADER_LENGTH: str(len(header))}))

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata: name, versions, inputs and outputs with shapes and types.

        Raises:
            BusyError: No model is active now.
            TimeoutError: There was no answer in time.
            OSError: The agent's socket cannot be reached.
        """
        found: dict[str, Any] = json.loads(self._ask("GET", "", b"", {})[1])
        return found

    def _only_input(self) -> str:
        names = [tensor["name"] for tensor in self.metadata()["inputs"]]
        if len(names) != 1:
            raise InputError(f"the model takes {', '.join(names)}: give an array for each, by name")
        return str(names[0])

    def _ask(self, method: str, place: str, body: bytes, headers: Mapping[str, str]) -> tuple[int | None, bytes]:
        """Return where the answer's binary part begins, if it has one, and the answer."""
        left = ATTEMPTS
        while True:
            left -= 1
            try:
                return self._ask_once(method, place, body, headers)
            except (ConnectionError, http.client.BadStatusLine, http.client.IncompleteRead):
                if not left:
                    raise

    def _ask_once(self, method: str, place: str, body: bytes, headers: Mapping[str, str]) -> tuple[int | None, bytes]:
        if self._connection is None:
            self._connection = _Connection(self._path, self._timeout)
        try:
            self._connection.request(method, f"/v2/models/{self._model}{place}", body or None, dict(headers))
            answer = self._connection.getresponse()
            data = answer.read()
        except BaseException:
            self.close()  # else the next request would be given this one's answer, or none
            raise
        if answer.status != 200:
            raise _refusal(answer.status, data)
        length = answer.headers.get(HEADER_LENGTH)
        return (int(length) if length else None), data

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "Client":  # noqa: PYI034 - Python 3.10 has no Self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, whose path may be longer than the 107 bytes of a socket address."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def _sendable(name: str, array: Array) -> Array:
    """Return the array as it travels: row-major and little-endian."""
    dtype = array.dtype if array.dtype in DATATYPES else array.dtype.newbyteorder("<")
    if dtype not in DATATYPES:
        raise InputError(f"input {name}: {array.dtype} cannot be sent; known are {', '.join(map(str, DATATYPES))}")
    return np.asarray(array, dtype, order="C")


def _described(name: str, array: Array) -> dict[str, Any]:
    size = {"binary_data_size": array.nbytes}
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype], "parameters": size}


def _outputs(begin: int | None, data: bytes) -> dict[str, Array]:
    document = json.loads(data[:begin])
    outputs: dict[str, Array] = {}
    at = begin or 0
    for tensor in document["outputs"]:
        size = int(tensor["parameters"]["binary_data_size"])
        outputs[tensor["name"]] = _array(tensor["datatype"], data[at : at + size]).reshape(tensor["shape"])
        at += size
    return outputs


def _array(datatype: str, data: bytes) -> Array:
    return np.array(_strings(data), object) if datatype == "BYTES" else np.frombuffer(data, DTYPES[datatype])


def _strings(data: bytes) -> list[bytes]:
    """Return the elements of a BYTES tensor, each of which has its length before it."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        begin = at + 4
        at = begin + int.from_bytes(data[at:begin], "little")
        found.append(data[begin:at])
    return found


def _refusal(status: int, data: bytes) -> Exception:
    try:
        said = str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        said = f"HTTP status {status}"
    kinds = {400: InputError, 413: InputError, 503: BusyError, 504: BusyError}
    return kinds.get(status, InferenceError)(said)
