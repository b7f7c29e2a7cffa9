"""`vivant batch`: many recordings with one engine, each with its status, gone on with when they are stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vivant.cli.options import families_options, make_options, takes_fields
from vivant.errors import InputError
from vivant.settings import Recording


@takes_fields("recording", [Recording], optional=True)
@takes_fields("options", families_options())
def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .jsonl file whose columns are options of `vivant animate`, a folder of drivers (with "
            "--source), or a folder of sources (with --driving)."
        ),
    ],
    recording: Mapping[str, Any],
    options: Mapping[str, Any],
    status: Annotated[
        Path | None,
        typer.Option(help="File to note in what became of each item. [default: JOBS.status.jsonl]"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try those again that failed in an earlier run.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
) -> None:
    """Animate many; options given here are those of all items. Exit code 2 if one failed."""
    import vivant
    from vivant.batch import Status, read_items, run_batch
    from vivant.cli.progress import progress_of

    items = read_items(jobs, {**recording, **options}, families_options())
    noted = Status(status or _beside(jobs))
    count: Counter[str] = Counter()
    with progress_of("items") as progress:
        for became in run_batch(
            items,
            noted,
            lambda preset: vivant.load(preset, device, dtype),
            make_options,
            retry_failed=retry_failed,
            progress=progress,
        ):
            count[became.state] += 1
            if became.state == "done":
                typer.echo(became.item.recording.target)
            elif became.error is not None:
                typer.echo(f"vivant: {became.item.where} {became.state}: {became.error}", err=True)
    typer.echo(
        f"{', '.join(f'{number} {state}' for state, number in sorted(count.items()))}; see {noted.path}"
    )
    if count["failed"] or count["failed before"]:
        raise typer.Exit(2)


def _beside(jobs: Path) -> Path:
    """The status file of jobs that have none."""
    named = jobs if jobs.name not in ("", "..") else jobs.resolve()  # the current folder has a name too
    if not named.name:
        raise InputError(f"nothing can be put beside {jobs}; choose a file with --status.")
    return named.with_name(f"{named.name}.status.jsonl")
