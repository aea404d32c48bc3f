"""Tar members as bundles have them: regular files only, which keeps reading an archive within bounds."""

import tarfile


class PlainFile(tarfile.TarInfo):
    """A member that is a regular file; the header of anything else ends the reading.

    ``tarfile`` takes the content of an extension header (pax, GNU long names) into memory whole, whatever length the
    header claims. Refused here, it is never read.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "PlainFile":
        """Return the member that a header describes.

        Args:
            buf: 512 bytes.
            encoding: Of its name.
            errors: How to decode it, as in :meth:`bytes.decode`.

        Raises:
            tarfile.HeaderError: No header.
            tarfile.ReadError: Not that of a regular file.
        """
        member = super().frombuf(buf, encoding, errors)
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise tarfile.ReadError(f"{member.name[:80]!r} is not a regular file")
        return member
