"""vivant animate: what comes out, where, with which sound, and what the manifest says."""

from __future__ import annotations

import hashlib
import json
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vivant
from vivant.checked import check
from vivant.engines.liveportrait.config import Options
from vivant.marks.credentials import read
from vivant.media.reader import VideoReader
from vivant.records import to_data
from vivant.settings import Recording

from .lines import Run, left_in, shifted, tone, write_driving


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_picture_and_a_clip_make_a_video(run: Run, here: Path, media: Path, tiny: Path) -> None:
    done = run("animate", "-s", media / "face.png", "-d", media / "drive.mp4", "--preset", tiny)
    assert done.code == 0, done.err
    assert left_in(here) == ["face--drive.json", "face--drive.mp4"]
    assert "face--drive.mp4: 5 frames, 400x400" in done.out
    with VideoReader(here / "face--drive.mp4") as clip:
        assert (clip.width, clip.height, clip.frame_rate) == (400, 400, 25)
        assert len(list(clip)) == 5


def test_the_manifest_says_how(run: Run, here: Path, media: Path, tiny: Path) -> None:
    line = ("animate", "--source", media / "face.png", "--driving", media / "drive.mp4", "--preset", tiny)
    options = (
        "--absolute",
        "--region",
        "lip",
        "--driving-multiplier",
        "1.5",
        "--seed",
        "7",
        "--dtype",
        "float32",
    )
    assert run(*line, *options, "--no-paste-back", "-o", "made.mp4", "-q").code == 0
    manifest = json.loads((here / "made.json").read_text())
    assert manifest["inputs"] == {
        "source": {"name": "face.png", "sha256": sha256(media / "face.png")},
        "driving": {"name": "drive.mp4", "sha256": sha256(media / "drive.mp4")},
    }
    assert manifest["weights"]["weights_sha256"] == sha256(tiny / "model.safetensors")
    assert manifest["weights"]["preset"] == "tiny"
    assert manifest["weights"]["dtype"] == "float32"
    assert manifest["options"] == to_data(Options(relative=False, region="lip", driving_multiplier=1.5))
    assert manifest["seed"] == 7
    assert manifest["settings"]["paste_back"] is False
    assert manifest["versions"]["vivant"] == vivant.__version__
    assert manifest["versions"]["torch"]
    assert manifest["output"]["width"] == 64
    assert (manifest["num_frames"], manifest["frames_without_face"]) == (5, [])
    assert manifest["timing"]["total_seconds"] > 0
    assert str(media) not in json.dumps(manifest), "folders of the machine are nobody's business"


def test_same_seed_same_video(run: Run, here: Path, media: Path, tiny: Path) -> None:
    line = (
        "animate",
        "-s",
        media / "face.png",
        "-d",
        media / "drive.mp4",
        "--preset",
        tiny,
        "--dtype",
        "float32",
        "--no-credentials",  # a signature is drawn anew each time
    )
    for name in ("a.mp4", "b.mp4"):
        assert run(*line, "-o", name).code == 0
    assert sha256(here / "a.mp4") == sha256(here / "b.mp4")


def test_frames_without_a_face_are_told(
    run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path
) -> None:
    images = shifted(face, 6)
    images[2:4] = [np.zeros_like(images[0])] * 2
    driving = write_driving(here / "gap.mp4", images)
    done = run("animate", "-s", media / "face.png", "-d", driving, "--preset", tiny, "-o", "o.mp4")
    assert done.code == 0
    assert "no face in 2 of 6 driving frames, the first at 0.08 s; see o.json" in done.err
    assert json.loads((here / "o.json").read_text())["frames_without_face"] == [
        {"first_frame": 2, "last_frame": 3, "start_seconds": 0.08, "end_seconds": 0.12}
    ]
    done = run(
        "animate",
        "-s",
        media / "face.png",
        "-d",
        driving,
        "--preset",
        tiny,
        "-o",
        "f.mp4",
        "--on-missing",
        "fail",
    )
    assert done.code == 2
    assert "frame 2 (0.08 s)" in done.err
    assert left_in(here) == ["gap.mp4", "o.json", "o.mp4"]


@pytest.fixture
def singing(tmp_path: Path, face: np.ndarray) -> Path:
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.sin(np.arange(8000) / 8) * 9000).astype("<i2").tobytes())
    return write_driving(tmp_path / "singing.mp4", shifted(face, 5), audio_from=tmp_path / "tone.wav")


