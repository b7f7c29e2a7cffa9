"""Render jobs: the store survives what may come, and a job through the whole server gives what the command gives."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from vivant.checkpoint import WEIGHTS, read_config
from vivant.marks.credentials import read
from vivant.media.reader import read_clip
from vivant.media.writer import VideoWriter
from vivant.web import runner
from vivant.web.app import build
from vivant.web.jobs import MAX_ATTEMPTS, JobStore, NotNowError, UnknownJobError
from vivant.web.sandbox import surroundings
from vivant.web.settings import Serving

from .conftest import HOST, noise, png

ORDER = {"portrait": "p" * 22, "clip": "c" * 22}
JSON = {"content-type": "application/json"}
PATIENCE_SECONDS = 200


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs.sqlite3")


def test_jobs_run_in_order_and_belong_to_their_owner(store: JobStore) -> None:
    first, second = (store.add("me", ORDER, 5) for _ in range(2))
    assert store.needed_uploads() == {ORDER["portrait"], ORDER["clip"]}
    running = store.begin_next()
    assert running is not None
    assert (running.id, running.state, running.attempts) == (first.id, "running", 1)
    store.progress(first.id, 3, 10)
    assert (store.get("me", first.id).done, store.get("me", first.id).total) == (3, 10)
    for owner, name in (
        ("you", first.id),
        ("me", "x" * 22),
        ("me", "'; DROP TABLE jobs --"),
        ("me", "../" * 7),
    ):
        with pytest.raises(UnknownJobError):
            store.get(owner, name)
    store.finish(first.id, "done")
    assert [job.id for job in store.of_owner("me")] == [second.id, first.id]
    assert store.counts() == {"queued": 1, "running": 0, "done": 1, "failed": 0, "cancelled": 0}
    assert store.forget_before(time.time() + 1) == [first.id]


def test_a_user_has_so_many_jobs(store: JobStore) -> None:
    for _ in range(2):
        store.add("me", ORDER, 2)
    with pytest.raises(NotNowError, match="most allowed"):
        store.add("me", ORDER, 2)
    store.add("you", ORDER, 2)


def test_what_may_be_done_depends_on_the_state(store: JobStore) -> None:
    job = store.add("me", ORDER, 5)
    with pytest.raises(NotNowError, match="only failed and cancelled"):
        store.retry("me", job.id, 5)
    assert store.begin_next() is not None
    assert store.cancel("me", job.id).state == "cancelled"
    store.finish(job.id, "done")  # the worker was too late
    assert store.get("me", job.id).state == "cancelled"
    with pytest.raises(NotNowError, match="already"):
        store.cancel("me", job.id)
    other = store.add("me", ORDER, 5)
    with pytest.raises(NotNowError, match="most allowed"):
        store.retry("me", job.id, 1)
    store.cancel("me", other.id)
    assert store.retry("me", job.id, 1).state == "queued"


def test_a_store_that_was_killed_knows_its_jobs_and_queues_what_ran(tmp_path: Path) -> None:
    program = (
        "import os, sys, signal; from pathlib import Path; from vivant.web.jobs import JobStore\n"
        f"store = JobStore(Path(sys.argv[1])); order = {ORDER!r}\n"
        "a, b = store.add('me', order, 5), store.add('me', order, 5)\n"
        "store.begin_next(); store.progress(a.id, 7, 9)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "jobs.sqlite3"
    for attempt in range(1, MAX_ATTEMPTS + 1):
        if attempt == 1:
            ended = subprocess.run(
                [sys.executable, "-c", program, str(path)], env=surroundings(), check=False
            )
            assert ended.returncode == -signal.SIGKILL
        store = JobStore(path)
        ran = [job for job in store.of_owner("me") if job.state == "running"]
        assert [(job.done, job.attempts) for job in ran] == [(7, attempt)] if attempt == 1 else True
        assert store.recover() == (1 if attempt < MAX_ATTEMPTS else 0)
        if attempt < MAX_ATTEMPTS:
            assert store.begin_next() is not None
        store.close()
    store = JobStore(path)
    assert {job.state for job in store.of_owner("me")} == {"failed", "queued"}


def test_a_result_that_is_fetched_is_kept(store: JobStore) -> None:
    job = store.add("me", ORDER, 5)
    assert store.begin_next() is not None
    store.finish(job.id, "done")
    then = time.time()
    store.touch(job.id)
    assert store.forget_before(then) == []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with VideoWriter(path, Fraction(25), 64, 64, crf=0) as writer:
        for index in range(6):
            writer.write(noise(index))
    return path.read_bytes()


def ordered(client: TestClient, clip: bytes, **more: Any) -> dict[str, Any]:
    portrait = client.post("/v1/portraits", content=png(noise(1))).json()
    made = client.post("/v1/clips", content=clip).json()
    assert (made["kind"], made["num_frames"], made["width"]) == ("clip", 6, 64)
    order = {"portrait": portrait["id"], "clip": made["id"], "face": "none", "driving_face": "none"} | more
    answer = client.post("/v1/jobs", json=order)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def finished(client: TestClient, name: str) -> dict[str, Any]:
    """The job's last event; its events are server-sent ones, in order."""
    with client.stream("GET", f"/v1/jobs/{name}/events") as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert [event["done"] for event in events] == sorted(event["done"] for event in events)
    return dict(events[-1])


