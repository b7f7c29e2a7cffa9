"""Who may come in: tokens, hosts, origins, pace; and that no server listens to strangers without a token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from vivant.errors import InputError
from vivant.web.app import build
from vivant.web.gate import Pace
from vivant.web.settings import Serving, is_loopback

TOKEN = "a-token-of-some-length"


@pytest.fixture
def guarded(serving: Callable[..., Serving]) -> TestClient:
    """A server with a token; its engine is not started."""
    return TestClient(build(serving(token=TOKEN))[0], base_url="http://faces.example.org")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org", ""])
def test_other_hosts_need_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InputError, match="VIVANT_TOKEN"):
        Serving(host=host)
    with pytest.raises(InputError, match="16 characters"):
        Serving(host=host, token="short")
    assert Serving(host=host, token=TOKEN).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    assert Serving(host=host).token is None


def test_every_way_in_asks_for_the_token(guarded: TestClient) -> None:
    paths = guarded.get("/openapi.json", headers={"authorization": f"Bearer {TOKEN}"}).json()["paths"]
    for path, verbs in paths.items():
        for verb in verbs:
            if path != "/healthz":
                answer = guarded.request(verb, path.replace("{name}", "A" * 22))
                assert answer.status_code == 401, (verb, path)
    for wrong in ("Bearer nonsense", f"Basic {TOKEN}", f"Bearer {TOKEN} ", "Bearer", f"bearer {TOKEN}x"):
        answer = guarded.get("/v1/server", headers={"authorization": wrong})
        assert answer.status_code == (200 if wrong.strip() == f"Bearer {TOKEN}" else 401)
    assert guarded.get("/healthz").status_code == guarded.get("/").status_code == 200


def test_a_socket_says_its_token_first(guarded: TestClient) -> None:
    hello = {"type": "hello", "version": 1, "portrait": "A" * 22}
    for token, said in ((None, "token"), ("x" * 20, "token"), (TOKEN, "there is no picture")):
        with guarded.websocket_connect("/v1/live") as socket:
            socket.send_json({**hello, "token": token})
            answer = socket.receive_json()
        assert answer["fatal"]
        assert said in answer["message"]


def test_pages_of_others_are_refused(client: TestClient, guarded: TestClient) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1.evil.example"):
        assert client.get("/healthz", headers={"origin": origin}).status_code == 403
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("ws://127.0.0.1/v1/live", headers={"origin": origin}),
        ):
            pass
        assert refused.value.code == 4403
    assert client.get("/healthz", headers={"origin": "http://127.0.0.1"}).status_code == 200
    assert "access-control-allow-origin" not in client.get("/healthz").headers
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/healthz", headers={"host": "[evil"}).status_code == 421
    assert guarded.get("/healthz").status_code == 200


def test_every_answer_carries_the_strict_headers(client: TestClient) -> None:
    for path in ("/", "/static/app.js", "/healthz", "/nowhere", "/static/../app.py", "/static/%2e%2e/app.py"):
        answer = client.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        if ".." in path or "%2e" in path or path == "/nowhere":
            assert answer.status_code == 404


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/").text
    assert "http://" not in page
    assert "https://" not in page
    assert " style=" not in page
    assert "<script>" not in page
    assert "onclick" not in page


def test_pace_refills_evenly_and_forgets_the_oldest() -> None:
    now = [0.0]
    pace = Pace(60, lambda: now[0])
    assert [pace.allows("a") for _ in range(61)] == [True] * 60 + [False]
    assert pace.allows("b")
    now[0] = 1.0
    assert [pace.allows("a") for _ in range(2)] == [True, False]
    for number in range(5000):
        pace.allows(str(number))
    assert len(pace._buckets) <= 4096


def test_too_many_requests_are_told_to_wait(serving: Callable[..., Serving]) -> None:
    client = TestClient(build(serving(requests_per_minute=5))[0], base_url="http://127.0.0.1")
    assert [client.get("/healthz").status_code for _ in range(6)] == [200] * 5 + [429]
