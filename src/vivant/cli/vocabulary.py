"""The words that users of other programs already type, and the mistakes that they bring along.

Names of other programs are accepted and not shown in --help. `--switch False`, which several of them read as
true, is refused with the right spelling.
"""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

ALIASES = {
    "--source": ("-r", "--reference", "--source-image", "--source-path", "--src-image", "--reference-image"),
    "--driving": ("--driving-video", "--dri-video", "--video-path"),
    "--output": ("--output-path", "--output-dir", "--result-dir"),
    "--preset": ("--model",),
    "--fps": ("--frame-rate",),
    "--paste-back": ("--flag-pasteback", "--flag-paste-back", "--pasteback"),
    "--no-paste-back": ("--no-flag-pasteback", "--no-flag-paste-back", "--no-pasteback"),
    "--relative": ("--flag-relative-motion", "--relative-motion"),
    "--absolute": ("--no-flag-relative-motion", "--no-relative-motion", "--no-relative"),
    "--region": ("--animation-region",),
    "--overwrite": ("--force", "-y"),
}
"""Our name, and what it is called elsewhere (with - for _)."""

_OURS = {theirs: ours for ours, others in ALIASES.items() for theirs in others}
_FOLDER_WORDS = ("--output-dir", "--result-dir")
_BOOLEANS = ("true", "false", "yes", "no", "0", "1")


class Command(TyperCommand):
    """A command that understands those words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        switches = {
            name: (parameter.opts, parameter.secondary_opts)
            for parameter in self.params
            if getattr(parameter, "is_flag", False)
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        args = repeated(translated(args, known), known)
        for word, following in zip(args, [*args[1:], ""], strict=False):
            name, _, value = word.partition("=")
            if name in switches and (value or following).lower() in _BOOLEANS:
                spellings = " or ".join(names[0] for names in switches[name] if names)
                raise typer.BadParameter(f"{name} takes no value; write {spellings}.")
        return super().parse_args(ctx, args)


def repeated(args: list[str], known: set[str]) -> list[str]:
    """`--map 0=a.mp4 1=b.mp4` with the option before each of its values."""
    result: list[str] = []
    for word in args:
        within = len(result) > 1 and result[-2] == "--map" and "--map" in known
        result += ["--map", word] if within and re.match(r"\d+=", word) else [word]
    return result


def translated(args: list[str], known: set[str]) -> list[str]:
    """Arguments with our names in place of others', for those options that are in `known`."""
    result = []
    folder_follows = False
    for word in args:
        name, equals, value = word.partition("=")
        plain = name if name in known or not name.startswith("-") else name.replace("_", "-")
        ours = _OURS.get(plain, plain)
        if folder_follows:
            word, folder_follows = word.rstrip("/") + "/", False
        elif plain not in known and ours in known:
            is_folder = plain in _FOLDER_WORDS
            folder_follows = is_folder and not equals
            word = ours + equals + (value.rstrip("/") + "/" if is_folder and equals else value)
        elif plain in known:
            word = plain + equals + value
        result.append(word)
    return result
