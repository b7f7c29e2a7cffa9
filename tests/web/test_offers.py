"""Several presets on one server: chosen by name, loaded once and not before, and each gives its own pictures."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

import vivant
from vivant import checkpoint
from vivant.engines.refvae.engine import RefVae
from vivant.errors import InputError
from vivant.marks.watermark import Marker
from vivant.web import protocol
from vivant.web.app import build
from vivant.web.house import Workshop
from vivant.web.jobs import Job
from vivant.web.offers import Offers
from vivant.web.settings import Serving

from .conftest import HOST, noise
from .test_live import driving, upload, viewer


def test_each_preset_gives_its_own_pictures(serving: Callable[..., Serving], tiny: Path, other: Path) -> None:
    app, house = build(serving(preset=(str(tiny), str(other))))
    with TestClient(app, base_url=HOST) as client:
        told = client.get("/v1/server")
        assert [offer["name"] for offer in told.json()["presets"]] == ["tiny", "other"]
        assert str(tiny.parent) not in told.text
        assert list(house.workshop._engines) == ["tiny"]
        name, last = upload(client, 1), {}
        for wanted, folder in ((None, tiny), ("other", other)):
            with viewer(client) as user:
                ready = user.start(name, preset=wanted)
                assert ready.preset == folder.name
                for image in driving(1)[:3]:
                    user.push(image)
                got = [user.picture() for _ in range(3)]
            engine = vivant.load(folder)
            made = vivant.animate(
                engine,
                engine.prepare(noise(1), face=None),
                driving(1)[:3],
                frame_rate=25,
                driving_face=None,
            )
            marker = Marker(int(ready.session, 16))
            assert all(np.array_equal(a, marker.mark(b)) for a, b in zip(got, made, strict=True))
            last[folder.name] = got[-1]
        with viewer(client) as user:
            refused = user.start(name, preset="third")
            assert isinstance(refused, protocol.Trouble)
            assert "tiny, other" in refused.message
    assert not np.array_equal(last["tiny"], last["other"])


def test_a_preset_is_loaded_once_however_many_ask(tiny: Path, other: Path) -> None:
    offers = Offers([str(tiny), str(other)])
    workshop = Workshop(offers)

    async def ask() -> list[object]:
        return list(await asyncio.gather(*(workshop.engine(offer) for offer in offers for _ in range(3))))

    first, again, more, *rest = asyncio.run(ask())
    workshop.close()
    assert first is again is more
    assert len({id(engine) for engine in rest}) == 1
    assert rest[0] is not first


def test_what_cannot_be_offered_is_said_at_the_start(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two presets are called tiny"):
        Offers([str(tiny), str(tiny)])
    with pytest.raises(InputError, match="neither a preset"):
        Offers(["liveportrait-mini", str(tmp_path / "nothing")])


def test_a_job_whose_preset_or_picture_is_gone_fails_and_the_next_is_done(
    serving: Callable[..., Serving],
) -> None:
    """Nothing that an order names can end the loop that does the jobs."""
    app, house = build(serving())
    store = house.runner.store
    gone = {"portrait": "p" * 22, "clip": "c" * 22, "options": {}}
    jobs = [store.add("local", gone, 9), store.add("local", gone | {"preset": "third"}, 9)]
    with TestClient(app, base_url=HOST) as client:

        def ended(job: Job) -> str:
            lines = client.get(f"/v1/jobs/{job.id}/events").text.split("data: ")
            return lines[-1]

        told = [ended(job) for job in jobs]
    assert all('"state": "failed"' in last for last in told)
    assert "there is no picture" in told[0]
    assert "this server offers tiny, not third" in told[1]


def test_a_family_that_hears_is_driven_by_sound_alone(
    serving: Callable[..., Serving], tiny: Path, tmp_path: Path
) -> None:
    hearing, config = tmp_path / "hearing", RefVae.tiny_configs()["tiny"]
    torch.manual_seed(0)
    checkpoint.save(hearing, "refvae", config, RefVae.build_networks(config))
    app, house = build(serving(preset=(str(tiny), str(hearing))))
    sound = (np.sin(np.arange(32_000) / 9) * 9000).astype("<i2")
    with TestClient(app, base_url=HOST) as client:
        told = {offer["name"]: offer for offer in client.get("/v1/server").json()["presets"]}
        assert [(told[name]["hears"], told[name]["sees"]) for name in ("tiny", "hearing")] == [
            (False, True),
            (True, False),
        ]
        name = upload(client, 1)
        with viewer(client) as user:
            refused = user.start(name, preset="hearing")
            assert "driven by sound, not by pictures" in refused.message
        with viewer(client) as user:
            ready = user.start(name, preset="hearing", mode="voice", send="h264")
            assert (ready.rate_hz, ready.sample_rate_hz) == (25, 16_000)
            user.say(sound)
            shown = [user.picture() for _ in range(20)]
            assert any(not np.array_equal(shown[0], image) for image in shown)
        clip = client.post("/v1/clips", content=wav(sound)).json()["id"]
        order = {"portrait": name, "clip": clip, "preset": "hearing"}
        assert client.post("/v1/jobs", json=order).status_code == 201
        assert client.post("/v1/jobs", json=order | {"preset": "tiny"}).status_code == 409
    assert house.metrics.sessions == 0


def wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()