def test_a_job_goes_through_the_whole_server(
    serving: Callable[..., Serving], tiny: Path, other: Path, clip: bytes, tmp_path: Path
) -> None:
    """With the second of two presets, as the result's credentials say."""
    app, house = build(serving(preset=(str(tiny), str(other))))
    with TestClient(app, base_url=HOST) as client:
        _through_the_whole_server(client, clip, tmp_path)
    assert list(house.runner.frames_per_second) == ["other"]
    told = read(tmp_path / "result.mp4").statement
    assert told is not None
    assert told["weights_sha256"] == read_config(other)["weights_sha256"]


def _through_the_whole_server(client: TestClient, clip: bytes, tmp_path: Path) -> None:
    job = ordered(client, clip, preset="other", compare=True)
    for kind in ("result", "comparison"):
        assert client.get(f"/v1/jobs/{job['id']}/{kind}").status_code == 409
    last = finished(client, job["id"])
    assert (last["state"], last["done"], last["total"], last["error"]) == ("done", 6, 6, None)
    answer = client.get(f"/v1/jobs/{job['id']}/result")
    assert answer.headers["content-type"] == "video/mp4"
    (tmp_path / "result.mp4").write_bytes(answer.content)
    assert len(list(read_clip(tmp_path / "result.mp4"))) == 6
    (tmp_path / "compared.mp4").write_bytes(client.get(f"/v1/jobs/{job['id']}/comparison").content)
    assert read_clip(tmp_path / "compared.mp4").width == 3 * read_clip(tmp_path / "result.mp4").width
    assert 'vivant_jobs{state="done"} 1' in client.get("/metrics").text


def test_a_job_that_cannot_be_done_says_why_without_naming_folders(client: TestClient, clip: bytes) -> None:
    portrait = client.post("/v1/portraits", content=png(noise(1))).json()["id"]
    other = client.post("/v1/clips", content=clip).json()["id"]
    order = {"portrait": portrait, "clip": other, "face": "3", "driving_face": "none"}
    last = finished(client, client.post("/v1/jobs", json=order).json()["id"])
    assert last["state"] == "failed"
    assert "face" in last["error"]
    assert os.sep not in last["error"]
    client.delete(f"/v1/portraits/{portrait}")
    assert client.post("/v1/jobs", json=order).status_code == 404
    for wrong in ({"preset": "x"}, {"crf": 99}, {"output": "/etc/passwd"}, {"face": "f" * 99}):
        assert client.post("/v1/jobs", json={**order, **wrong}).status_code in (404, 422)


def test_the_queue_goes_on_where_a_process_could_not_be_begun(
    serving: Callable[..., Serving], clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, refused = asyncio.create_subprocess_exec, []

    async def out_of_memory(*command: Any, **given: Any) -> Any:
        if "vivant.web.worker" in command and len(refused) < 1:
            refused.append(command)
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return await begin(*command, **given)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", out_of_memory)
    monkeypatch.setattr(runner, "STUMBLED_SECONDS", 0.1)
    app, house = build(serving())
    with TestClient(app, base_url=HOST) as client:
        assert finished(client, ordered(client, clip)["id"])["state"] == "done"
        assert len(refused) == 1
        assert client.get("/healthz").json() == {"status": "ok"}

        async def ended() -> None:
            raise RuntimeError("a fault")

        async def broken() -> None:
            task = asyncio.create_task(ended())
            task.add_done_callback(house.broke)
            await asyncio.wait([task])
            await asyncio.sleep(0)

        asyncio.run(broken())
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "broken"})


