"""Every command of the operator's tree, found by walking it: documents for programs, one message whatever is broken."""

from collections.abc import Iterator

import click

from edgepick_host.cli.main import cli


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, and its words."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from walk(command.get_command(context, name), (*path, name))


TREE = dict(walk(cli))


def test_every_command_has_documents_for_programs():
    """``--json`` is everywhere."""
    options = {name: {o for p in found.params for o in p.opts} for name, found in TREE.items()}

    assert [name for name, known in options.items() if "--json" not in known] == []


def test_taking_a_token_away_is_a_document_too(site, edgepick):
    """Whose it was, and that it is gone."""
    edgepick("tokens", "add", "bob")

    assert edgepick("tokens", "revoke", "bob", "--json").json() == {"name": "bob", "revoked": True}


PLACES = {"--database", "--broker", "--keys"}
"""Options of a command that asks the settings where the host's things are."""
CONFIGURED = [name for name, found in TREE.items() if {o for p in found.params for o in p.opts} >= PLACES]


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
