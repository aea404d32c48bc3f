"""A worker process of the search: ``python -m edgepick_host.compress.worker FD``, FD being its end of a pipe.

What travels on the pipe is pickled by the process that started this one; nobody else has the other end.
"""

import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from edgepick_host.compress.executor import serve


def main(handle: int) -> None:
    """Serve until the other end is gone."""
    with Connection(handle) as pipe, suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        serve(pipe)


if __name__ == "__main__":
    main(int(sys.argv[1]))
