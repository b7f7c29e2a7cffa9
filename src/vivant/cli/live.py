"""`vivant live`: a camera or a voice drives a portrait, into a file, a window, a virtual camera, a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vivant.cli.options import families_options, make_options, takes_fields
from vivant.errors import InputError
from vivant.live.settings import Cast
from vivant.presets import DEFAULT_PRESET


@takes_fields("settings", [Cast])
@takes_fields("options", families_options())
def live(
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    preset: Annotated[
        str, typer.Option(help="Name (see `vivant presets`) or checkpoint folder.")
    ] = DEFAULT_PRESET,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
) -> None:
    """Drive a portrait live with a camera or a microphone (or a file played as one). Ctrl-C ends."""
    wanted = Cast(**settings)

    import signal
    import threading

    import vivant
    from vivant.live.cast import cast
    from vivant.media.microphone import is_sound
    from vivant.presets import load_voice

    ended = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: ended.set())
    try:
        engine = vivant.load(preset, device, dtype)
        is_heard = is_sound(wanted.driving)
        if engine.hears and not is_heard:
            raise InputError(
                f"{preset} is driven by sound: give a microphone (--driving mic) or a sound file, not {wanted.driving}."
            )
        voice = load_voice(preset, wanted.driving) if is_heard and not engine.hears else None
        report = cast(wanted, engine, make_options(engine.options_type, options), ended.is_set, voice)
    finally:
        signal.signal(signal.SIGINT, before)
    counts, meter = report.counts, report.latency
    p50, p95 = (meter.quantile(share) * 1000 for share in (0.5, 0.95))
    dropped = counts.paced + counts.replaced
    typer.echo(
        f"{wanted.to}: {counts.shown} pictures, {dropped} frames dropped; latency p50 {p50:.0f} ms, p95 {p95:.0f} ms, "
        f"max {meter.max_seconds * 1000:.0f} ms"
    )
    if not report.kept:
        typer.echo(f"vivant: this machine cannot hold {wanted.max_latency_ms:.0f} ms.", err=True)
