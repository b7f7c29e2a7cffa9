"""What all_speed.sh found, in a few lines: python benchmarks/gpu/table.py FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

SHOWN = {
    "refvae.json": (
        "way",
        "block_ms",
        "block_ms_floats",
        "hearing_ms",
        "drawing_ms",
        "recorded_differs_by",
        "draw_ms",
        "decode_ms",
        "frames_per_s",
        "times_plain",
        "latents_error",
        "pictures_error",
    ),
    "personalive.json": (
        "what",
        "fps",
        "fps_tiny_decoder",
        "ratio_to_bf16_eager",
        "share_of_floor",
        "ms",
        "differs_by",
    ),
    "convolutions.json": ("what", "shape", "times", "tflop", "best", "tflops", "ms"),
    "liveportrait.json": ("batch", "what", "ms_per_frame", "times_fp32 eager", "pictures_differ_by"),
}


def shown(value: object) -> str:
    """Short."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return " ".join(f"{name}={shown(x)}" for name, x in value.items())
    return str(value)


def main() -> None:
    folder = Path(sys.argv[1])
    for name, columns in SHOWN.items():
        path = folder / name
        if not path.is_file():
            print(f"{name} is not there")
            continue
        report = json.loads(path.read_text())
        print(f"--- {name}: {report['device']}, torch {report['torch']}\n{' | '.join(columns)}")
        for row in report["rows"]:
            failed = [f"FAILED {row['failed'][:200]}"] if "failed" in row else []
            print(" | ".join([shown(row.get(column, "")) for column in columns] + failed))
    found = folder / "prediction" / "prediction.md"
    print(found.read_text() if found.is_file() else "no predictions")


if __name__ == "__main__":
    main()
