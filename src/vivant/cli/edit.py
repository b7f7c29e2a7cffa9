"""`vivant edit`: a picture with another expression, gaze or pose; with keyframes a video of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vivant.cli.options import takes_fields
from vivant.cli.vocabulary import Command
from vivant.controls import NAMES, Controls, is_control, parse_controls
from vivant.errors import InputError
from vivant.settings import Retouch


class EditCommand(Command):
    """A command that takes the sliders of other programs as options: `--rotate_yaw 5` is `--set rotate_yaw=5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return super().parse_args(ctx, with_sliders(args, known))


def with_sliders(args: list[str], known: set[str]) -> list[str]:
    """Arguments with `--set NAME=VALUE` in the place of other programs' sliders."""
    result: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        plain = name.replace("_", "-")
        foreign = word.startswith("--") and plain not in known and is_control(name)
        if not foreign:
            result.append(plain + equals + value if plain in known else word)
            continue
        if not equals:
            value = next(words, "")
        result += ["--set", f"{name.lstrip('-')}={value}"]
    return result


@takes_fields("settings", [Retouch])
@takes_fields("given", [Controls])
def edit(
    settings: Mapping[str, Any],
    given: Mapping[str, float],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A control, or another program's slider, by name."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Say nothing unless something is wrong.")
    ] = False,
) -> None:
    """Edit a face: pose, lids, gaze, brows, mouth. What is not edited stays as it is, bit for bit."""
    wanted = Retouch(**settings)
    controls = parse_controls(given, wanted.sliders)
    for one in set_ or ():
        name, value = _assigned(one)
        controls = parse_controls({name: value}, wanted.sliders, controls)
    if not controls.changed and wanted.keyframes is None:
        raise InputError(
            f"nothing is to be edited; give --keyframes FILE or a control: --{', --'.join(NAMES)}."
        )

    import vivant
    from vivant.cli.progress import progress_of
    from vivant.retouching import retouch

    with progress_of("frames", quiet=quiet) as progress:
        made = retouch(wanted, controls, lambda: vivant.load(wanted.preset, device, dtype), progress)
    if not quiet:
        output = made["output"]
        frames = "" if made["num_frames"] == 1 else f"{made['num_frames']} frames, "
        typer.echo(f"{made['path']}: {frames}{output['width']}x{output['height']}")


def _assigned(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        return name, float(value if equals else "")
    except ValueError as error:
        raise InputError(f"{text!r} is not a name and a number; write --set smile=0.5.") from error
