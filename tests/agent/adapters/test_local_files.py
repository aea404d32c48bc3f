"""The adapters to files, sockets and signatures of this machine."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from edgepick_agent.adapters import ed25519
from edgepick_agent.adapters.bundle_file import BundleFile
from edgepick_agent.adapters.control_socket import ControlServer, ask_agent
from edgepick_agent.adapters.lock import held
from edgepick_agent.adapters.socket_name import SocketNames
from edgepick_agent.adapters.storage import FileStorage
from edgepick_agent.core.control import Command, ControlReply, ControlRequest
from edgepick_agent.errors import (
    AlreadyRunningError,
    ConfigError,
    RefusedError,
    StorageError,
    StorageFullError,
    UnreachableError,
)
from edgepick_wire import codec
from fakes.archives import with_a_length_of
from fakes.host_stand_in import bundle

ONE = bundle("1")
LONG = [with_a_length_of(30), with_a_length_of(5000)]


def failing(number: int):
    """Return a system call that always fails with ``number``."""

    def call(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


# --- storage ---


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError), (errno.EIO, StorageError)],
)
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, number, kind):
    """Whatever the disk says, the old content stays, and no temporary file is left behind."""
    storage = FileStorage(tmp_path)
    storage.write("f", b"old")
    monkeypatch.setattr(os, "fsync", failing(number))

    with pytest.raises(kind):
        storage.write("f", b"new")

    assert storage.read("f") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("number", "word"),
    [(errno.EACCES, "sudo"), (errno.EROFS, "read-only"), (errno.ENOSPC, "space"), (errno.EIO, "health")],
)
def test_what_the_system_says_has_a_hint_of_its_own(tmp_path, monkeypatch, number, word):
    """Another account's, mounted read-only, full, broken: each is mended in another way; the lock says the same."""
    monkeypatch.setattr(os, "open", failing(number))

    with pytest.raises(StorageError) as caught:
        FileStorage(tmp_path).write("f", b"")

    assert word in caught.value.hint
    with pytest.raises(StorageError) as caught, held(tmp_path / "lock"):
        pass
    assert (word if number != errno.EIO else "state_dir") in caught.value.hint


def test_reserved_space_is_really_allocated(tmp_path):
    """A reserved file has its blocks, so that no chunk can fail for want of space."""
    FileStorage(tmp_path).reserve("part", 1024 * 1024)

    assert (tmp_path / "part").stat().st_blocks * 512 >= 1024 * 1024


def test_a_file_system_without_links_gets_a_copy(tmp_path, monkeypatch):
    """Where a link is not possible, the second name is a copy with the same content."""
    storage = FileStorage(tmp_path)
    storage.write("a", b"content")
    monkeypatch.setattr(os, "link", failing(errno.EPERM))

    storage.link("a", "b")

    assert storage.read("b") == b"content"
    assert (tmp_path / "a").stat().st_nlink == 1


def test_only_this_user_may_read_the_state(tmp_path):
    """Files are written with mode 0600."""
    FileStorage(tmp_path).write("state.json", b"{}")

    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


# --- lock ---


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path):
    """The second holder is turned away; after the first left, the lock can be taken again."""
    with (
        held(tmp_path / "lock"),
        pytest.raises(AlreadyRunningError, match="another edgepick-agent"),
        held(tmp_path / "lock"),
    ):
        pass
    with held(tmp_path / "lock"):
        pass