def test_sound_is_carried(run: Run, here: Path, media: Path, tiny: Path, singing: Path) -> None:
    line = ("animate", "-s", media / "face.png", "-d", singing, "--preset", tiny, "--no-paste-back")
    assert run(*line, "-o", "with.mp4").code == 0
    assert run(*line, "-o", "without.mp4", "--audio", "none").code == 0
    assert VideoReader(here / "with.mp4").has_audio
    assert not VideoReader(here / "without.mp4").has_audio
    assert json.loads((here / "with.json").read_text())["output"]["has_audio"] is True
    done = run(*line, "-o", "x.mp4", "--audio", "source")
    assert done.code == 2
    assert "face.png is a picture and has no sound; use --audio driving or none." in done.err


def test_frame_rate(run: Run, here: Path, media: Path, tiny: Path) -> None:
    line = (
        "animate",
        "-s",
        media / "face.png",
        "-d",
        media / "drive.mp4",
        "--preset",
        tiny,
        "--no-paste-back",
    )
    assert run(*line, "-o", "fast.mp4", "--fps", "29.97").code == 0
    with VideoReader(here / "fast.mp4") as clip:
        assert clip.frame_rate == Fraction(30000, 1001)
        assert len(list(clip)) == 6
    for wrong in ("source", "0", "soon"):
        done = run(*line, "-o", "x.mp4", "--fps", wrong)
        assert done.code == 2
        assert f"--fps {wrong}" in done.err


def test_compare_shows_all_three(run: Run, here: Path, media: Path, tiny: Path) -> None:
    done = run(
        "animate",
        "-s",
        media / "face.png",
        "-d",
        media / "drive.mp4",
        "--preset",
        tiny,
        "-o",
        "o.mp4",
        "--compare",
    )
    assert done.code == 0
    assert left_in(here) == ["o--compare.mp4", "o.json", "o.mp4"]
    with VideoReader(here / "o--compare.mp4") as clip:
        assert (clip.width, clip.height) == (1200, 400)
        frame = next(iter(clip)).image.astype(int)
    with Image.open(media / "face.png") as source:
        assert np.abs(frame[:, 400:800] - np.asarray(source)).mean() < 4


def test_pictures_in_pictures_out(run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path) -> None:
    (here / "frames").mkdir()
    for index, image in enumerate(shifted(face, 3)):
        Image.fromarray(image).save(here / "frames" / f"{index}.png")
    line = ("animate", "-s", media / "face.png", "-d", "frames", "--preset", tiny, "--no-paste-back")
    assert run(*line, "-o", "made/%03d.png").code == 0
    assert [name for name in left_in(here) if not name.startswith("frames")] == [
        "made.json", "made/000.png", "made/001.png", "made/002.png"
    ]  # fmt: skip
    assert json.loads((here / "made.json").read_text())["inputs"]["driving"]["num_files"] == 3
    told = [read(here / f"made/00{index}.png") for index in range(3)]
    assert {one.state for one in told} == {"untrusted"}, "each picture is signed"
    assert [one.role for one in told[0].ingredients] == ["source", "driving"]


def test_a_picture_makes_a_picture(run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path) -> None:
    Image.fromarray(np.ascontiguousarray(face[:240, 70:310])).save(here / "smile.jpg")
    line = ("animate", "-s", media / "face.png", "--preset", tiny)
    assert run(*line, "-d", "smile.jpg", "-o", "made.png").code == 0
    assert "one.mp4: 1 frames" in run(*line, "-d", "smile.jpg", "-o", "one.mp4", "--fps", "30").out
    assert left_in(here) == ["made.json", "made.png", "one.json", "one.mp4", "smile.jpg"]
    with Image.open(here / "made.png") as picture:
        assert picture.size == (400, 400)
    for words, says in {
        ("-d", "smile.jpg", "-o", "made.png"): "made.png exists",
        ("-d", media / "drive.mp4", "-o", "x.png"): "x.png is one picture, and this makes many",
        ("-d", "smile.jpg", "-o", "x.psd"): "x.psd is neither a video nor a picture sequence",
    }.items():
        done = run(*line, *words)
        assert done.code == 2
        assert says in done.err


def test_a_gif_drives_too(run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path) -> None:
    first, *rest = [Image.fromarray(image) for image in shifted(face, 3)]
    first.save(here / "loop.gif", save_all=True, append_images=rest, duration=100)
    done = run("animate", "-s", media / "face.png", "-d", "loop.gif", "--preset", tiny, "-o", "o.mp4")
    assert done.code == 0, done.err
    assert "o.mp4: 3 frames" in done.out


