"""``edgepick-agent completion SHELL``: the script that completes commands and options."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_EDGEPICK_AGENT_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print a completion script.

    bash: edgepick-agent completion bash > /etc/bash_completion.d/edgepick-agent
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(made(context.find_root().command, {}, "edgepick-agent", VARIABLE).source())