def test_a_state_directory_that_cannot_be_made_is_an_error_with_a_hint(tmp_path):
    """A file where the directory should be is told as such."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError) as caught, held(tmp_path / "file" / "lock"):
        pass

    assert "state_dir" in caught.value.hint


# --- signatures ---


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def test_signatures_agree_with_openssl(tmp_path):
    """What OpenSSL signs is accepted, and with any other key, message or signature it is not."""
    key, public, message, signature = (tmp_path / n for n in ("key", "public", "message", "signature"))
    message.write_bytes(b"edgepick")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-outform", "DER", "-out", public)
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", message, "-out", signature)
    raw = public.read_bytes()[-32:]

    assert ed25519.verify(raw, signature.read_bytes(), b"edgepick")
    assert not ed25519.verify(raw, signature.read_bytes(), b"edgepicK")
    assert not ed25519.verify(bytes(32), signature.read_bytes(), b"edgepick")
    assert not ed25519.verify(raw, bytes(64), b"edgepick")


# --- bundle files ---


def tar_of(path: Path, members: list[tuple[str, bytes]], *, kind: bytes = tarfile.REGTYPE) -> str:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(info, BytesIO(data) if kind == tarfile.REGTYPE else None)
    return str(path)


def members(made=ONE) -> list[tuple[str, bytes]]:
    return [("manifest.signed", made.raw), *((f"files/{name}", data) for name, data in made.files.items())]


def test_a_bundle_file_gives_its_manifest_and_files(tmp_path):
    """What was packed comes out, byte for byte, in pieces."""
    path = tar_of(tmp_path / "one.edgepick", members())

    found = {name: (size, b"".join(pieces)) for name, size, pieces in BundleFile().files(path)}

    assert BundleFile().manifest(path) == ONE.raw
    assert found == {name: (len(data), data) for name, data in ONE.files.items()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_anything_but_a_regular_file_makes_a_bundle_refused(tmp_path, kind):
    """Links, folders and devices in the archive are not even looked at."""
    path = tar_of(tmp_path / "x", [("files/model.tflite", b"")], kind=kind)

    with pytest.raises(RefusedError, match="not a regular file"):
        BundleFile().manifest(path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_an_announced_length_takes_no_memory(tmp_path, kind):
    """What an extension header claims to hold, in a file full of holes, is not taken in."""
    header = tarfile.TarInfo("manifest.signed")
    header.type, header.size = kind, 64 * 2**20
    with (tmp_path / "x").open("wb") as file:
        file.write(header.tobuf(format=tarfile.USTAR_FORMAT))
        file.truncate(header.size + 10240)

    tracemalloc.start()
    with pytest.raises(RefusedError, match="not a regular file"):
        BundleFile().manifest(str(tmp_path / "x"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * 2**20


@pytest.mark.parametrize("content", [b"", b"rubbish" * 200, b"\0" * 10240, *LONG])
def test_what_is_no_archive_is_refused(tmp_path, content):
    """Rubbish, an empty file, an empty archive and absurd numbers are no bundles."""
    (tmp_path / "x").write_bytes(content)

    with pytest.raises(RefusedError):
        BundleFile().manifest(str(tmp_path / "x"))


def test_a_truncated_bundle_is_refused(tmp_path):
    """A stick that was pulled too early is noticed."""
    path = Path(tar_of(tmp_path / "x", members()))
    path.write_bytes(path.read_bytes()[:4000])

    with pytest.raises(RefusedError):
        [b"".join(pieces) for _, _, pieces in BundleFile().files(str(path))]


def test_a_missing_bundle_is_refused_by_name(tmp_path):
    """The message names the file."""
    with pytest.raises(RefusedError, match="nothing"):
        BundleFile().manifest(str(tmp_path / "nothing"))


# --- control socket ---


def test_a_request_gets_its_answer_and_the_socket_is_private(tmp_path):
    """The answer comes back to who asked; nobody but this user may ask."""
    seen = []

    def ask(request, answer) -> None:
        seen.append(request)
        answer(ControlReply(ok=False, error="no", hint="why"))

    server = ControlServer(tmp_path / "c.sock", ask, BundleFile().lent)
    server.start()
    mode = stat.S_IMODE((tmp_path / "c.sock").stat().st_mode)
    reply = ask_agent(tmp_path / "c.sock", ControlRequest(command=Command.ROLLBACK, model="digits"))
    server.stop()

    assert seen == [ControlRequest(command=Command.ROLLBACK, model="digits")]
    assert (reply.ok, reply.error, reply.hint) == (False, "no", "why")
    assert mode == 0o600
    assert not (tmp_path / "c.sock").exists()


def test_rubbish_on_the_socket_gets_an_error_and_the_next_request_an_answer(tmp_path):
    """A client that speaks nonsense disturbs nobody."""
    server = ControlServer(tmp_path / "c.sock", lambda _, answer: answer(ControlReply(ok=True)), BundleFile().lent)
    server.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "c.sock"))
        client.sendall(b"nonsense\n")
        line = client.recv(4096)
    reply = ask_agent(tmp_path / "c.sock", ControlRequest(command=Command.STATUS))
    server.stop()

    assert b'"ok":false' in line
    assert reply.ok


@pytest.fixture
def reading(tmp_path) -> Iterator[Path]:
    """Provide the socket of a server that answers each request with what it reads of a bundle."""
    reader = BundleFile()

    def ask(request, answer) -> None:
        try:
            reader.roots(request.path)
            names = [name for name, _, pieces in reader.files(request.path) if b"".join(pieces)]
            answer(ControlReply(ok=reader.manifest(request.path) == ONE.raw, hint=" ".join(names)))
        except RefusedError as error:
            answer(ControlReply(ok=False, error=str(error)))

    server = ControlServer(tmp_path / "c.sock", ask, reader.lent)
    server.start()
    yield tmp_path / "c.sock"
    server.stop()


def copies(descriptor: int) -> int:
    """Return how many descriptors of this process lead to the same file."""
    found = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    return found.count(Path(f"/proc/self/fd/{descriptor}").resolve())


def test_a_file_that_only_the_caller_can_reach_is_read_while_the_request_lasts(tmp_path, reading):
    """The agent reads what the caller has opened, not the name; afterwards it holds no file, so a stick may go."""
    request = ControlRequest(command=Command.INSTALL, path=tar_of(tmp_path / "one.edgepick", members()))
    with Path(request.path).open("rb") as file:
        Path(request.path).unlink()

        found = [ask_agent(reading, request, file) for _ in range(2)]

        assert [(reply.ok, reply.hint) for reply in found] == [(True, " ".join(ONE.files))] * 2
        assert copies(file.fileno()) == 1
    later = ask_agent(reading, request)
    assert (later.ok, "No such file" in later.error) == (False, True)


def a_file_to_write(folder: Path) -> list[int]:
    return [os.open(folder / "new", os.O_WRONLY | os.O_CREAT)]


def rubbish(folder: Path) -> list[int]:
    (folder / "rubbish").write_bytes(b"rubbish" * 200)
    return [os.open(folder / "rubbish", os.O_RDONLY)]


@pytest.mark.parametrize(
    "made",
    [
        lambda _: list(os.pipe()),
        lambda folder: [os.open(folder, os.O_RDONLY)],
        a_file_to_write,
        rubbish,
        lambda folder: [*rubbish(folder), *rubbish(folder)],
    ],
    ids=["a pipe", "a folder", "a file to write", "rubbish", "more than one"],
)
def test_a_file_that_was_passed_is_not_trusted(tmp_path, reading, made):
    """Whatever comes along is answered at once, as it would be by its name, and none of it stays open."""
    request = ControlRequest(command=Command.INSTALL, path=str(tmp_path / "none.edgepick"))
    passed = made(tmp_path)
    before = [copies(descriptor) for descriptor in passed]

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(reading))
        socket.send_fds(client, [codec.encode_document(request) + b"\n"], passed)
        reply = b"".join(iter(lambda: client.recv(65536), b""))

    assert b'"ok":false' in reply
    assert b"none.edgepick" in reply
    assert [copies(descriptor) for descriptor in passed] == before
    for descriptor in passed:
        os.close(descriptor)


def test_without_an_agent_the_caller_is_told_so(tmp_path):
    """No socket, and a socket that nobody listens on, are both unreachable."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))

    for name in ("dead.sock", "none.sock"):
        with pytest.raises(UnreachableError):
            ask_agent(tmp_path / name, ControlRequest(command=Command.STATUS))