def test_a_video_is_animated(
    run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path, singing: Path
) -> None:
    """At its own rate, as long as both last, with the sound of whom one likes."""
    slow = write_driving(here / "slow.mp4", shifted(face, 3), Fraction(12))
    line = ("animate", "-s", singing, "--preset", tiny)
    assert run(*line, "-d", slow, "-o", "o.mp4", "--audio", "source", "--compare").code == 0
    with VideoReader(here / "o.mp4") as clip:
        assert (clip.width, clip.height, clip.frame_rate) == (240, 240, 25)
        assert (len(list(clip)), clip.has_audio) == (5, True)
    assert json.loads((here / "o.json").read_text())["source_frames_without_face"] == []
    done = run(*line, "-d", slow, "-o", "p.mp4", "--length", "driving", "--fps", "driving")
    assert "p.mp4: 3 frames" in done.out
    done = run(*line, "-d", media / "drive.mp4", "-o", "q.mp4", "--face", "5")
    assert done.code == 2
    assert "singing.mp4 never shows face 5" in done.err
    done = run("animate", "-s", media / "drive.mp4", "-d", slow, "--preset", tiny, "--audio", "source")
    assert "drive.mp4 has no sound; use --audio driving or none." in done.err
    assert left_in(here) == ["o--compare.mp4", "o.json", "o.mp4", "p.json", "p.mp4", "slow.mp4"]


def test_a_driver_for_each_face(run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path) -> None:
    both = np.concatenate([face[:, 20:380], face[:, 380:20:-1]], axis=1)
    Image.fromarray(both).save(here / "both.png")
    drive, one = media / "drive.mp4", media / "one.mp4"
    line = ("animate", "-s", "both.png", "--preset", tiny)
    assert run(*line, "--map", f"0={drive}", f"1={one}", "-o", "two.mp4").code == 0
    manifest = json.loads((here / "two.json").read_text())
    assert list(manifest["inputs"]) == ["source", "driving", "driving of face 0", "driving of face 1"]
    assert manifest["num_frames"] == 5
    assert run(*line, "--face", "0,1", "-d", one, "--map", f"1={drive}", "-o", "same.mp4").code == 0
    assert run(*line, "--face", "all", "-d", one, "-o", "all.mp4").code == 0
    for words, says in {
        ("--map", f"7={one}"): "both.png shows 2 faces numbered 0-1; --face 7 does not exist",
        ("--map", f"0={one}", f"0={drive}"): "--map names face 0 twice",
        ("--map", f"left={one}"): "write the face's number and a file, 0=FILE",
        ("--face", "0", "--map", f"1={one}"): "--map names face 1, which --face 0 does not animate",
        ("-d", drive, "--map", f"1={one}"): "drive.mp4 drives nobody",
        ("--face", "all"): "nothing drives; say what with -d FILE",
        ("--map", "0=nowhere.mp4"): "nowhere.mp4 does not exist",
    }.items():
        done = run(*line, *words, "-o", "x.mp4")
        assert done.code == 2
        assert says in done.err
        assert len(done.err.splitlines()) == 1
    assert not (here / "x.mp4").exists()


def test_drivers_with_a_rate_of_their_own(
    run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path, driving: Path
) -> None:
    """Saved motion, and sound, cannot be taken at another rate: what is seen is."""
    both = np.concatenate([face[:, 20:380], face[:, 380:20:-1]], axis=1)
    Image.fromarray(both).save(here / "both.png")
    drive = media / "drive.mp4"
    for name, more in (("slow", ()), ("fast", ("--fps", 10))):
        assert (
            run("motion", "record", driving, "--preset", tiny, *more, "-o", f"{name}.safetensors").code == 0
        )
    line = ("animate", "-s", "both.png", "--face", "all", "--preset", tiny, "-d", drive, "-o", "o.mp4")
    done = run(*line, "--map", "1=slow.safetensors")
    assert done.code == 0, done.err
    assert json.loads((here / "o.json").read_text())["output"]["frame_rate"] == "5"
    tone(here / "b.wav", 0.2)
    for words, says in {
        (
            "--map",
            "0=slow.safetensors",
            "1=fast.safetensors",
        ): "record fast.safetensors again with `vivant motion",
        (
            "--map",
            "0=b.wav",
            "1=slow.safetensors",
        ): "again with `vivant motion record --fps 25`",
        (
            "--map",
            "1=slow.safetensors",
            "--fps",
            "25",
        ): "recorded at 5 frames per second, not 25; use --fps 5.",
    }.items():
        done = run(*line, *words, "--overwrite")
        assert (done.code, says in done.err) == (2, True), done.err
    checked = check(
        Recording(source=here / "both.png", driving=driving, map=("1=b.wav",), output=str(here / "x.mp4"))
    )
    assert checked.frame_rate == 25, "of speech, not of the video"


