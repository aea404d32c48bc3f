"""The same units of work on a Dask cluster that runs already: ``--executor dask://HOST:PORT``.

Its workers need ``edgepick[compress]`` in the same version. The material is sent to each worker once.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from distributed import Client, as_completed
from distributed import TimeoutError as ClusterTimeoutError
from distributed.client import Future

from edgepick_host.compress.executor import Done
from edgepick_host.compress.step import PassLoader
from edgepick_host.compress.work import Crashed, Job, Material, do
from edgepick_host.errors import HostError, UnreachableError

CONNECT_SECONDS = 10


class DaskExecutor:
    """Does jobs on a cluster.

    Args:
        address: ``HOST:PORT`` of its scheduler.
        material: What all jobs share.
        passes: Importable by name on the workers.

    Raises:
        UnreachableError: No scheduler answers there.
    """

    def __init__(self, address: str, material: Material, passes: PassLoader) -> None:
        try:
            self._client = Client(f"tcp://{address}", timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UnreachableError(
                f"no Dask scheduler answers at {address}", hint="Start one with `dask scheduler`, and give HOST:PORT."
            ) from error
        self._material = self._client.scatter(material, broadcast=True, hash=False)
        self._passes = passes

    def run(self, jobs: Sequence[Job], deadline: float | None) -> Iterator[Done]:
        """Yield results as they come; at the deadline, what still runs is cancelled."""
        futures = [self._client.submit(do, job, self._material, self._passes, pure=False) for job in jobs]
        positions = {future.key: index for index, future in enumerate(futures)}
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        try:
            with suppress(ClusterTimeoutError):
                for future in as_completed(futures, loop=self._client.loop, timeout=left):
                    yield positions[future.key], _result(future)
        finally:
            self._client.cancel([future for future in futures if not future.done()])

    def close(self) -> None:
        """Leave the cluster; it goes on."""
        self._client.close()


def _result(future: Future) -> Any:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, HostError):
        raise error
    return Crashed(reason=f"the cluster did not compute it: {type(error).__name__}: {error}")
