"""Every command of the operator's tree, found by walking it: documents for programs, one message whatever is broken."""

import click

from edgepick_host.cli.main import cli
from fakes.command_tree import options, walk

TREE = dict(walk(cli))


def test_every_command_has_documents_for_programs():
    """``--json`` is everywhere."""
    assert [name for name, found in TREE.items() if "--json" not in options(found)] == []


def test_taking_a_token_away_is_a_document_too(site, edgepick):
    """Whose it was, and that it is gone."""
    edgepick("tokens", "add", "bob")

    assert edgepick("tokens", "revoke", "bob", "--json").json() == {"name": "bob", "revoked": True}


PLACES = {"--database", "--broker", "--keys"}
"""Options of a command that asks the settings where the host's things are."""
CONFIGURED = [name for name, found in TREE.items() if options(found) >= PLACES]


WORD = "30d"
"""A name, a duration, and a folder that is there."""


def words(name: str) -> list[str]:
    """Return a command with something in each place that must have something."""
    required = [parameter for parameter in TREE[name].params if parameter.required]
    arguments = [WORD for parameter in required if isinstance(parameter, click.Argument)]
    options = [f"{parameter.opts[0]}={WORD}" for parameter in required if not isinstance(parameter, click.Argument)]
    return [*name.split(), *options, *arguments]


def test_a_configuration_that_cannot_be_used_is_one_message_everywhere(site, edgepick):
    """Each command that reads it names file and key, exit code 2, without a trace, and does nothing."""
    broken = site.folder / "broken.toml"
    broken.write_text('flet = "a"\n')
    (site.folder / WORD).mkdir()
    before = sorted(site.folder.iterdir())

    said = {name: edgepick("--config", broken, *words(name)) for name in CONFIGURED}

    assert len(said) > 5
    assert {
        name: done.err for name, done in said.items() if (done.code, "flet: unknown key" in done.err) != (2, True)
    } == {}
    assert sorted(site.folder.iterdir()) == before
