"""Whether the HTTPS sources that a publication names have the files: looked at before anything is signed."""

from collections.abc import Callable

from edgepick_host.errors import VerificationError
from edgepick_host.service.prepare import Prepared, SourceFile
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import digest_of
from edgepick_wire.sources import MAX_SOURCES, check_source, source_url

ReadRange = Callable[[str, int, int], bytes]
"""``(url, offset, size) -> bytes``; raises ``UnreachableError`` or ``VerificationError``."""

HINT = "Upload the files first, mend --source, or leave the check out with --no-check-sources."


def check_templates(sources: tuple[str, ...]) -> None:
    """Refuse what no manifest may name.

    Raises:
        VerificationError: A template is malformed, or there are too many.
    """
    if len(sources) > MAX_SOURCES:
        raise VerificationError(f"{len(sources)} sources; at most {MAX_SOURCES} are allowed", hint="Name fewer.")
    try:
        for source in sources:
            check_source(source)
    except MalformedError as error:
        raise VerificationError(str(error), hint="E.g. --source 'https://models.example.com/{sha256}'") from error


def check_sources(prepared: Prepared, read_range: ReadRange) -> None:
    """Refuse sources whose first or last chunk of a file is another than what is published.

    Raises:
        UnreachableError: A source does not answer.
        VerificationError: It does not serve ranges, or other bytes.
    """
    for release in prepared.releases:
        for template in release.manifest.sources:
            for file in release.files:
                entry = file.chunked.entry
                _check_file(file, source_url(template, sha256=entry.sha256, name=entry.name), read_range)


def _check_file(file: SourceFile, url: str, read_range: ReadRange) -> None:
    entry, last = file.chunked.entry, file.chunked.entry.chunks - 1
    for position in sorted({0, last}):
        offset = position * entry.chunk_size
        data = read_range(url, offset, min(entry.chunk_size, entry.size - offset))
        if digest_of(data) != file.chunked.chunks[position]:
            raise VerificationError(f"{url}: other bytes from {offset} on than {file.path} has", hint=HINT)
