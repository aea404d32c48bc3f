"""``runtimes``: what this interpreter can run models with, found by trying.

Each runtime is imported in a child of its own: on an old CPU an import may end in an illegal
instruction, and that must not hide the others.
"""

import os
import sys

from edgepick_agent import instruments
from edgepick_agent.ports import Runtime
from edgepick_wire import codec
from edgepick_wire.messages import RuntimeAvailable


def print_runtimes() -> None:
    """Print a JSON list of the available runtimes as the wire's ``RuntimeAvailable``; never fails."""
    found = [runtime for reference in instruments.RUNTIMES.values() if (runtime := _probe(reference)) is not None]
    sys.stdout.write(codec.encode_document(found).decode() + "\n")


def _probe(reference: str) -> RuntimeAvailable | None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(reference, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return codec.decode_document(RuntimeAvailable, answer) if answer else None


def _answer(reference: str, writer: int) -> None:
    """Write what the runtime says of itself, and end this child."""
    try:
        runtime: Runtime = instruments.adapter(reference)()
        available = runtime.available()
        if available is not None:
            os.write(writer, codec.encode_document(available))
    except Exception as error:  # noqa: BLE001 - a broken installation is one that is not there
        os.write(2, f"{reference}: {error}\n".encode())
    finally:
        os._exit(0)
