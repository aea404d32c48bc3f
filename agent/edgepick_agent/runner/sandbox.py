"""Shutting a runner in: it reads what it needs to run its model, writes to its own folder, and reaches no network.

Landlock (Linux 5.13 and newer) allows files by what lies below a folder; a seccomp filter leaves it Unix stream sockets
that others connect to. Both need no privilege and no namespace, hold for every thread and child, cannot be undone, and
work inside the systemd unit, which forbids new namespaces. The process does it to itself, before it touches the model:
from then on a model that exploits its runtime is alone with itself.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.core.settings import Sandbox
from edgepick_agent.errors import RunError

READABLE = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/proc", "/sys", "/etc/ld.so.cache",
            "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/nv_tegra_release")  # fmt: skip
"""Programs and libraries, the board's own description, and what the loader asks for; nothing else of /etc."""
DEVICES = ("null", "zero", "full", "random", "urandom", "shm", "apex_*", "bus/usb", "dri", "kfd", "mali*", "nv*",
           "vcio", "vchiq", "dma_heap")  # fmt: skip
"""What accelerators and vcgencmd are reached by, in /dev; who may open them is up to the service's unit."""

# <linux/landlock.h>, <linux/prctl.h>, <linux/seccomp.h>; the first three calls have one number on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_SOCKET = 1 << 5, 1 << 9
ALL_OF_FIRST_VERSION = (1 << 13) - 1
REFER, TRUNCATE = 1 << 13, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
NO_NEW_PRIVILEGES = 38
SECCOMP_FILTER, SECCOMP_ALL_THREADS, SECCOMP_KEEP_SPECULATION = 1, 1, 4

# <asm/unistd.h>: seccomp, socket, connect, io_uring_setup; and <linux/audit.h>.
CALLS = {
    "x86_64": (0xC000003E, 317, 41, 42, 425),
    "aarch64": (0xC00000B7, 277, 198, 203, 425),
    "armv7l": (0x40000028, 383, 281, 283, 425),
    "riscv64": (0xC00000F3, 277, 198, 203, 425),
}
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
UNIX, STREAM, TYPE_MASK = 1, 1, 0xF
FOREIGN_X86 = 0x40000000


def shut_in(spec: RunnerSpec) -> str:
    """Return why this process is not shut in completely; empty if it is, or is not asked to be.

    Raises:
        RunError: It must be, and cannot.
    """
    if spec.sandbox is Sandbox.OFF:
        return ""
    problems = "; ".join(filter(None, (_hide_files(spec), _hide_network())))
    if problems and spec.sandbox is Sandbox.REQUIRED:
        hint = 'set sandbox = "auto" in [runner] to run models nevertheless'
        raise RunError(f"the runner cannot be shut in: {problems}", hint=hint)
    return problems


def _hide_files(spec: RunnerSpec) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)
    if version < 1:
        return f"it sees all files of its user: no Landlock in this kernel ({_reason()})"
    handled = ALL_OF_FIRST_VERSION | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    asked = struct.pack("=Q", handled)
    rules = libc.syscall(CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0)
    if rules < 0:
        return f"it sees all files of its user: no Landlock rules ({_reason()})"
    try:
        for path, rights in _allowed(spec, handled):
            _allow(libc, rules, path, rights)
        if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(RESTRICT_SELF, rules, 0):
            return f"it sees all files of its user: Landlock refuses ({_reason()})"
    finally:
        os.close(rules)
    return ""


def _allowed(spec: RunnerSpec, handled: int) -> Iterator[tuple[str, int]]:
    """Yield what may be done below which path."""
    for path in (*READABLE, *_python(), *_files(spec)):
        yield path, READ
    for device in (found for pattern in DEVICES for found in Path("/dev").glob(pattern)):
        yield str(device), handled
    yield "/proc/self", READ | WRITE_FILE | handled & TRUNCATE
    for folder in filter(None, (str(Path.cwd()), os.environ.get("EDGEPICK_ENGINE_CACHE"))):
        yield folder, handled
    if spec.socket_path:
        yield str(Path(spec.socket_path).parent), MAKE_SOCKET | REMOVE_FILE


def _python() -> Iterable[str]:
    """Return where this interpreter's code lies, and edgepick's own."""
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()]
    # The first entry is the folder that the runner was started in.
    paths = [path for path in sys.path if path and os.path.realpath(path) != os.path.realpath(Path.cwd())]
    links = [str(link.resolve()) for path in paths for link in _links(Path(path))]
    return {path for path in (*own, *paths, *links) if Path(path).exists()}


def _links(folder: Path) -> Iterable[Path]:
    return (folder / name for name in ("edgepick_agent", "edgepick_wire") if (folder / name).exists())


def _files(spec: RunnerSpec) -> Iterable[str]:
    golden = [spec.golden.path] if spec.golden else []
    beside = [spec.beside.model_path] if spec.beside else []
    recorded = [spec.sysfs_root] if spec.sysfs_root != "/" else []
    return [spec.model_path, *golden, *beside, *recorded]


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be allowed
    try:
        taken = rights if Path(path).is_dir() else rights & OF_FILES
        libc.syscall(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", taken, descriptor), 0)
    finally:
        os.close(descriptor)


def _hide_network() -> str:
    machine = platform.machine()
    if machine not in CALLS:
        return f"it reaches the network: no filter for {machine}"
    if struct.calcsize("P") == 4 and machine in {"x86_64", "aarch64"}:
        return f"it reaches the network: no filter for 32-bit programs on {machine}"
    code = _filter(machine)
    program = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    flags = SECCOMP_ALL_THREADS | SECCOMP_KEEP_SPECULATION
    if libc.syscall(CALLS[machine][1], SECCOMP_FILTER, flags, head):
        return f"it reaches the network: seccomp refuses ({_reason()})"
    return ""


def _filter(machine: str) -> bytes:
    """Return the filter's code: of sockets only Unix streams can be made, and none be connected."""
    architecture, _, socket, connect, io_uring = CALLS[machine]
    number, kind_of_machine, domain, type_of_socket = 0, 4, 16, 24
    code = [
        (LOAD, 0, 0, kind_of_machine),
        (JUMP_IF_EQUAL, 0, 11, architecture),
        (LOAD, 0, 0, number),
        (JUMP_IF_AT_LEAST, 9, 0, FOREIGN_X86),
        (JUMP_IF_EQUAL, 8, 0, connect),
        (JUMP_IF_EQUAL, 7, 0, io_uring),
        (JUMP_IF_EQUAL, 0, 5, socket),
        (LOAD, 0, 0, domain),
        (JUMP_IF_EQUAL, 0, 4, UNIX),
        (LOAD, 0, 0, type_of_socket),
        (AND, 0, 0, TYPE_MASK),
        (JUMP_IF_EQUAL, 0, 1, STREAM),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def _reason() -> str:
    return os.strerror(ctypes.get_errno())
