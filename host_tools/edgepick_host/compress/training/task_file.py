"""A task file as a loaded Python module: found, run, and its functions called, with the user's errors made readable."""

import contextlib
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from edgepick_host.errors import InputFileError
from edgepick_wire.ids import digest_of

REQUIRED = ("model", "train_data")
OPTIONAL = ("evaluate", "student", "teachers", "unlabelled_data", "augment")
_HINT = "A task file holds model() -> nn.Module and train_data() -> (x, y); see docs/training.md."


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """A task file that was run.

    Attributes:
        path: The file.
        source: Its bytes.
        loaded: The Python module.
    """

    path: Path
    source: bytes
    loaded: ModuleType

    def has(self, name: str) -> bool:
        """Return whether the file defines this function."""
        return hasattr(self.loaded, name)

    def flag(self, name: str) -> bool:
        """Return a switch of the file; false where it is not set.

        Raises:
            InputFileError: It is neither ``True`` nor ``False``.
        """
        value = getattr(self.loaded, name, False)
        if not isinstance(value, bool):
            raise InputFileError(f"{self.path}: {name} is {value!r}; True or False is expected", hint=_HINT)
        return value

    def code_sha256(self) -> str:
        """Return the digest of the file and of every Python file that it can import from its own folder."""
        hashed = hashlib.sha256(self.source)
        for path in _modules(self.path.parent):
            with contextlib.suppress(OSError):  # what cannot be read cannot be imported
                content = path.read_bytes()
                hashed.update(f"{path.relative_to(self.path.parent)} {len(content)}\0".encode() + content)
        return hashed.hexdigest()

    def function(self, name: str) -> Callable[..., Any] | None:
        """Return a function that calls the user's with readable errors, or ``None`` if the file has none."""
        return (lambda *given: self.call(name, *given)) if self.has(name) else None

    def call(self, name: str, *given: Any) -> Any:
        """Return what the user's function returns.

        Raises:
            InputFileError: It raised; the message shows its own exception and line.
        """
        with _readable(self.path, f"{name}()"), _on_path(self.path.parent):
            return getattr(self.loaded, name)(*given)


def _modules(folder: Path) -> Iterator[Path]:
    """Yield, in order, the Python files of a folder and of the folders in it that can be imported as packages."""
    yield from sorted(folder.glob("*.py"))
    for package in sorted({path.parent for path in folder.glob("*/*.py")}):
        leads_back = folder.resolve().is_relative_to(package.resolve())
        if package.name.isidentifier() and not leads_back:
            yield from _modules(package)


def open_task_file(path: Path) -> TaskFile:
    """Return a task file, run once, with the functions that are needed.

    Raises:
        InputFileError: Unreadable, not Python, raises, or lacks a function.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {error.strerror}", hint=_HINT) from error
    if path.suffix != ".py":
        raise InputFileError(f"{path}: a task file is a Python module (.py)", hint=_HINT)
    loaded = _run(path, source)
    for name in (*REQUIRED, *(each for each in OPTIONAL if hasattr(loaded, each))):
        _check_function(path, loaded, name)
    return TaskFile(path=path, source=source, loaded=loaded)


def _check_function(path: Path, loaded: ModuleType, name: str) -> None:
    if not hasattr(loaded, name):
        defined = [each for each in vars(loaded) if callable(getattr(loaded, each)) and not each.startswith("_")]
        own = [each for each in defined if getattr(getattr(loaded, each), "__module__", "") == loaded.__name__]
        raise InputFileError(f"{path}: defines no {name}(); it defines {', '.join(own) or 'nothing'}", hint=_HINT)
    if not callable(getattr(loaded, name)):
        raise InputFileError(f"{path}: {name} is {type(getattr(loaded, name)).__name__}, not a function", hint=_HINT)


def _run(path: Path, source: bytes) -> ModuleType:
    """Return the module, under a name that no other file has; it stays importable for pickles of its classes."""
    name = f"edgepick_task_{digest_of(str(path.resolve()).encode() + source)[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputFileError(f"{path}: cannot be loaded as Python", hint=_HINT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _readable(path, "the file"), _on_path(path.parent):
            exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - running it is what it is for
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Let the file import its neighbours while the block runs, and send what it prints to standard error."""
    here = str(folder.resolve())
    known = set(sys.modules)
    sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(here)
        for name in set(sys.modules) - known:
            origin = getattr(sys.modules[name], "__file__", None)
            # Two task files may have neighbours of one name.
            if origin and Path(origin).parent == Path(here) and "site-packages" not in origin:
                del sys.modules[name]


@contextlib.contextmanager
def _readable(path: Path, function: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line that names its own place."""
    try:
        yield
    except SyntaxError as error:
        raise InputFileError(f"{path}: line {error.lineno}: {error.msg}", hint="Mend the file's syntax.") from error
    except (Exception, SystemExit) as error:
        first = str(error).strip().partition("\n")[0]
        message = f"{path}: {function} raised {type(error).__name__}: {first}{_place(path, error)}"
        raise InputFileError(
            message, hint="This is the task file's own error; run it in Python to see more."
        ) from error


def _place(path: Path, error: BaseException) -> str:
    """Return the last line of the user's folder that the exception came through."""
    frames = cast("list[traceback.FrameSummary]", traceback.extract_tb(error.__traceback__))
    own = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    if not own:
        return ""
    return f" (line {own[-1].lineno}: {own[-1].line})"
