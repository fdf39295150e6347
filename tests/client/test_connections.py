"""The client's connections: kept, lost, refused, shared."""

import os
import socket
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobrunner.client import BadAnswerError, Client, ProblemError, UnreachableError
from tests.cli.scripted import Reply, Server, job


def test_many_requests_go_over_one_connection(server: Server, client: Client) -> None:
    server.replies = [Reply(job()) for _ in range(5)]
    for _ in range(5):
        client.job(1).refresh()
    assert {request.connection for request in server.requests} == {1}


def test_a_problem_leaves_the_connection_open(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "no"}, status=404), Reply(job())]
    with pytest.raises(ProblemError):
        client.job(1).refresh()
    client.job(1).refresh()
    assert [request.connection for request in server.requests] == [1, 1]


def test_a_connection_that_the_server_has_closed_meanwhile_is_opened_again_even_for_a_post(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job(), hang_up="after"), Reply(job())]
    client.job(1).refresh()
    assert server.hung_up.wait(5)
    client.job(1).retry()  # which is never sent twice
    assert [(request.method, request.connection) for request in server.requests] == [("GET", 1), ("POST", 2)]


def test_a_get_that_lost_its_connection_is_sent_again_once(server: Server, client: Client) -> None:
    server.replies = [Reply(job()), Reply(hang_up="before"), Reply(job(id=2))]
    client.job(1).refresh()
    assert client.job(2).refresh().data["id"] == 2
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_a_submission_that_lost_its_connection_is_sent_again_with_the_same_key(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job()), Reply(hang_up="before"), Reply(hang_up="before"), Reply(job())]
    client.submit("a.b")
    client.submit("a.b")
    first, *others = [request.headers["Idempotency-Key"] for request in server.requests]
    assert len(others) == 3
    assert len(set(others)) == 1
    assert first not in others


def test_a_retry_that_lost_its_connection_is_not_sent_twice(server: Server, client: Client) -> None:
    """The job may have run and failed again in between."""
    server.replies = [Reply(job()), Reply(hang_up="before")]
    client.job(1).refresh()
    with pytest.raises(UnreachableError, match="closed the connection before it answered"):
        client.job(1).retry()
    assert [request.method for request in server.requests] == ["GET", "POST"]


def test_an_answer_that_ends_too_early_is_asked_for_again(server: Server, client: Client) -> None:
    cut = Reply(job(), headers={"Content-Length": "100000"}, hang_up="after")
    server.replies = [cut, Reply(job(id=7))]
    assert client.job(7).refresh().data["id"] == 7


def test_an_api_that_has_answered_before_is_waited_for_while_patience_lasts(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job()), *[Reply(hang_up="before")] * 4, Reply(job(state="running"))]
    assert client.job(1).refresh().state == "queued"
    assert client.job(1).refresh().state == "running"


def test_an_api_that_is_away_for_longer_than_patience_lasts_is_given_up(server: Server) -> None:
    server.replies = [Reply(job()), *[Reply(hang_up="before")] * 9]
    with Client(server.url, patience_seconds=0.1) as client:
        client.job(1).refresh()
        with pytest.raises(UnreachableError):
            client.job(1).refresh()
    assert len(server.requests) < 9


def test_threads_share_a_client_each_with_a_connection_of_its_own(server: Server, client: Client) -> None:
    server.replies = [Reply(job()) for _ in range(80)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: client.job(1).refresh(), range(80)))
    assert len(server.requests) == 80
    assert server.connections <= 8


def test_a_forked_process_opens_connections_of_its_own(server: Server, client: Client) -> None:
    server.replies = [Reply(job()) for _ in range(3)]
    client.job(1).refresh()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # that a process with threads forks is the case at hand
        child = os.fork()
    if child == 0:
        try:
            client.job(1).refresh()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    client.job(1).refresh()
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_a_get_on_a_new_connection_that_is_closed_without_an_answer_fails(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(hang_up="before")] * 9
    with pytest.raises(UnreachableError, match="cannot be reached"):
        client.job(1).refresh()
    assert len(server.requests) == 1  # an API that has never answered is not waited for


def test_where_nothing_listens_the_error_says_how_to_start_it_and_how_to_look_elsewhere() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError) as caught:
            Client(url).job(1).refresh()
    assert url in str(caught.value)
    assert "`jobrunner serve`" in str(caught.value)
    assert "--url" in str(caught.value)


def test_a_server_that_never_answers_is_given_up_after_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.05)
        with pytest.raises(UnreachableError, match=r"did not answer within 0\.05 s"):
            client.job(1).refresh()


def test_a_host_that_is_not_known_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"http://no-such-host\.invalid:1 cannot be reached"):
        Client("http://no-such-host.invalid:1").job(1).refresh()


def test_a_server_that_speaks_no_http_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        client = Client(f"http://127.0.0.1:{other.getsockname()[1]}", timeout_seconds=5)

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        with ThreadPoolExecutor(1) as threads:
            threads.submit(greet)
            with pytest.raises(BadAnswerError, match="does not speak HTTP"):
                client.job(1).refresh()
