"""Command-line options made from dataclasses: names, types, defaults and texts are declared there and nowhere else."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import typer

from vivant.engines import ENGINES
from vivant.errors import InputError

SPELLINGS = {
    "source": ("-s", "--source"),
    "driving": ("-d", "--driving"),
    "output": ("-o", "--output"),
    "max_latency_ms": ("--max-latency",),
    "rate_hz": ("--fps",),
    "side_px": ("--side",),
    "paste_back": ("--paste-back/--no-paste-back",),
    "stitching": ("--stitching/--no-stitching",),
    "relative": ("--relative/--absolute",),
}
"""Where an option is not simply the field's name with dashes."""

Command = Callable[..., None]
Options = TypeVar("Options")


def takes_fields(
    argument: str, types: Sequence[type], *, optional: bool = False
) -> Callable[[Command], Command]:
    """A command decorator: one option per field of the dataclasses; the command gets those given, as a dict.

    optional: also fields without a default may be left out.
    """
    made: dict[str, inspect.Parameter] = {}
    for record_type in types:
        for name, parameter in _parameters(record_type, optional).items():
            made.setdefault(name, parameter)

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_fields(**given: Any) -> None:
            values = {name: given.pop(name) for name in made}
            chosen = {n: value for n, value in values.items() if value is not None and value != []}
            chosen = {n: tuple(value) if isinstance(value, list) else value for n, value in chosen.items()}
            command(**given, **{argument: chosen})

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != argument]
        whole = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*made.values(), *own)
        ]
        with_fields.__signature__ = signature.replace(parameters=whole)  # type: ignore[attr-defined]
        with_fields.__annotations__ = {parameter.name: parameter.annotation for parameter in whole}
        return with_fields

    return decorate


def families_options() -> list[type]:
    """The Options of all families. Importing a family's `config` imports no network library."""
    return [import_module(f"vivant.engines.{family}.config").Options for family in ENGINES]


def make_options(options_type: type[Options], chosen: Mapping[str, Any]) -> Options:
    """The family's Options with the chosen values. Raises InputError for what the family cannot do."""
    known = {field.name for field in fields(options_type)}  # type: ignore[arg-type]
    if unknown := sorted(chosen.keys() - known):
        names = ", ".join("--" + name.replace("_", "-") for name in unknown)
        raise InputError(f"this preset has no {names}; leave it out or choose another preset.")
    try:
        return options_type(**chosen)
    except ValueError as error:
        raise InputError(f"{error}.") from error


def _parameters(record_type: type, optional: bool) -> dict[str, inspect.Parameter]:
    texts, hints = _texts(record_type), get_type_hints(record_type)
    return {f.name: _parameter(f, hints[f.name], texts[f.name], optional) for f in fields(record_type)}


def _parameter(field: Field[Any], hint: Any, text: str, optional: bool) -> inspect.Parameter:
    flag = "--" + field.name.replace("_", "-")
    names: tuple[str, ...] = (f"{flag}/--no-{flag[2:]}",) if field.default is True else (flag,)
    names = SPELLINGS.get(field.name, names)
    if field.default is True:
        text += f" [default: {names[-1].split('/')[0].removeprefix('--')}]"
    elif field.default is not False and field.default not in (MISSING, None, (), Path()):
        default = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
        text += f" [default: {default}]"
    required = field.default is MISSING and not optional
    if get_origin(hint) is tuple:
        hint = list[str]
    option = typer.Option(*names, help=text, show_default=False)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[hint if required else hint | None, option],
    )


def _texts(options_type: type) -> dict[str, str]:
    """The docstring under each field, which Python keeps only in the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(options_type))).body[0]
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            texts[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(below.value)).split())
    return texts
