"""Viewers far ahead, presets that answer many frames later, and what is said where one cannot be had."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import vivant
from vivant import checkpoint
from vivant.engines.personalive.engine import PersonaLive
from vivant.errors import InputError
from vivant.face.models import face_models_available
from vivant.live.latency import check_promise
from vivant.marks.watermark import Marker
from vivant.media.packets import PacketEncoder
from vivant.web import backlog, protocol
from vivant.web import viewer as live
from vivant.web.app import build
from vivant.web.client import LiveClient
from vivant.web.settings import Serving

from .conftest import HOST, hello, noise, running
from .test_live import Viewer, upload, viewer

WAITS = 15
"""Frames beyond the first before the first picture, as with personalive-mini: chunks of four, a delay of twelve."""


@pytest.fixture
def client_of_late(serving: Callable[..., Serving], late: Path) -> Any:
    app, _ = build(serving(preset=(str(late),)))
    with TestClient(app, base_url=HOST) as made:
        yield made


def offline(folder: Path, portrait: int, frames: list[np.ndarray]) -> list[np.ndarray]:
    engine = vivant.load(folder)
    prepared = engine.prepare(noise(portrait), face=None)
    return list(vivant.animate(engine, prepared, frames, frame_rate=25, driving_face=None))


@pytest.mark.parametrize(("promised_ms", "warns"), [(300.0, True), (9000.0, False)])
def test_whoever_runs_a_server_is_warned_of_a_promise_that_cannot_be_kept(
    serving: Callable[..., Serving],
    late: Path,
    caplog: pytest.LogCaptureFixture,
    promised_ms: float,
    warns: bool,
) -> None:
    app, _ = build(serving(preset=(str(late),), max_latency_ms=promised_ms))
    with TestClient(app, base_url=HOST):
        assert (
            any("--max-latency 1200" in getattr(record, "reason", "") for record in caplog.records) == warns
        )


@pytest.mark.parametrize("ahead", [30, 200])
def test_a_file_far_ahead_of_its_pictures_gets_them_all(client: TestClient, tiny: Path, ahead: int) -> None:
    """`viewed` comes behind frames that wait, and is heard all the same."""
    frames = [noise(index % 7) for index in range(ahead)]
    with viewer(client) as user:
        marker = Marker(int(user.start(upload(client, 1)).session, 16))
        encoded = PacketEncoder("png")
        for image in frames:
            user.push(image, encoded)
        got = [user.picture() for _ in frames]
    expected = offline(tiny, 1, frames)
    assert all(np.array_equal(a, marker.mark(b)) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(("limit", "value"), [("MAX_AHEAD", 20), ("MAX_AHEAD_BYTES", 30_000)])
def test_a_file_too_far_ahead_is_told_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(backlog, limit, value)
    with viewer(client) as user:
        user.start(upload(client, 1))
        for index in range(60):
            user.push(noise(index % 7))
        while (told := user.socket.receive()).get("text") is None or '"error"' not in told["text"]:
            assert told["type"] != "websocket.close"
    assert "wait for pictures before sending more" in told["text"]
    assert '"fatal":true' in told["text"]
    assert "vivant_sessions 0" in client.get("/metrics").text


@pytest.mark.parametrize("count", [3, 16, 30])
def test_a_program_gets_a_picture_for_each_frame_of_a_preset_that_answers_late(
    serving: Callable[..., Serving], late: Path, tmp_path: Path, count: int
) -> None:
    frames = [noise(index) for index in range(count)]
    app, house = build(serving(preset=(str(late),)))
    with running(app) as address, LiveClient(address) as client:
        ready = client.start(hello(client, tmp_path))
        assert ready.latency_frames == WAITS
        got = list(client.animate(frames))
        with pytest.raises(InputError, match="the server ended the session"):
            client.picture()
    marker = Marker(int(ready.session, 16))
    expected = offline(late, 1, frames)
    assert len(got) == len(expected) == count
    assert all(np.array_equal(a, marker.mark(b)) for a, b in zip(got, expected, strict=True))
    assert (house.metrics.sessions, house.metrics.frames_shown_total) == (0, count)


def said(user: Viewer, kind: type) -> Any:
    """The next message of that kind; pictures between are not reported as viewed."""
    while True:
        told = user.socket.receive()
        if told.get("text") is not None and isinstance(message := protocol.parse_server(told["text"]), kind):
            return message


def fatal(user: Viewer) -> protocol.Trouble:
    """What ended the session, whatever pictures came before."""
    numbers_until_the_end(user)
    last = user.told[-1]
    assert isinstance(last, protocol.Trouble)
    return last


def numbers_until_the_end(user: Viewer) -> tuple[list[int], Any]:
    """Of the pictures, each reported as viewed; and how the session ended."""
    numbers = []
    while (told := user.socket.receive())["type"] != "websocket.close":
        if told.get("bytes") is None:
            user.told.append(protocol.parse_server(told["text"]))
            continue
        numbers.append(protocol.parse_binary(told["bytes"]).number)
        seen = protocol.Viewed(number=numbers[-1], latency_ms=12)
        user.socket.send_text(seen.model_dump_json())
    return numbers, told["code"]


@pytest.mark.parametrize("which", ["late", "tiny"])
def test_end_brings_the_rest_in_order_and_then_the_end(
    serving: Callable[..., Serving], request: pytest.FixtureRequest, which: str
) -> None:
    app, _ = build(serving(preset=(str(request.getfixturevalue(which)),)))
    with TestClient(app, base_url=HOST) as client, viewer(client) as user:
        user.start(upload(client, 1))
        for index in range(22):
            user.push(noise(index))
        user.socket.send_text(protocol.End().model_dump_json())
        user.socket.send_text(protocol.WantKey().model_dump_json())
        assert numbers_until_the_end(user) == (list(range(22)), 1000)


def test_a_silent_viewer_is_waited_for_while_it_has_nothing_to_say(
    client_of_late: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "IDLE_SECONDS", 0.4)
    flush = PersonaLive.flush

    def slow(self: PersonaLive, state: Any) -> Any:
        threading.Event().wait(1.5)
        return flush(self, state)

    monkeypatch.setattr(PersonaLive, "flush", slow)
    with viewer(client_of_late) as user:
        user.start(upload(client_of_late, 1))
        for index in range(4):
            user.push(noise(index))
        user.socket.send_text(protocol.End().model_dump_json())
        assert numbers_until_the_end(user) == ([0, 1, 2, 3], 1000)
    with viewer(client_of_late) as user:
        user.start(upload(client_of_late, 1))
        assert "silent for too long" in user.said(protocol.Trouble).message


@pytest.mark.parametrize(
    "more", [protocol.Restart(), protocol.ChangeOptions(options={}), protocol.End(), None]
)
def test_after_the_end_comes_nothing(client_of_late: TestClient, more: Any) -> None:
    with viewer(client_of_late) as user:
        user.start(upload(client_of_late, 1))
        user.push(noise(1))
        user.socket.send_text(protocol.End().model_dump_json())
        if more is None:
            user.push(noise(2))
        else:
            user.socket.send_text(more.model_dump_json())
        assert "after end nothing comes" in fatal(user).message


def test_a_camera_has_no_end(client: TestClient) -> None:
    with viewer(client) as user:
        user.start(upload(client, 1), mode="camera")
        user.socket.send_text(protocol.End().model_dump_json())
        assert "end is not for this mode" in user.said(protocol.Trouble).message


def test_a_promise_that_the_preset_cannot_keep_is_refused_as_on_the_command_line(
    client_of_late: TestClient,
) -> None:
    name = upload(client_of_late, 1)
    with viewer(client_of_late) as user:
        refused = user.start(name, mode="camera", max_latency_ms=500)
    with viewer(client_of_late) as user:
        kept = user.start(name, mode="camera", max_latency_ms=601)
        assert kept.type == "ready"
    with viewer(client_of_late) as user:
        assert user.start(name, mode="file", max_latency_ms=20).type == "ready"
    assert isinstance(refused, protocol.Trouble)
    assert refused.message.startswith("this preset answers 600 ms after")


def test_the_sentence_is_that_of_vivant_live(client_of_late: TestClient, late: Path) -> None:
    with viewer(client_of_late) as user:
        refused = user.start(upload(client_of_late, 1), mode="camera", max_latency_ms=500, rate_hz=20)
    with pytest.raises(InputError) as told:
        check_promise(vivant.load(late).stream, 20, 500)
    assert refused.message == str(told.value)


def test_pictures_that_come_at_once_are_not_dropped(client_of_late: TestClient) -> None:
    """Five chunks, of which nobody has seen one."""
    with viewer(client_of_late) as user:
        user.start(
            upload(client_of_late, 1), mode="camera", max_latency_ms=9000, rate_hz=60, acknowledge=True
        )
        for first in range(0, 32, 4):  # as a viewer that heeds what was taken
            for number in range(first, first + 4):
                user.push(noise(number))
            while said(user, protocol.Taken).number < first + 3:
                pass
        shown = said(user, protocol.Stats)
        while shown.shown < 20:
            shown = said(user, protocol.Stats)
        assert shown.dropped == 0


@pytest.mark.parametrize("acknowledge", [True, False])
def test_a_camera_is_told_what_was_taken_where_it_asks(client_of_late: TestClient, acknowledge: bool) -> None:
    with viewer(client_of_late) as user:
        user.start(
            upload(client_of_late, 1), mode="camera", max_latency_ms=9000, rate_hz=60, acknowledge=acknowledge
        )
        for index in range(12):  # not enough for a picture
            user.push(noise(index))
        if acknowledge:
            while user.said(protocol.Taken).number < 11:
                pass
        else:
            told = [protocol.parse_server(user.socket.receive_text()) for _ in range(2)]
            assert all(isinstance(each, protocol.Stats) for each in told)


@pytest.mark.skipif(not face_models_available(), reason="the face models are not on this machine")
def test_a_picture_without_a_face_is_named_and_not_its_place(client: TestClient, tmp_path: Path) -> None:
    with viewer(client) as user:
        refused = user.start(upload(client, 1), face="largest")
    assert refused.message.startswith("no face found in the picture")
    assert str(tmp_path) not in refused.message
    assert "/" not in refused.message


def test_a_preset_that_cannot_be_loaded_is_named_and_its_place_is_logged(
    serving: Callable[..., Serving], tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, gone = (shutil.copytree(tiny, tmp_path / name) for name in ("damaged", "gone"))
    app, _ = build(serving(preset=(str(tiny), str(damaged), str(gone))))
    (damaged / checkpoint.WEIGHTS).write_bytes(b"no weights")
    shutil.rmtree(gone)
    with TestClient(app, base_url=HOST) as client:
        name = upload(client, 1)
        for preset in ("damaged", "gone"):
            with viewer(client) as user:
                refused = user.start(name, preset=preset)
            assert preset in refused.message
            assert str(tmp_path) not in refused.message
        with viewer(client) as user:
            refused = user.start(name, mode="voice")
            assert "cannot drive tiny" in refused.message
            assert str(tiny.parent) not in refused.message
    assert any(str(damaged) in str(vars(record).get("reason")) for record in caplog.records)