def test_a_path_that_is_too_long_for_a_socket_is_a_matter_of_configuration(tmp_path):
    """The hint says how long it may be."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    server = ControlServer(folder / "c.sock", lambda *_: None, BundleFile().lent)

    with pytest.raises(ConfigError) as caught:
        server.start()

    server.stop()
    assert "107" in caught.value.hint


def test_an_agent_that_stops_is_not_held_up_by_its_socket(tmp_path, monkeypatch):
    """Where the name cannot be removed any more, the agent ends as it should: it has more to put away."""
    server = ControlServer(tmp_path / "c.sock", lambda *_: None, BundleFile().lent)
    server.start()
    monkeypatch.setattr(os, "unlink", failing(errno.EROFS))

    server.stop()

    with pytest.raises(UnreachableError):
        ask_agent(tmp_path / "c.sock", ControlRequest(command=Command.STATUS))


# --- socket names ---


def test_a_name_leads_to_one_socket_at_a_time(tmp_path):
    """The name is exchanged in one step, relative to its folder, and can be taken away."""
    point = SocketNames(tmp_path)

    point("run/digits.sock", "run/one.sock")
    point("run/digits.sock", "run/two.sock")
    target = (tmp_path / "run/digits.sock").readlink()
    point("run/digits.sock", None)
    point("run/digits.sock", None)

    assert target == Path("two.sock")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(("number", "kind"), [(errno.EROFS, StorageError), (errno.ENOSPC, StorageFullError)])
def test_a_name_that_cannot_be_written_leads_where_it_led(tmp_path, monkeypatch, number, kind):
    """It is an error of the storage, with what to do; and none at all where the name is right already."""
    point = SocketNames(tmp_path)
    point("run/digits.sock", "run/one.sock")
    for call in ("symlink", "unlink", "replace", "rename"):
        monkeypatch.setattr(os, call, failing(number))

    point("run/digits.sock", "run/one.sock")
    for target in ("run/two.sock", None):
        with pytest.raises(kind, match=r"run/digits\.sock") as caught:
            point("run/digits.sock", target)
        assert caught.value.hint

    assert (tmp_path / "run/digits.sock").readlink() == Path("one.sock")
