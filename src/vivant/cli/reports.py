"""What the commands that measure share: their options, and showing a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vivant.evaluation.report import Report

PresetOption = Annotated[str, typer.Option(help="Name (see `vivant presets`) or checkpoint folder.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
OutOption = Annotated[Path | None, typer.Option("-o", "--out", help="Folder for report files.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace reports that exist.")]


def show(report: Report, out: Path | None, name: str, overwrite: bool) -> None:
    """Print the report; write it into the folder `out` where there is one."""
    typer.echo(report.to_markdown())
    if out is not None:
        for path in report.write(out, name, overwrite=overwrite):
            typer.echo(path)
