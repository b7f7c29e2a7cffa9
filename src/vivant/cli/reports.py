"""What the commands that measure share: their options, and showing a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivant.errors import InputError

if TYPE_CHECKING:
    from vivant.evaluation.report import Report

PresetOption = Annotated[str, typer.Option(help="Name (see `vivant presets`) or checkpoint folder.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
OutOption = Annotated[Path | None, typer.Option("-o", "--out", help="Folder for report files.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace reports that exist.")]


def check_out(out: Path | None, names: Sequence[str], overwrite: bool) -> None:
    """Before anything is measured: whether the reports of those names can be written. Raises InputError."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out is a folder.")
    for report in (out / f"{name}.json" for name in names):
        if report.exists() and not overwrite:
            raise InputError(
                f"{report} exists already; use --overwrite to replace it or choose another folder"
            )


def show(report: Report, out: Path | None, name: str, overwrite: bool) -> None:
    """Print the report; write it into the folder `out` where there is one."""
    typer.echo(report.to_markdown())
    if out is not None:
        for path in report.write(out, name, overwrite=overwrite):
            typer.echo(path)
