import json
import os
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

import jobrunner.examples
from jobrunner.tasks.encoding import to_json
from jobrunner.tasks.loading import catalogue
from tests.examples.running import drained, from_json

YIELDING = [f"examples.{name}" for name in ("mandelbrot", "pi", "primes", "train_digits", "word_count")]
NAMES = ["examples.how_many", "examples.is_prime", *YIELDING]

#: small enough to be done in a moment
SMALL: dict[str, dict[str, Any]] = {
    "examples.how_many": {"values": [True, False]},
    "examples.is_prime": {"n": 97},
    "examples.mandelbrot": {"width": 12, "height": 8, "palette": "ice"},
    "examples.pi": {"samples": 2000, "batch": 1000, "seed": 1},
    "examples.primes": {"n": 5000, "segment": 1000},
    "examples.train_digits": {"epochs": 2, "hidden": 8},
    "examples.word_count": {"pattern": "json/*"},
}

TOO_FAR: list[tuple[str, dict[str, Any]]] = [
    ("examples.is_prime", {"n": -1}),
    ("examples.is_prime", {"n": 10**18 + 1}),
    ("examples.mandelbrot", {"width": 0}),
    ("examples.mandelbrot", {"height": 2001}),
    ("examples.mandelbrot", {"zoom": 0}),
    ("examples.mandelbrot", {"palette": "pink"}),
    ("examples.pi", {"samples": 999}),
    ("examples.pi", {"seed": "one"}),
    ("examples.primes", {"n": -1}),
    ("examples.primes", {"n": 10**11 + 1}),
    ("examples.primes", {"segment": 0}),
    ("examples.train_digits", {"epochs": 0}),
    ("examples.train_digits", {"learning_rate": 0}),
    ("examples.train_digits", {"seed": 2**32}),
    ("examples.word_count", {"top": 0}),
    ("examples.word_count", {"folder": "/etc"}),
]


def in_a_new_python(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def published(name: str) -> dict[str, Any]:
    return next(task for task in catalogue() if task["name"] == name)


def test_one_module_name_serves_all_examples() -> None:
    names = in_a_new_python("""
        import json
        from jobrunner.tasks import loading
        failed = [trace for _, trace in loading.load(["jobrunner.examples"]) if trace]
        assert not failed, failed
        print(json.dumps([task["name"] for task in loading.catalogue()]))
    """)
    assert names == NAMES


def test_no_module_of_the_examples_is_forgotten() -> None:
    there = {
        f"jobrunner.examples.{module.name}" for module in pkgutil.iter_modules(jobrunner.examples.__path__)
    }
    assert there <= sys.modules.keys()


def test_importing_the_examples_is_quick_and_loads_nothing_heavy() -> None:
    tries = [
        in_a_new_python("""
            import json, sys, time
            from jobrunner import task
            began = time.process_time()
            import jobrunner.examples
            seconds = time.process_time() - began
            print(json.dumps([seconds, sorted(name.split(".")[0] for name in sys.modules)]))
        """)
        for _ in range(5)
    ]
    assert min(seconds for seconds, _ in tries) < 0.030
    assert {"numpy", "scipy", "sklearn", "flask", "sqlalchemy"}.isdisjoint(tries[0][1])


@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_is_valid_and_accepts_its_own_defaults(name: str) -> None:
    schema = json.loads(json.dumps(published(name)["params"]))
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    checks = jsonschema_rs.validator_for(schema)
    if not schema["required"]:
        checks.validate({field: told["default"] for field, told in schema["properties"].items()})
        checks.validate({})
    checks.validate(SMALL[name])


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_it_does_and_explains_each_parameter(name: str) -> None:
    task = published(name)
    first_line = task["doc"].splitlines()[0]
    assert first_line.endswith(".")
    for field in task["params"]["properties"]:
        assert f"\n    {field}: " in task["doc"], field


@pytest.mark.parametrize("name", YIELDING)
def test_an_example_runs_from_json_and_all_it_says_becomes_json(name: str) -> None:
    partials, result = drained(from_json(name, json.loads(json.dumps(SMALL[name]))))
    assert partials
    for value in (*partials, result):
        assert json.loads(to_json(value, "value")) == value


@pytest.mark.parametrize(("name", "params"), TOO_FAR)
def test_schema_and_conversion_agree_on_what_is_refused(name: str, params: dict[str, Any]) -> None:
    assert not jsonschema_rs.is_valid(published(name)["params"], params)
    with pytest.raises(msgspec.ValidationError):
        from_json(name, params)


def test_without_the_extra_all_but_one_run_and_that_one_names_the_remedy(tmp_path: Path) -> None:
    # Without `site` there is nothing but the standard library, and the two packages linked here.
    for package in (jobrunner, msgspec):
        (tmp_path / package.__name__).symlink_to(package.__path__[0])
    code = f"""
        import importlib.util, json
        from jobrunner.tasks.registry import REGISTRY
        import jobrunner.examples
        assert importlib.util.find_spec("sklearn") is None
        said = {{}}
        for name in {YIELDING!r}:
            try:
                list(REGISTRY[name].function(**{SMALL!r}[name]))
            except ModuleNotFoundError as error:
                said[name] = str(error)
        print(json.dumps(said))
    """
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    remedy = "examples.train_digits needs scikit-learn: pip install 'jobrunner[examples]'"
    assert json.loads(done.stdout) == {"examples.train_digits": remedy}
