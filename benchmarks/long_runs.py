"""Is what `vivant plan` says what `vivant animate` takes? Frames, time, memory and disk, each in a process of its own.

    python benchmarks/long_runs.py FOLDER             # an empty folder to work in; prints a table in Markdown
    python benchmarks/long_runs.py FOLDER JOB ...     # only these of its lines
    python benchmarks/long_runs.py FOLDER JOB ... --preset PATH

Memory is the highest resident size that is seen, disk the most that the folder holds, looked at 100 times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
VIVANT = (sys.executable, "-m", "vivant")
LOOK_EVERY_SECONDS = 0.01


def group(folder: Path) -> Path:
    """Three heads beside each other."""
    one = np.asarray(Image.open(EXAMPLES / "astronaut.png").convert("RGB"))[:400, 110:340]
    path = folder / "group.png"
    Image.fromarray(np.concatenate([one, one[:, ::-1], one], axis=1)).save(path)
    return path


def jobs(folder: Path, names: list[str]) -> dict[str, list[str]]:
    """Command lines without the command, by what they show."""
    time_s = np.arange(16000 * 8) / 16000
    samples = np.sin(time_s * 900) * np.sin(time_s * 9) * 15000
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.astype("<i2").tobytes())
    motion = folder / "motion.safetensors"
    driving = EXAMPLES / "driving.mp4"
    if not names or "motion-to-pictures" in names:
        subprocess.run([*VIVANT, "motion", "record", str(driving), "-o", str(motion)], check=True)
    source = ["-s", str(EXAMPLES / "astronaut.png")]
    lines = {
        "video": [*source, "-d", str(driving), "-o", "video.mp4"],
        "video-compared": [*source, "-d", str(driving), "-o", "compared.mp4", "--compare"],
        "motion-to-pictures": [*source, "-d", str(motion), "-o", "pictures/%05d.png", "--no-paste-back"],
        "speech": [*source, "-d", str(folder / "speech.wav"), "-o", "speech.mp4"],
        "source-video": ["-s", str(driving), "-d", str(driving), "-o", "moving.mp4"],
        "three-faces": ["-s", str(group(folder)), "-d", str(driving), "-o", "three.mp4", "--face", "all"],
    }
    return {name: line for name, line in lines.items() if not names or name in names}


def disk(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).stat().st_size
            except FileNotFoundError:  # moved meanwhile
                continue
    return total


def real(folder: Path, line: list[str]) -> tuple[float, int, int]:
    """Wall seconds, peak memory, peak disk."""
    before = disk(folder)
    began = time.perf_counter()
    process = subprocess.Popen([*VIVANT, "animate", *line, "-q"], cwd=folder)
    seen = psutil.Process(process.pid)
    memory = most = 0
    while process.poll() is None:
        try:
            memory = max(memory, seen.memory_info().rss)
        except psutil.Error:
            break
        most = max(most, disk(folder) - before)
        time.sleep(LOOK_EVERY_SECONDS)
    assert process.wait() == 0
    return time.perf_counter() - began, memory, max(most, disk(folder) - before)


def main(folder: Path, names: list[str], preset: str | None) -> None:
    print("| job | frames | seconds | memory MB | output MB | disk MB | load |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, line in jobs(folder, names).items():
        line = line if preset is None else [*line, "--preset", preset]
        said = subprocess.run(
            [*VIVANT, "plan", *line, "--json"], cwd=folder, capture_output=True, text=True, check=True
        )
        plan = json.loads(said.stdout)
        before = disk(folder)
        seconds, memory, most = real(folder, line)
        manifest = json.loads((folder / f"{Path(line[5]).parts[0].split('.')[0]}.json").read_text())
        output = disk(folder) - before
        print(
            f"| {name} | {plan['num_frames']} / {manifest['num_frames']} | {plan['run_seconds']:.1f} / {seconds:.1f} "
            f"| {plan['memory_bytes'] / 1e6:.0f} / {memory / 1e6:.0f} "
            f"| {plan['output_bytes'] / 1e6:.2f} / {output / 1e6:.2f} "
            f"| {plan['disk_bytes'] / 1e6:.2f} / {most / 1e6:.2f} | {os.getloadavg()[0]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("jobs", nargs="*")
    arguments.add_argument("--preset")
    given = arguments.parse_args()
    main(given.folder.resolve(), given.jobs, given.preset)
