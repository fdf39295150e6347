"""Tokens under a systemd of its own, and a client on another machine.

Each test leaves the service as the next one needs it.
"""

import re

import pytest

from tests.deploy.page import blocks
from tests.deploy.service import API, Service, in_a_minute

SOCKET = "jobrunner-api.socket"
_HERE, _OUTSIDE = "http://127.0.0.1:8000", "http://192.0.2.1:8000"
# Another machine, on the same network.
_NEIGHBOUR = """
ip netns add neighbour
ip link add here type veth peer name there netns neighbour
ip address add 192.0.2.1/24 dev here
ip link set here up
ip -n neighbour address add 192.0.2.2/24 dev there
ip -n neighbour link set there up
"""


@pytest.fixture(scope="module")
def neighbour(service: Service) -> None:
    service.box.run(_NEIGHBOUR)


def status(service: Service, url: str, token: str = "", *, from_neighbour: bool = False) -> str:
    """Return the status of a GET; "000" if nobody listens."""
    where = "ip netns exec neighbour" if from_neighbour else "runuser -u nobody --"
    bearer = f"-H 'Authorization: Bearer {token}'" if token else ""
    ask = f"curl -sS -m 30 -o /dev/null -w '%{{http_code}}' {bearer} {url}"
    return service.box.run(f"{where} {ask} || true").splitlines()[-1]


def make_token(service: Service) -> str:
    """Make one as the page says; return it."""
    [command] = blocks("Tokens")
    printed = service.type(f"({command.strip()}) 2>/dev/null").strip()
    assert re.fullmatch(r"jr_[\w-]{43}", printed), printed
    return printed


def open_to_all(service: Service) -> None:
    """Listen as the page says."""
    [text] = blocks("For other machines", "ini")
    folder = f"/etc/systemd/system/{SOCKET}.d"
    service.box.run(
        f"mkdir -p {folder}; cat >{folder}/override.conf <<'END'\n{text}END\nsystemctl daemon-reload"
    )
    [restart] = blocks("For other machines")
    service.type(f"({restart.strip()}) || true")


@pytest.mark.usefixtures("neighbour")
def test_as_installed_no_other_machine_gets_through(service: Service) -> None:
    assert status(service, f"{_HERE}/jobs") == "200"
    assert status(service, f"{_OUTSIDE}/livez", from_neighbour=True) == "000"


def test_an_api_that_others_could_reach_does_not_start_without_a_token(service: Service) -> None:
    open_to_all(service)
    in_a_minute(
        lambda: "jobrunner token create" in service.box.run(f"journalctl --no-pager -o cat -n 20 -u {API}")
    )
    assert service.box.show(API, "ActiveState") != "active"


def test_with_a_token_it_answers_to_others_who_have_it(service: Service) -> None:
    token = make_token(service)
    in_a_minute(lambda: service.box.show(API, "ActiveState") == "active")  # by itself
    for url, from_neighbour in ((_HERE, False), (_OUTSIDE, True)):
        assert status(service, f"{url}/livez", from_neighbour=from_neighbour) == "200"
        assert status(service, f"{url}/jobs", from_neighbour=from_neighbour) == "401"
        assert status(service, f"{url}/jobs", token[:-1], from_neighbour=from_neighbour) == "401"
        assert status(service, f"{url}/jobs", token, from_neighbour=from_neighbour) == "200"
    assert token not in service.box.run("journalctl --no-pager")
    everything = service.box.run("find /var/lib/jobrunner ! -user jobrunner")
    assert everything == ""
