"""Archives that nobody meant well."""

import tarfile


def with_a_length_of(digits: int) -> bytes:
    """Return a tar archive whose extended header names a length of so many digits, on which Python's reader trips."""
    content = b"9" * digits + b" path=x\n"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(content)
    return header.tobuf() + content + bytes(-len(content) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
