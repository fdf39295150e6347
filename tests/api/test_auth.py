"""Tokens and scopes: who may do what, and that a closed door stays closed."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from jobrunner.api.app import create_app
from jobrunner.api.auth import NEEDED
from jobrunner.settings import Settings
from jobrunner.store import migrations, tokens
from jobrunner.store.engine import Store
from jobrunner.store.tokens import Scope
from tests.api.bearers import bearer, make, revoke
from tests.api.world import World, made_in, problem
from tests.waiting import eventually

JOB = {"task": "demo.nothing", "params": {"n": 3}}
MISSING = 'Bearer realm="jobrunner"'
INVALID = 'Bearer realm="jobrunner", error="invalid_token"'


@dataclass
class Guarded:
    """A world with one token of each scope."""

    world: World

    def __post_init__(self) -> None:
        self.secrets = {scope.value: make(self.world.store, f"the-{scope}", scope) for scope in Scope}

    def ask(self, method: str, path: str, scope: str = "", **more: Any) -> TestResponse:
        """Ask with the token of that scope, or with none."""
        headers = {**more.pop("headers", {}), **(bearer(self.secrets[scope]) if scope else {})}
        return self.world.client.open(path, method=method, headers=headers, **more)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    world = made_in(tmp_path)
    yield Guarded(world)
    world.close()


# -- the table -----------------------------------------------------------------------------------

ENDPOINTS = [
    (method, rule.rule, rule.endpoint)
    for rule in create_app(Settings(data=Path("nowhere"))).url_map.iter_rules()
    for method in sorted(rule.methods or ())
    if method != "OPTIONS"
]
OPEN = {"/livez", "/readyz", "/problems", "/problems/<name>"}


def test_every_endpoint_has_a_scope() -> None:
    assert {endpoint for _, _, endpoint in ENDPOINTS} == NEEDED.keys()


def test_reading_takes_read_jobs_take_submit_and_the_rest_takes_admin() -> None:
    by_method = {"GET": Scope.READ, "HEAD": Scope.READ, "POST": Scope.SUBMIT}
    for method, path, endpoint in ENDPOINTS:
        assert NEEDED[endpoint] == (None if path in OPEN else by_method.get(method, Scope.ADMIN)), path


def test_a_scope_includes_those_before_it() -> None:
    covered = {(one, other) for one in Scope for other in Scope if one.covers(other)}
    read, submit, admin = Scope.READ, Scope.SUBMIT, Scope.ADMIN
    assert covered == {
        *((read, read), (submit, read), (submit, submit)),
        *((admin, read), (admin, submit), (admin, admin)),
    }


@pytest.mark.parametrize("scope", ["", *Scope])
def test_every_endpoint_lets_in_whom_it_must_and_nobody_else(guarded: Guarded, scope: str) -> None:
    for method, rule, endpoint in ENDPOINTS:
        path = rule.replace("<job_id:job_id>", "7").replace("<name>", "x").replace("<path:name>", "x")
        needed = NEEDED[endpoint]
        answer = guarded.ask(method, path, scope)
        if needed is None or (scope and Scope(scope).covers(needed)):
            assert answer.status_code not in (401, 403), (method, path)
        elif method == "HEAD":
            assert answer.status_code == 401
        elif scope:
            told = problem(answer, 403, "insufficient-scope")
            assert f"has the scope {scope}, this takes {needed}" in told["detail"]
            assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["WWW-Authenticate"]
        else:
            problem(answer, 401, "token-missing")
            assert answer.headers["WWW-Authenticate"] == MISSING


def test_an_endpoint_that_the_table_does_not_name_takes_admin(guarded: Guarded) -> None:
    guarded.world.app.add_url_rule("/new", "new", lambda: "shown", methods=["GET", "POST"])
    for method in ("GET", "HEAD", "POST"):
        asked = [guarded.ask(method, "/new", scope).status_code for scope in ("", *Scope)]
        assert asked == [401, 403, 403, 200]


# -- tokens --------------------------------------------------------------------------------------


def test_without_tokens_everybody_may_do_everything(world: World) -> None:
    job_id = world.cancelled()
    assert world.client.delete(f"/jobs/{job_id}").status_code == 204
    assert world.client.get("/jobs", headers=bearer("jr_of_another_service")).status_code == 200


def test_from_the_first_token_on_every_request_needs_one(world: World) -> None:
    assert world.client.get("/jobs").status_code == 200
    secret = make(world.store, "first", "read")
    eventually(lambda: world.client.get("/jobs").status_code == 401)
    assert world.client.get("/jobs", headers=bearer(secret)).status_code == 200


def test_a_new_token_is_known_at_once(guarded: Guarded) -> None:
    assert guarded.ask("GET", "/jobs", "read").status_code == 200
    secret = make(guarded.world.store, "new", "read")
    assert guarded.world.client.get("/jobs", headers=bearer(secret)).status_code == 200


def test_a_revoked_token_is_refused_soon(guarded: Guarded) -> None:
    assert guarded.ask("POST", "/jobs", "submit", json=JOB).status_code == 202
    revoke(guarded.world.store, "the-submit")
    eventually(lambda: guarded.ask("GET", "/jobs", "submit").status_code == 401, 5)
    answer = guarded.ask("GET", "/jobs", "submit")
    problem(answer, 401, "invalid-token")
    assert answer.headers["WWW-Authenticate"] == INVALID
    assert guarded.ask("GET", "/jobs", "read").status_code == 200


def test_the_door_stays_shut_when_the_last_token_is_revoked(guarded: Guarded) -> None:
    for name in Scope:
        revoke(guarded.world.store, f"the-{name}")
    problem(guarded.ask("GET", "/jobs"), 401, "token-missing")
    eventually(lambda: guarded.ask("GET", "/jobs", "admin").status_code == 401, 5)
    later = create_app(guarded.world.settings)
    problem(later.test_client().get("/jobs"), 401, "token-missing")
    later.store.close()


def test_a_token_that_was_made_anew_does_not_bring_the_old_one_back(guarded: Guarded) -> None:
    old = guarded.secrets["read"]
    revoke(guarded.world.store, "the-read")
    make(guarded.world.store, "the-read", "read")
    eventually(lambda: guarded.world.client.get("/jobs", headers=bearer(old)).status_code == 401, 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda secret: f"Bearer {secret[:-1]}",
        lambda secret: f"Bearer {secret}x",
        lambda secret: f"Bearer {secret}=",
        lambda secret: f"Bearer {secret.swapcase()}",
        lambda secret: f"Bearer {secret.removeprefix('jr_')}",
        lambda secret: f"Bearer {tokens.digest_of(secret)}",
        lambda secret: f"Bearer {secret} {secret}",
        lambda secret: f"Bearer {secret},Bearer {secret}",
        lambda secret: f"Bearer {secret}, {secret}",
        lambda secret: f'Bearer "{secret}"',
        lambda secret: f"Bearer={secret}",
        lambda secret: f"Bearer\t{secret}",
        lambda secret: f"Token {secret}",
        lambda secret: f"Basic {secret}",
        lambda secret: f"Bearer {secret}\xa0",
        lambda secret: f"Bearer {secret}é",
        lambda secret: f"xBearer {secret}",
        lambda secret: secret,
        lambda _: "Bearer",
        lambda _: "Bearer ",
        lambda _: "Bearer %",
        lambda _: "Bearer ' OR 1=1 --",
        lambda _: "Bearer \xff",
        lambda _: "",
    ],
)
def test_what_is_not_quite_a_token_is_none(guarded: Guarded, change: Any) -> None:
    answer = guarded.ask("GET", "/jobs", headers={"Authorization": change(guarded.secrets["admin"])})
    problem(answer, 401, "invalid-token")
    assert answer.headers["WWW-Authenticate"] == INVALID


def test_the_word_bearer_may_be_written_in_any_case(guarded: Guarded) -> None:
    for word in ("bearer", "BEARER", "bEARER "):
        header = {"Authorization": f"{word} {guarded.secrets['read']}"}
        assert guarded.ask("GET", "/jobs", headers=header).status_code == 200


def test_a_token_counts_nowhere_but_in_its_header(guarded: Guarded) -> None:
    secret = guarded.secrets["admin"]
    for name in ("token", "access_token"):
        problem(guarded.ask("GET", f"/jobs?{name}={secret}"), 401, "token-missing")
    others = {"Cookie": f"token={secret}", "X-Api-Key": secret, "Proxy-Authorization": f"Bearer {secret}"}
    problem(guarded.ask("GET", "/jobs", headers=others), 401, "token-missing")


def test_a_scope_does_not_grow_by_asking_otherwise(guarded: Guarded) -> None:
    job_id = guarded.ask("POST", "/jobs", "submit", json=JOB).get_json()["id"]
    guarded.ask("POST", f"/jobs/{job_id}/cancel", "submit")
    override = {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE"}
    for method in ("GET", "HEAD"):
        assert guarded.ask(method, f"/jobs/{job_id}", "read", headers=override).status_code == 200
    assert guarded.ask("POST", f"/jobs/{job_id}", "read", headers=override).status_code == 405
    assert guarded.ask("POST", f"/jobs/{job_id}/retry?_method=GET", "read").status_code == 403
    assert guarded.ask("GET", f"/jobs/{job_id}/retry", "read").status_code == 405
    assert guarded.ask("delete", f"/jobs/{job_id}", "read").status_code in (403, 405)
    assert guarded.ask("GET", f"/jobs/{job_id}", "read").get_json()["state"] == "cancelled"


def test_who_is_refused_is_not_told_whether_a_job_exists(guarded: Guarded) -> None:
    job_id = guarded.ask("POST", "/jobs", "submit", json=JOB).get_json()["id"]
    for scope, method in (("", "GET"), ("read", "DELETE")):
        there, elsewhere = (guarded.ask(method, f"/jobs/{one}", scope) for one in (job_id, 999))
        assert (there.status_code, there.text) == (elsewhere.status_code, elsewhere.text)


def test_a_body_is_not_looked_at_before_its_sender_may(guarded: Guarded) -> None:
    for body in (b"nonsense", b"[" * 100_000):
        answer = guarded.ask("POST", "/jobs", data=body, content_type="application/json")
        problem(answer, 401, "token-missing")


def test_tokens_are_long_random_and_kept_as_digests_alone(guarded: Guarded, tmp_path: Path) -> None:
    assert len(set(guarded.secrets.values())) == 3
    guarded.world.store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    for secret in guarded.secrets.values():
        assert secret.startswith("jr_")
        assert len(secret) == 3 + 43  # 32 random bytes
        assert secret.encode() not in kept
        assert secret[3:20].encode() not in kept
        assert tokens.digest_of(secret).encode() in kept


def test_what_a_token_is_compared_with_is_no_token_but_digests(guarded: Guarded) -> None:
    """So a guess that begins well takes as long as any other."""
    assert guarded.ask("GET", "/jobs", "read").status_code == 200
    known = guarded.world.app.keyring._known.by_digest
    assert set(known) == {tokens.digest_of(secret) for secret in guarded.secrets.values()}
    assert not [secret for secret in guarded.secrets.values() if secret[3:] in repr(known)]


# -- what is open to all -------------------------------------------------------------------------


def test_whether_it_lives_and_is_ready_is_told_to_all_but_why_not_to_readers(guarded: Guarded) -> None:
    assert guarded.ask("GET", "/livez").get_json() == {"alive": True}
    guarded.world.dispatcher_falls_silent()
    for answer in (guarded.ask("GET", "/readyz"), guarded.ask("GET", "/readyz", headers=bearer("jr_x"))):
        told = problem(answer, 503, "not-ready")
        assert {one["detail"] for one in told["checks"]} == {"to be told takes a token"}
        assert [one["name"] for one in told["checks"] if not one["ok"]] == ["dispatcher"]
        assert str(guarded.world.store.path) not in answer.text
    told = problem(guarded.ask("GET", "/readyz", "read"), 503, "not-ready")
    assert "none is alive" in told["detail"]


def test_the_problem_of_being_refused_explains_itself_to_all(guarded: Guarded) -> None:
    refused = guarded.ask("GET", "/jobs").get_json()
    assert "jobrunner token create" in guarded.ask("GET", refused["type"]).text


# -- when the store does not say -----------------------------------------------------------------


def test_what_needs_a_token_needs_one_whatever_the_store_says(tmp_path: Path) -> None:
    migrations.prepare(Store(Settings(data=tmp_path).url))
    app = create_app(Settings(data=tmp_path), needs_token=True)
    problem(app.test_client().get("/jobs"), 401, "token-missing")
    problem(app.test_client().get("/jobs", headers=bearer("jr_x")), 401, "invalid-token")
    app.store.close()


@pytest.mark.parametrize("statement", ["DELETE FROM token", "DROP TABLE token"])
def test_a_store_that_has_lost_its_tokens_lets_nobody_in(guarded: Guarded, statement: str) -> None:
    assert guarded.ask("GET", "/jobs", "read").status_code == 200
    connection = sqlite3.connect(guarded.world.store.path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    assert guarded.ask("GET", "/jobs").status_code in (401, 503)
    eventually(lambda: guarded.ask("GET", "/jobs", "read").status_code in (401, 503), 5)
    assert guarded.ask("GET", "/jobs").status_code in (401, 503)
    told = guarded.ask("GET", "/readyz").get_json()
    assert {one["detail"] for one in told["checks"]} == {"to be told takes a token"}


def test_without_a_store_nobody_is_let_in(tmp_path: Path) -> None:
    client = create_app(Settings(data=tmp_path)).test_client()
    problem(client.get("/jobs"), 503, "schema-version")
    problem(client.get("/"), 503, "schema-version")
    assert client.get("/livez").status_code == 200


# -- idempotency keys ----------------------------------------------------------------------------


def post(guarded: Guarded, secret: str, body: Any = JOB) -> TestResponse:
    headers = {**bearer(secret), "Idempotency-Key": "night-17"}
    return guarded.world.client.post("/jobs", json=body, headers=headers)


def test_the_idempotency_key_of_another_token_is_another_key(guarded: Guarded) -> None:
    first, again = post(guarded, guarded.secrets["submit"]), post(guarded, guarded.secrets["submit"])
    assert again.get_json()["id"] == first.get_json()["id"]
    other = post(guarded, guarded.secrets["admin"])
    assert "Idempotency-Replayed" not in other.headers
    assert other.get_json()["id"] != first.get_json()["id"]
    assert post(guarded, guarded.secrets["admin"]).get_json()["id"] == other.get_json()["id"]
    third = make(guarded.world.store, "third", "submit")
    assert post(guarded, third, {**JOB, "params": {"n": 4}}).status_code == 202  # no mismatch to learn from
    assert guarded.world.count() == 3


def test_a_later_token_of_the_same_name_does_not_inherit_keys(guarded: Guarded) -> None:
    first = post(guarded, guarded.secrets["submit"])
    revoke(guarded.world.store, "the-submit")
    heir = make(guarded.world.store, "the-submit", "submit")
    assert post(guarded, heir).get_json()["id"] != first.get_json()["id"]


def test_keys_from_before_there_were_tokens_belong_to_nobody(world: World) -> None:
    headers = {"Idempotency-Key": "night-17"}
    first = world.client.post("/jobs", json=JOB, headers=headers)
    guarded = Guarded(world)
    eventually(lambda: world.client.get("/jobs").status_code == 401, 5)
    assert post(guarded, guarded.secrets["admin"]).get_json()["id"] != first.get_json()["id"]


# -- pages of other sites ------------------------------------------------------------------------

SAME_SITE = [
    {"Host": "localhost:8000"},
    {"Host": "LOCALHOST"},
    {"Host": "jobs.localhost:8000"},
    {"Host": "127.0.0.1:8000"},
    {"Host": "[::1]:8000"},
    {"Host": "192.0.2.7"},
    {"Host": "localhost:8000", "Origin": "http://localhost:8000"},
]
OTHER_SITE = [
    {"Host": "rebound.example:8000"},
    {"Host": "rebound.example:8000", "Origin": "http://rebound.example:8000"},
    {"Host": "localhost.example"},
    {"Host": "127.0.0.1.example"},
    {"Host": "localhost@rebound.example"},
    {"Host": "[::1"},
    {"Host": ""},
    {"Host": "localhost:8000", "Origin": "http://evil.example"},
    {"Host": "localhost:8000", "Origin": "http://localhost:9000"},
    {"Host": "localhost:8000", "Origin": "http://localhost"},
    {"Host": "localhost:8000", "Origin": "null"},
    {"Host": "localhost:8000", "Origin": "http://["},
]


@pytest.mark.parametrize("headers", SAME_SITE)
def test_without_tokens_who_asks_for_this_machine_is_answered(world: World, headers: dict[str, str]) -> None:
    assert world.client.post("/jobs", json=JOB, headers=headers).status_code == 202


@pytest.mark.parametrize("headers", OTHER_SITE)
def test_without_tokens_a_page_of_another_site_gets_nothing(world: World, headers: dict[str, str]) -> None:
    job_id = world.submit()
    problem(world.client.get("/jobs", headers=headers), 403, "foreign-site")
    problem(world.client.post("/jobs", json=JOB, headers=headers), 403, "foreign-site")
    problem(world.client.post(f"/jobs/{job_id}/cancel", headers=headers), 403, "foreign-site")
    details = {one["detail"] for one in world.client.get("/readyz", headers=headers).get_json()["checks"]}
    assert details == {"to be told takes a token"}
    assert (world.count(), world.show(job_id)["state"]) == (1, "queued")


def test_over_a_unix_socket_which_no_page_can_reach_any_name_will_do(world: World) -> None:
    answer = world.client.get("/jobs", headers={"Host": "jobs"}, environ_overrides={"REMOTE_ADDR": ""})
    assert answer.status_code == 200


@pytest.mark.parametrize("headers", [*SAME_SITE, *(one for one in OTHER_SITE if one["Host"])])
def test_with_a_token_any_name_will_do(guarded: Guarded, headers: dict[str, str]) -> None:
    assert guarded.ask("GET", "/jobs", "read", headers=headers).status_code == 200


def test_no_other_site_is_invited(guarded: Guarded) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    answers = [
        guarded.ask("GET", "/jobs", "read", headers=origin),
        guarded.ask("POST", "/jobs", "submit", headers=origin, json=JOB),
        guarded.ask("GET", "/livez", headers=origin),
        guarded.ask("OPTIONS", "/jobs", "read", headers=preflight),
    ]
    assert [answer.status_code for answer in answers] == [200, 202, 200, 200]
    problem(guarded.ask("OPTIONS", "/jobs", headers=preflight), 401, "token-missing")
    for answer in answers:
        assert not [name for name in answer.headers.keys() if name.lower().startswith("access-control")]  # noqa: SIM118