def test_where_the_output_goes(tmp_path: Path) -> None:
    def target(output: str | None) -> Recording:
        return Recording(source=Path("a/me.jpg"), driving=Path("b/you.mov"), output=output)

    assert target(None).target == Path("me--you.mp4")
    assert target(str(tmp_path)).target == tmp_path / "me--you.mp4"
    assert target("new/").target == Path("new/me--you.mp4")
    assert target("x.mov").manifest == Path("x.json")
    assert target("x.mov").comparison == Path("x--compare.mp4")
    assert target("x/%04d.png").manifest == Path("x.json")
    assert target("x").comparison == Path("x--compare.mp4")


def test_other_programs_words(run: Run, here: Path, media: Path, tiny: Path) -> None:
    """LivePortrait's and PersonaLive's command lines."""
    done = run(
        "animate", "--source_image", media / "face.png", f"--driving_video={media / 'drive.mp4'}", "--preset", tiny,
        "--flag_relative_motion", "--no_flag_pasteback", "--animation_region", "exp", "--driving_multiplier", "1.2",
        "--output_dir", here,
    )  # fmt: skip
    assert done.code == 0, done.err
    manifest = json.loads((here / "face--drive.json").read_text())
    assert manifest["options"] == to_data(Options(region="exp", driving_multiplier=1.2))
    assert manifest["settings"]["paste_back"] is False
    done = run(
        "animate", "--reference_image", media / "face.png", "--driving_video", media / "drive.mp4", "--preset", tiny,
        "--no-flag-relative-motion", "-o", "b.mp4", "-q",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads((here / "b.json").read_text())["options"]["relative"] is False
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--paste-back", "False"], "--paste-back takes no value; write --paste-back or --no-paste-back."),
        (["--flag_pasteback=true"], "--paste-back takes no value; write --paste-back or --no-paste-back."),
        (["--relative", "0"], "--relative takes no value; write --relative or --absolute."),
        (["--overwrite", "no"], "--overwrite takes no value; write --overwrite."),
        (["--region", "nose"], "'nose' is not one of 'all', 'exp', 'pose', 'lip', 'eyes'"),
        (["--driving-multiplier", "9"], "driving_multiplier is between 0 and 4, got 9.0."),
        (["--crf", "99"], "crf 99 is out of range"),
        (["--drving", "x"], "No such option: --drving"),
        (["--device", "abacus"], "'abacus' is not a device"),
        (["--dtype", "float7"], "'float7' is not a precision"),
        (["--face", "nose"], "--face 'nose' is not understood"),
        (["--face", "5"], "shows 1 face numbered 0; --face 5 does not exist"),
        (["--face", "3,3"], "no face of"),
        (["--segment-seconds", "inf"], "--segment-seconds is a number above 0, got inf."),
        (["--segment-seconds", "nan"], "--segment-seconds is a number above 0, got nan."),
        (["--seed", "18446744073709551616"], "--seed is a number of at most 64 bits"),
        (["--reference-frame", "\u00b2"], "--reference-frame '\u00b2' is not understood"),
    ],
)
def test_wrong_words(run: Run, here: Path, media: Path, tiny: Path, words: list[str], says: str) -> None:
    done = run("animate", "-s", media / "face.png", "-d", media / "one.mp4", "--preset", tiny, *words)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert left_in(here) == []


def test_sound_drives_a_family_that_hears(run: Run, here: Path) -> None:
    samples = (np.sin(np.arange(16_000) / 20) * 8000).astype("<i2")
    with wave.open(str(here / "said.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    portrait = Path(__file__).parents[2] / "examples" / "astronaut.png"
    line = ("-s", portrait, "-d", "said.wav", "--preset", "refvae-mini")
    done = run("animate", *line, "-o", "made.mp4")
    assert done.code == 0, done.err
    with VideoReader(here / "made.mp4") as clip:
        assert (clip.width, clip.height, clip.frame_rate) == (512, 512, 25)
        assert clip.has_audio
        assert len(list(clip)) == 25
    assert json.loads((here / "made.json").read_text())["latency"]["frames"] > 15
    plan = run("animate", *line, "-o", "other.mp4", "--fps", "30")
    assert (plan.code, "25 frames per second" in plan.err) == (2, True)
    live = run("live", *line, "--to", "live.mp4")
    assert (live.code, "720 ms after" in live.err, "--max-latency 1440" in live.err) == (2, True, True)
    camera = run("live", *line, "-d", "0", "--to", "live.mp4")
    assert (camera.code, "driven by sound: give a microphone" in camera.err) == (2, True)
    assert left_in(here) == ["made.json", "made.mp4", "said.wav"]
    live = run("live", *line, "--to", "live.mp4", "--max-latency", "60000")
    assert live.code == 0, live.err
    with VideoReader(here / "live.mp4") as clip:
        assert (clip.width, clip.frame_rate, clip.has_audio) == (512, 25, True)
        assert len(list(clip)) == 25
