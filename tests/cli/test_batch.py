"""vivant batch: each item has its status, a failing one stops no other, what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import vivant
from vivant.batch import read_items
from vivant.errors import InputError

from .lines import Run, left_in
from .test_resume import killed


def states(path: Path) -> list[tuple[str, str]]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [(Path(entry["output"]).name, entry["state"]) for entry in entries]


@pytest.fixture
def jobs(here: Path, media: Path) -> Path:
    """Three items, of which the second has no face to animate."""
    (here / "in").mkdir()
    for name in ("face.png", "one.mp4", "drive.mp4"):
        shutil.copy(media / name, here / "in" / name)
    Image.new("RGB", (300, 200), "green").save(here / "in" / "green.png")
    path = here / "in" / "jobs.csv"
    path.write_text(
        "source,driving,output,driving-multiplier,paste_back,seed\n"
        "face.png,one.mp4,../a.mp4,1.5,false,\n"
        "green.png,one.mp4,../b.mp4,,,\n"
        "face.png,drive.mp4,../c.mp4,,,7\n"
    )
    return path


def test_each_item_is_made_or_says_why_not(
    run: Run, here: Path, jobs: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = vivant.load
    monkeypatch.setattr(vivant, "load", lambda *words: loaded.append(words) or load(*words))
    line = ("batch", "in/jobs.csv", "--preset", tiny, "--reference-frame", 0)
    done = run(*line)
    assert done.code == 2
    assert len(loaded) == 1, "the engine is loaded once"
    assert done.err.startswith("vivant: in/jobs.csv line 3 failed: no face found in in/green.png")
    assert done.out.splitlines() == [
        "in/../a.mp4",
        "in/../c.mp4",
        "2 done, 1 failed; see in/jobs.csv.status.jsonl",
    ]
    made = [name for name in left_in(here) if not name.startswith("in/")]
    assert made == ["a.json", "a.mp4", "c.json", "c.mp4"]
    first, second = (json.loads((here / name).read_text()) for name in ("a.json", "c.json"))
    assert (first["options"]["driving_multiplier"], first["settings"]["paste_back"]) == (1.5, False)
    assert (second["options"]["driving_multiplier"], second["seed"]) == (1.0, 7)
    status = here / "in" / "jobs.csv.status.jsonl"
    assert states(status) == [
        ("a.mp4", "started"), ("a.mp4", "done"), ("b.mp4", "started"), ("b.mp4", "failed"), ("c.mp4", "started"),
        ("c.mp4", "done"),
    ]  # fmt: skip

    again = run(*line)
    assert again.code == 2
    assert again.out == "1 failed before, 2 passed over; see in/jobs.csv.status.jsonl\n"
    assert "no face found in in/green.png" in again.err
    again = run(*line, "--retry-failed")
    assert again.out == "1 failed, 2 passed over; see in/jobs.csv.status.jsonl\n"
    shutil.copy(here / "in" / "face.png", here / "in" / "green.png")
    again = run(*line)
    assert again.code == 0, again.err
    assert again.out == "in/../b.mp4\n1 done, 2 passed over; see in/jobs.csv.status.jsonl\n"
    assert states(status)[-2:] == [("b.mp4", "started"), ("b.mp4", "done")]


def test_a_killed_batch_goes_on(run: Run, here: Path, jobs: Path, tiny: Path) -> None:
    """In the middle of the third item; what is made is what would have been made without the accident."""
    more = ("--preset", tiny, "--no-credentials", "--reference-frame", 0, "--segment-seconds", 0.08)
    assert (
        run("animate", "-s", "in/face.png", "-d", "in/drive.mp4", "-o", "whole.mp4", "--seed", 7, *more).code
        == 0
    )
    killed(here, "frame", 5, "batch", "in/jobs.csv", *more)
    assert ".c.mp4.vivant-parts/output-00000.mp4" in left_in(here)
    with (here / "in" / "jobs.csv.status.jsonl").open("a") as file:
        file.write('{"time": "20')  # as if it had been killed while it wrote
    done = run("batch", "in/jobs.csv", *more)
    assert done.out.splitlines() == [
        "in/../c.mp4", "1 done, 1 failed before, 1 passed over; see in/jobs.csv.status.jsonl"
    ]  # fmt: skip
    hashes = [hashlib.sha256((here / name).read_bytes()).digest() for name in ("c.mp4", "whole.mp4")]
    assert hashes[0] == hashes[1]
    assert json.loads((here / "c.json").read_text())["num_resumed"] == 1
    assert (
        run("batch", "in/jobs.csv", *more).out
        == "1 failed before, 2 passed over; see in/jobs.csv.status.jsonl\n"
    )


def test_folders(run: Run, here: Path, media: Path, tiny: Path) -> None:
    for name in ("drivers", "sources", "made"):
        (here / name).mkdir()
    shutil.copy(media / "one.mp4", here / "drivers" / "d.mp4")
    (here / "drivers" / "notes.txt").touch()
    shutil.copy(media / "face.png", here / "sources" / "s.png")
    more = ("--preset", tiny, "-o", "made", "--no-paste-back")
    assert run("batch", "drivers", "-s", media / "face.png", *more).code == 0
    assert run("batch", "sources", "-d", media / "one.mp4", *more).code == 0
    assert sorted(path.name for path in (here / "made").glob("*.mp4")) == ["face--d.mp4", "s--one.mp4"]


def test_paths_are_relative_to_the_file(run: Run, here: Path, jobs: Path, tiny: Path) -> None:
    """The neutral face, drivers of single faces and a checkpoint too; what the neutral face shows counts."""
    folder = here / "in"
    shutil.copytree(tiny, folder / "own")
    shutil.copy(folder / "face.png", folder / "neutral.png")
    entry = {"source": "face.png", "map": "0=one.mp4", "reference_frame": "neutral.png", "preset": "own"}
    (folder / "j.jsonl").write_text(json.dumps({**entry, "output": "o.mp4"}) + "\n")
    done = run("batch", "in/j.jsonl")
    assert done.code == 0, done.err
    told = json.loads((folder / "o.json").read_text())
    assert told["settings"]["map"] == ["0=one.mp4"]
    (item,) = read_items(folder / "j.jsonl", {}, [])
    before = item.fingerprint
    Image.new("RGB", (9, 9)).save(folder / "neutral.png")
    assert item.fingerprint != before
    words = ("0", "auto", "3")
    (folder / "k.csv").write_text(
        "source,driving,output,reference-frame\n"
        + "".join(f"face.png,one.mp4,{word}.mp4,{word}\n" for word in words)
    )
    items = read_items(folder / "k.csv", {}, [])
    assert tuple(item.recording.reference_frame for item in items) == words
    (folder / "k.csv").write_text("source,map\nface.png,0\n")
    with pytest.raises(InputError, match="--map 0 is not understood"):
        read_items(folder / "k.csv", {}, [])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("j.csv", "source,drving\na,b\n", "has 'drving', which is no option of vivant animate; is it driving."),
        ("j.csv", "source,driving,seed\na,b,x\n", "j.csv line 2: seed is a whole number, got 'x'."),
        ("j.csv", "source,driving,on_missing\na,b,go\n", "on_missing is one of hold, source, fail, got 'go'."),
        ("j.csv", "source\na\n", "j.csv line 2 lacks driving; give it there, or for all with --driving."),
        ("j.csv", "source,driving\na,b,c\n", "more cells than the first line has names"),
        ("j.csv", "source,driving\na,b\na,b\n", "j.csv line 2 and j.csv line 3 would both write"),
        ("j.csv", "source,driving\n", "j.csv asks for nothing"),
        ("j.jsonl", '{"source": "a", "driving": "b", "compare": "maybe"}\n', "compare is true or false, got 'maybe'."),
        ("j.jsonl", '{"source": 3\n', "j.jsonl line 1 is not JSON"),
        ("j.jsonl", "[1]\n", "j.jsonl line 1 is not a JSON object"),
        ("j.txt", "a", "j.txt is neither a folder nor a .csv or .jsonl file"),
        ("j.csv.status.jsonl", "hello\n", "is not a status file of vivant batch"),
    ],
)  # fmt: skip
def test_bad_jobs(run: Run, here: Path, name: str, text: str, says: str) -> None:
    (here / name).write_text(text)
    jobs = name
    if "status" in name:
        jobs = "j.csv"
        (here / jobs).write_text("source,driving\na,b\n")
    before = left_in(here)
    done = run("batch", jobs)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert left_in(here) == before


def test_a_folder_needs_the_other_side(run: Run, here: Path) -> None:
    (here / "clips").mkdir()
    done = run("batch", "clips")
    assert done.code == 2
    assert (
        "clips is a folder: give --source if it holds drivers, or --driving if it holds sources." in done.err
    )
