"""What a device lacks of a bundle, and what that costs: room, bytes over the network, or that no way is left.

Values from a manifest and from a survey of what is here. Nothing happens.
"""

from edgepick_agent.core import places
from edgepick_agent.core.admission import label_of, refuse
from edgepick_agent.core.events import FileSurvey, Holding, Survey
from edgepick_agent.core.fetch import Target
from edgepick_agent.core.turn import Job
from edgepick_wire.manifest import Encoding, FileEntry, Manifest, split_index
from edgepick_wire.messages import Refusal, RefusalCode

Held = tuple[FileEntry, FileSurvey]
"""A file of a bundle, and what is here of it."""


def files(content: Manifest, survey: Survey) -> list[Held]:
    """Return every file of a bundle with what is here of it."""
    held = {file.name: file for file in survey.files}
    return [(entry, held[entry.name]) for entry in content.files]


def partial(content: Manifest, survey: Survey) -> list[Held]:
    """Return the files of which something is still to come."""
    return [(entry, held) for entry, held in files(content, survey) if held.holding is Holding.PARTIAL]


def missing_bytes(content: Manifest, survey: Survey) -> int:
    """Return how much room what is still to come takes."""
    return sum(_space(entry, held) for entry, held in partial(content, survey))


def _space(entry: FileEntry, held: FileSurvey) -> int:
    form = _form(entry, held)
    decoded = entry.size if held.way is not None and not held.decoded else 0
    return (0 if held.reserved else form.size) + (form.index_size if held.index is None else 0) + decoded


def _form(entry: FileEntry, held: FileSurvey) -> FileEntry | Encoding:
    """Return what is fetched for a file: the file itself, or an encoded form of it."""
    return entry if held.way is None else held.way.encoding


def no_way_left(job: Job, content: Manifest, survey: Survey) -> Refusal | None:
    """Return the refusal of files of which no form that is published leads anywhere on this device."""
    lost = [
        entry.name for entry, held in partial(content, survey) if held.way is None and not content.has_own_chunks(entry)
    ]
    if job.path is not None or not lost:
        return None
    detail = f"{label_of(content)}: no published form of {', '.join(lost)} gave the right file"
    hint = "Publish it again with --plain, or bring it to the device as a bundle file."
    return refuse(RefusalCode.DIGEST_MISMATCH, detail, hint)


def over_budget(job: Job, content: Manifest, survey: Survey) -> Refusal | None:
    """Return the refusal of what would take more bytes than the assignment allows, attempts included."""
    if job.max_bytes is None or job.path is not None:
        return None
    needed = job.bytes_fetched + sum(_bytes_to_fetch(entry, held) for entry, held in partial(content, survey))
    if needed <= job.max_bytes:
        return None
    detail = (
        f"{label_of(content)} takes {needed} bytes over the network, {needed - job.max_bytes} more than the "
        f"{job.max_bytes} that the host allows"
    )
    return refuse(RefusalCode.NO_BUDGET, detail, "Allow more bytes, or bring it to the device as a bundle file.")


def _bytes_to_fetch(entry: FileEntry, held: FileSurvey) -> int:
    form = _form(entry, held)
    if held.index is None:
        return form.size + form.index_size
    missing = dict.fromkeys(d for d in split_index(held.index) if d not in held.present)
    last = form.size - (form.chunks - 1) * form.chunk_size
    ends = split_index(held.index)[-1]
    return sum(last if digest == ends else form.chunk_size for digest in missing)


def present(entry: FileEntry, held: FileSurvey) -> int:
    """Return how many chunks are here of what is fetched for a file."""
    if held.holding is not Holding.PARTIAL:
        return entry.chunks
    return sum(digest in held.present for digest in split_index(held.index)) if held.index else 0


def target(entry: FileEntry, held: FileSurvey) -> Target:
    """Return what is fetched next for a file: its index where that is not here, else its chunks."""
    form = _form(entry, held)
    if held.index is None:
        name, size, digests = places.index(form.sha256), form.index_size, form.index
    else:
        name, size, digests = places.part(form.sha256), form.size, split_index(held.index)
    return Target(name=name, size=size, chunk_size=form.chunk_size, digests=digests)


def here(held: FileSurvey) -> frozenset[str]:
    """Return which pieces of the next target are here."""
    return held.index_present if held.index is None else held.present
