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
