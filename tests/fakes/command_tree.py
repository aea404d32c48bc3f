"""The commands of a program, found by walking them."""

from collections.abc import Iterator

import click


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, and its words."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from walk(command.get_command(context, name), (*path, name))


def options(command: click.Command) -> set[str]:
    """Return the options that a command takes."""
    return {option for parameter in command.params for option in parameter.opts}
