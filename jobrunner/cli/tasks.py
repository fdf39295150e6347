"""`jobrunner tasks`."""

import json
import shlex
from collections.abc import Iterator

import click

from jobrunner.cli import completers, parameters, schemas, words
from jobrunner.cli.options import json_option, url_option
from jobrunner.cli.teaching import Command
from jobrunner.client import Client, Task


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=completers.task_names)
@json_option
@url_option
def tasks(name: str | None, as_json: bool, url: str) -> None:
    """List the tasks that can be submitted; with a NAME, show what it takes.

    $ jobrunner tasks
    $ jobrunner tasks examples.primes
    $ jobrunner tasks examples.primes --json | jq .params
    """
    with Client(url) as client:
        if name is not None:
            _show(client.task(name), as_json)
            return
        listed = client.catalogue()
    found, errors = listed["items"], listed["module_errors"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in words.table(("TASK", "WHAT IT DOES"), [(one["name"], _summary(one)) for one in found]):
            click.echo(line)
    if not found and not errors:
        click.echo(
            "there are no tasks: is a dispatcher running, and is a function in its modules decorated with @task?",
            err=True,
        )
    for module, why in errors.items():
        click.echo(f"module {module} cannot be imported, its tasks are not served: {why}", err=True)


def _show(task: Task, as_json: bool) -> None:
    click.echo(json.dumps(task, indent=2) if as_json else "\n".join(_described(task)))


def _summary(task: Task) -> str:
    return (task["doc"].splitlines() or [""])[0]


def _described(task: Task) -> Iterator[str]:
    yield task["name"]
    yield ""
    yield from (f"  {line}".rstrip() for line in task["doc"].splitlines())
    yield ""
    rows = [
        (f"  {'  ' * field.depth}{field.name}", field.kind, field.default)
        for field in schemas.fields(task["params"])
    ]
    if rows:
        yield from words.table(("  PARAMETER", "TYPE", "DEFAULT"), rows)
        yield ""
    yield from words.table(
        ("  OPTION", "VALUE"), [(f"  {key}", words.value(value)) for key, value in task["options"].items()]
    )
    yield ""
    yield f"  {example(task)}"


def example(task: Task) -> str:
    """Return a command that submits the task, with a value for each parameter that must be given."""
    properties, definitions = task["params"].get("properties", {}), task["params"].get("$defs", {})
    samples = {
        key: schemas.sample(properties[key], definitions) for key in task["params"].get("required", ())
    }
    arguments = [f"{key}={parameters.as_text(value)}" for key, value in samples.items()]
    return shlex.join(["jobrunner", "submit", task["name"], *arguments, "--follow"])
