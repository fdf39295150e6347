"""`jobrunner tasks`."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import click

from jobrunner.cli import words
from jobrunner.cli.options import json_option, url_option
from jobrunner.cli.teaching import Command
from jobrunner.client import Client, Task


@click.command(cls=Command)
@click.argument("name", required=False)
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
        click.echo("there are no tasks: is a dispatcher running?", err=True)
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
    properties = task["params"].get("properties", {})
    required = task["params"].get("required", [])
    rows = [
        (f"  {key}", _kind(schema), _default(key, schema, required)) for key, schema in properties.items()
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
    """Return a command that submits the task; what it must be given and has no default stands as `...`."""
    required = task["params"].get("required", [])
    arguments = "".join(f" {shlex.quote(key)}=..." for key in required)
    return f"jobrunner submit {shlex.quote(task['name'])}{arguments} --follow"


def _kind(schema: dict[str, Any]) -> str:
    """Say what a schema allows, in few words where there are few; else the schema itself."""
    if "enum" in schema:
        return " | ".join(words.value(one) for one in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(map(_kind, schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = str(schema.get("type", "anything"))
    limits = [f"{sign} {words.number(schema[key])}" for key, sign in _LIMITS.items() if key in schema]
    return " ".join([kind, *limits])


_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _default(key: str, schema: dict[str, Any], required: list[str]) -> str:
    if key in required:
        return "(must be given)"
    return words.value(schema["default"], 40) if "default" in schema else "(its own)"
