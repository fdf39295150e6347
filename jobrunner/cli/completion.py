"""`jobrunner completion`."""

import click

from jobrunner.cli.shells import SHELLS, script
from jobrunner.cli.teaching import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script that has a shell complete commands, options, tasks, their parameters, jobs and queues.

    What only the API knows is asked of it while you type: of JOBRUNNER_URL, or of the --url on the line.

    In ~/.bashrc, ~/.zshrc (after compinit) or ~/.config/fish/config.fish:

    $ source <(jobrunner completion bash)
    $ source <(jobrunner completion zsh)
    $ jobrunner completion fish | source
    """
    click.echo(script(shell, click.get_current_context().find_root().command, "jobrunner"), nl=False)
