"""What an HTTPS site answers to a request for a range: any bytes, from the status line on."""

import http.client
import io
from typing import Any
from urllib.parse import SplitResult

from edgepick_agent.adapters.https_source import HttpsSource, _Range
from edgepick_agent.core.effects import FetchRange
from edgepick_agent.core.events import RangeDelivered, RangeEnded
from edgepick_agent.core.fetch import Chunk
from edgepick_agent.core.settings import FetchSettings

CHUNKS = (("a" * 64, 16), ("b" * 64, 16), ("c" * 64, 5))
ASKED = FetchRange(key="1", url="https://site/x", offset=32, file_size=100, chunks=CHUNKS)
BODY = bytes(range(37))
RANGE = b"Content-Range: bytes 32-68/100\r\n"
SEEDS = [
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 37\r\n" + RANGE + b"\r\n" + BODY,
    b"HTTP/1.1 206 x\r\nTransfer-Encoding: chunked\r\n" + RANGE + b"\r\n25\r\n" + BODY + b"\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: https://other/y\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nwhole",
    b"HTTP/1.1 206 x\r\nContent-Encoding: gzip\r\nConnection: close\r\n" + RANGE + b"\r\n" + BODY,
]


class Wire:
    """A socket on which everything has come already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)

    def sendall(self, _data: bytes) -> None: ...

    def close(self) -> None: ...


class Connection(http.client.HTTPConnection):
    """A connection over such a socket."""

    def __init__(self, data: bytes) -> None:
        super().__init__("site")
        self._answer = data

    def connect(self) -> None:
        self.sock: Any = Wire(self._answer)


class Source(HttpsSource):
    """The device's own fetching, over such connections."""

    def __init__(self, data: bytes, events: list[Any]) -> None:
        super().__init__(FetchSettings(), events.append, lambda digest, data: Chunk(digest, len(data), good=True))
        self._said = data

    def _connection(self, _parts: SplitResult) -> http.client.HTTPConnection:
        return Connection(self._said)


def one(data: bytes) -> None:
    """Fetch: it ends once, in words if badly, and what is handed on is no more than what was asked for."""
    events: list[Any] = []
    source = Source(data, events)
    source._run(_Range(ASKED))
    source.close()

    *delivered, ended = events
    assert isinstance(ended, RangeEnded)
    assert ended.problem is None or ended.problem
    chunks = [chunk for event in delivered for chunk in event.chunks]
    assert all(isinstance(event, RangeDelivered) for event in delivered)
    assert [(chunk.digest, chunk.size) for chunk in chunks] == list(CHUNKS[: len(chunks)])
    assert ended.problem is not None or len(chunks) == len(CHUNKS)
