"""A site with keys and two variants, and a way to run the command in it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgepick_host.cli.main import run
from fakes.host_site import Site, new_site, two_variants


@pytest.fixture
def site(tmp_path: Path, monkeypatch, capsys) -> Site:
    for name in [n for n in os.environ if n.startswith("EDGEPICK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = new_site(folder)
    capsys.readouterr()
    return made


@pytest.fixture
def variants(site: Site) -> Path:
    return two_variants(site.folder / "out")


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture
def edgepick(capsys):
    def call(*arguments: object) -> Outcome:
        code = run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
