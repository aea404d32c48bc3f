"""The wire package needs nothing but the standard library."""

import ast
import sys
from pathlib import Path

import pytest

import edgepick_wire

FILES = sorted(Path(edgepick_wire.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_imports_are_of_the_standard_library(path: Path):
    """No file of the wire package imports a third party, at its top or inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    foreign = {name for name in imported if name.partition(".")[0] not in {*sys.stdlib_module_names, "edgepick_wire"}}

    assert foreign == set()


def test_all_files_were_looked_at():
    """The test above saw the package as it is."""
    assert {"codec.py", "envelope.py", "manifest.py", "messages.py"} <= {p.name for p in FILES}
