"""The shape that review would otherwise have to guard: docstrings, sizes, folders.

Only files that git tracks are looked at, so that work in progress disturbs nobody.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
PACKAGES = (
    "agent/edgepick_wire/",
    "agent/edgepick_agent/",
    "host_tools/edgepick_host/",
    "device_profiles/edgepick_profiles/",
)
HOMES = {"agent", "host_tools", "device_profiles", "tests", "docs", "systemd", "benchmarks", ".ci"}
"""The top-level folders of the architecture; nothing lives outside them."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tracked() -> list[str]:
    """Return the tracked files that exist, or skip where there is no git checkout."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def sources(*prefixes: str) -> list[str]:
    """Return the tracked Python files below some folders."""
    return [name for name in tracked() if name.endswith(".py") and name.startswith(prefixes)]


def functions(name: str) -> Iterator[Function]:
    """Return every function of a file, methods and inner ones included."""
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"), name)
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def test_every_test_states_its_promise():
    """Every test function says in one docstring line what holds if it passes."""
    found = [(name, f) for name in sources("tests/") for f in functions(name) if f.name.startswith("test_")]

    silent = [f"{name}:{f.lineno} {f.name}" for name, f in found if not (ast.get_docstring(f) or "").strip()]

    assert found
    assert silent == []


def test_test_files_have_different_names():
    """No two test files share a name, as pytest imports them by it."""
    names = [Path(name).name for name in sources("tests/") if not name.endswith(("__init__.py", "conftest.py"))]

    assert sorted(n for n in set(names) if names.count(n) > 1) == []


def test_source_files_stay_readable():
    """No file of a package has more than 500 lines."""
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in sources(*PACKAGES)}

    assert lengths
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_stay_short():
    """No function of a package has more than 60 lines, its docstring not counted."""
    found = [(name, f) for name in sources(*PACKAGES) for f in functions(name)]

    long = [f"{name}:{f.lineno} {f.name}: {length(f)}" for name, f in found if length(f) > MAX_FUNCTION_LINES]

    assert found
    assert long == []


def length(function: Function) -> int:
    """Return the lines of a function from ``def`` to its end, without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_folders_are_the_architectures():
    """Top-level folders are the homes of the architecture, and the four that make the product are there."""
    folders = {name.partition("/")[0] for name in tracked() if "/" in name}

    assert folders - HOMES == set()
    assert {"agent", "host_tools", "device_profiles", "tests"} <= folders


def test_each_package_lives_in_its_home():
    """The four import packages are where the architecture puts them, and no other package is beside them."""
    files = [name for name in sources("agent/", "host_tools/", "device_profiles/") if name.count("/") > 1]

    assert {"/".join(name.split("/")[:2]) + "/" for name in files} == set(PACKAGES)