@pytest.mark.parametrize(
    "text",
    [
        '{"options": {"driving_multiplier": 1' + 400 * "0" + "}}",
        '{"seed": NaN}',
        '{"options": {"\\ud800": 1}}',
        '{"consent": "\\ud800"}',
        '{"options": {"driving_multiplier": 1e999}}',
    ],
)
def test_orders_that_no_answer_can_repeat_are_refused(client: TestClient, clip: bytes, text: str) -> None:
    portrait = client.post("/v1/portraits", content=png(noise(1))).json()["id"]
    made = client.post("/v1/clips", content=clip).json()["id"]
    whole = text[:-1] + f', "portrait": "{portrait}", "clip": "{made}", "face": "none"}}'
    answer = client.post("/v1/jobs", content=whole, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]


def test_an_order_is_small(client: TestClient) -> None:
    answer = client.post("/v1/jobs", content=b'{"consent": "' + 70_000 * b"x" + b'"}', headers=JSON)
    assert answer.status_code == 413
    assert "64 KiB" in answer.json()["detail"]


def test_children_know_where_models_and_devices_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVANT_FACE_MODELS", "/models")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("VIVANT_TOKEN", "s" * 20)
    given = surroundings()
    assert (given["VIVANT_FACE_MODELS"], given["CUDA_VISIBLE_DEVICES"]) == ("/models", "")
    assert "VIVANT_TOKEN" not in given


def test_a_job_whose_weights_are_damaged_names_no_folders(
    serving: Callable[..., Serving], tiny: Path, clip: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = shutil.copytree(tiny, tmp_path / "damaged")
    app, _ = build(serving(preset=(str(tiny), str(damaged))))
    (damaged / WEIGHTS).write_bytes(b"no weights")
    with TestClient(app, base_url=HOST) as client:
        last = finished(client, ordered(client, clip, preset="damaged")["id"])
    assert last["state"] == "failed"
    assert "cannot be used on this server" in last["error"]
    assert os.sep not in last["error"]
    assert any(str(damaged) in getattr(record, "reason", "") for record in caplog.records)


def test_a_cancelled_job_leaves_nothing(serving: Callable[..., Serving], clip: bytes) -> None:
    app, house = build(serving())
    with TestClient(app, base_url=HOST) as client:
        job = ordered(client, clip)
        assert client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
        assert client.get(f"/v1/jobs/{job['id']}/result").status_code == 409
        done = threading.Event()
        for _ in range(PATIENCE_SECONDS * 10):
            if not (house.runner.folder / job["id"]).exists():
                break
            done.wait(0.1)
        assert not (house.runner.folder / job["id"]).exists()


def test_a_job_takes_so_many_frames_and_so_much_time(
    serving: Callable[..., Serving], clip: bytes, tmp_path: Path
) -> None:
    """Clips that are longer than their headers say end the job, and so does one that takes too long."""
    app, house = build(serving(max_job_hours=1e-9))
    with TestClient(app, base_url=HOST) as client:
        job = ordered(client, clip)
        last = finished(client, job["id"])
        assert (last["state"], "hours" in last["error"]) == ("failed", True)
        order = json.loads((house.runner.folder / job["id"] / "order.json").read_text())
        folder = tmp_path / "job"
        folder.mkdir()
        (folder / "order.json").write_text(json.dumps(order | {"max_frames": 3}))
        with subprocess.Popen(
            [sys.executable, "-m", "vivant.web.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=surroundings(),
        ) as worker:
            assert worker.stdout is not None
            said = worker.stdout.read().splitlines()[-1]
    assert "more than 3 frames" in json.loads(said)["error"]
    assert worker.returncode == 2
    assert not (folder / "result.mp4").exists()


def test_a_job_survives_the_end_of_the_server(serving: Callable[..., Serving], clip: bytes) -> None:
    """The first server ends while the job waits or runs; the second, on the same folder, does it."""
    with TestClient(build(serving())[0], base_url=HOST) as client:
        job = ordered(client, clip)
    with TestClient(build(serving())[0], base_url=HOST) as client:
        assert finished(client, job["id"])["state"] == "done"
