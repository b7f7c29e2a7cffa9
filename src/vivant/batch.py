"""Many recordings with one engine: what a folder, a CSV or a JSONL file asks for, what became of each, and retry.

What became of each item is appended to a status file, line by line, so nothing of it is lost when a run is killed;
the next run passes over what is done and goes on with what was begun. Knows no family: options come as they are given.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from vivant import __version__
from vivant.checked import MOTION_SUFFIX, SOUND_SUFFIXES
from vivant.errors import InputError, VivantError
from vivant.media.parts import parts_folder, settle
from vivant.media.sequence import SEQUENCE_SUFFIXES
from vivant.media.staging import output_errors
from vivant.presets import PRESETS
from vivant.recording import Progress, record
from vivant.settings import Recording, neutral_picture

if TYPE_CHECKING:
    from vivant.engine import Engine

VIDEO_INPUTS = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif"})
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_NOT_HASHED = ("overwrite", "resume")


@dataclass(frozen=True)
class Item:
    """One recording to make."""

    where: str
    """Place in the jobs, for messages: "jobs.csv line 3", or a file's name."""
    recording: Recording
    options: Mapping[str, Any]
    """The family's, those that were given."""

    @property
    def fingerprint(self) -> str:
        """Changes with settings, version, and the names, sizes and times of the input files."""
        plain = {f.name: str(getattr(self.recording, f.name)) for f in fields(self.recording)}
        for name in _NOT_HASHED:
            del plain[name]
        stamps = [_stamp(path) for path in self.recording.inputs.values()]
        whole = json.dumps([plain, dict(self.options), stamps, __version__], sort_keys=True, default=str)
        return hashlib.sha256(whole.encode()).hexdigest()


@dataclass(frozen=True)
class Became:
    """What became of an item."""

    item: Item
    state: Literal["done", "failed", "passed over", "failed before"]
    error: str | None = None


class Status:
    """An append-only JSONL file: a line when an item begins and a line when it ends."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where it is something else."""
        self.path = path
        self._last: dict[str, dict[str, Any]] = {}
        try:
            lines = path.read_bytes().splitlines() if path.exists() else []
            for line in lines:
                if line.startswith(b"{") and not line.endswith(b"}"):
                    continue  # a run was killed while it wrote this one
                entry = json.loads(line)
                self._last[entry["fingerprint"]] = entry
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a status file of vivant batch ({error}); choose another --status."
            ) from error

    def state(self, fingerprint: str) -> str | None:
        """The last that is known: started, stopped, done, failed; None where nothing is."""
        entry = self._last.get(fingerprint)
        return None if entry is None else str(entry["state"])

    def error(self, fingerprint: str) -> str | None:
        return self._last[fingerprint].get("error")

    def append(self, item: Item, state: str, more: Mapping[str, Any] = types.MappingProxyType({})) -> None:
        """On the disk when this returns."""
        recording = item.recording
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "item": item.where,
            "state": state,
            "source": str(recording.source),
            "driving": str(recording.driving),
            "output": str(recording.target),
            "fingerprint": item.fingerprint,
            **more,
        }
        self._last[entry["fingerprint"]] = entry
        with output_errors(self.path):
            with self.path.open("ab") as file:
                # A line that was cut off by a kill stays a line of its own.
                file.write(b"" if _ends_a_line(self.path) else b"\n")
                file.write(json.dumps(entry).encode() + b"\n")
            settle(self.path)


def run_batch(
    items: Sequence[Item],
    status: Status,
    load_engine: Callable[[str], Engine[Any, Any, Any, Any, Any]],
    make_options: Callable[[type, Mapping[str, Any]], Any],
    *,
    retry_failed: bool = False,
    progress: Callable[[float, int, str], None] | None = None,
) -> Iterator[Became]:
    """Make all that is not done yet, in order; a failing one does not stop the others.

    Args:
        load_engine: called with a preset, once for all items in a row that have it.
        make_options: called with the family's Options type and what was given.
        retry_failed: try those again that failed in an earlier run.
        progress: called with items done (with the part of the present one), all, and the present one's name.
    """
    engines: dict[str, Any] = {}

    def engine_of(preset: str) -> Any:
        if preset not in engines:
            engines.clear()  # one at a time in memory
            engines[preset] = load_engine(preset)
        return engines[preset]

    for number, item in enumerate(items):

        def frames(done: int, expected: int | None, number: int = number, item: Item = item) -> None:
            if progress is not None:
                progress(number + min(1.0, done / expected if expected else 0.0), len(items), item.where)

        frames(0, None)
        state = status.state(item.fingerprint)
        if state == "started" and _was_finished(item.recording):
            status.append(item, "done")
            state = "done"
        if state == "done" and item.recording.whole.exists():
            yield Became(item, "passed over")
        elif state == "failed" and not retry_failed:
            yield Became(item, "failed before", status.error(item.fingerprint))
        else:
            yield _made(item, status, engine_of, make_options, frames)


def _made(
    item: Item,
    status: Status,
    engine_of: Callable[[str], Any],
    make_options: Callable[[type, Mapping[str, Any]], Any],
    progress: Progress,
) -> Became:
    began = perf_counter()
    recording = replace(item.recording, resume=True)
    status.append(item, "started")
    try:
        manifest = record(
            recording,
            lambda: engine_of(recording.preset),
            lambda options_type: make_options(options_type, item.options),
            progress,
        )
    except VivantError as error:
        sentence = " ".join(str(error).split())
        status.append(item, "failed", {"error": sentence, "seconds": round(perf_counter() - began, 3)})
        return Became(item, "failed", sentence)
    except BaseException:
        status.append(item, "stopped", {"seconds": round(perf_counter() - began, 3)})
        raise
    seconds = round(perf_counter() - began, 3)
    status.append(item, "done", {"num_frames": manifest["num_frames"], "seconds": seconds})
    return Became(item, "done")


def _was_finished(recording: Recording) -> bool:
    """Whether a run that was killed had come to its very end: it leaves its parts until then."""
    whole = recording.whole
    return whole.exists() and recording.manifest.exists() and not parts_folder(whole).exists()


def read_items(jobs: Path, given: Mapping[str, Any], options_types: Sequence[type]) -> list[Item]:
    """The items of a CSV file (columns), a JSONL file (keys), or a folder of drivers or of sources.

    Args:
        given: what every item has unless its line says otherwise, by option name; for a folder the source or the
            driving that all share.
        options_types: the families' Options, whose fields are columns too.

    Paths in a file are relative to it. Raises InputError naming the file, the line and the column.
    """
    rows = _rows_of_folder(jobs, given) if jobs.is_dir() else _rows_of_file(jobs)
    hints: dict[str, Any] = {}
    for record_type in (Recording, *options_types):
        hints = {**get_type_hints(record_type), **hints}
    recording_names = {f.name for f in fields(Recording)}
    items = []
    for where, row in rows:
        values = dict(given)
        for column, text in row.items():
            name = column.strip().replace("-", "_")
            if name not in hints:
                raise InputError(
                    f"{where} has {column!r}, which is no option of vivant animate{_near(name, hints)}."
                )
            if text not in ("", None):
                values[name] = _value(hints[name], text, f"{where}: {column}")
                if not jobs.is_dir():
                    values[name] = _beside(jobs, name, values[name])
        for field in fields(Recording):
            required = field.default is MISSING or (field.default == Path() and not values.get("map"))
            if required and field.name not in values:
                raise InputError(
                    f"{where} lacks {field.name}; give it there, or for all with --{field.name}."
                )
        chosen = {name: value for name, value in values.items() if name not in recording_names}
        items.append(
            Item(where, Recording(**{n: v for n, v in values.items() if n in recording_names}), chosen)
        )
    if not items:
        raise InputError(f"{jobs} asks for nothing; add a line, or files.")
    _check_outputs(items)
    return items


def _rows_of_file(jobs: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = jobs.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{jobs} does not exist; check the path.") from error
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"{jobs} cannot be read as text ({error}); save it as CSV or JSONL, UTF-8."
        ) from error
    if jobs.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines(), restkey="", strict=True)
        try:
            for row in reader:
                if "" in row:
                    raise InputError(
                        f"{jobs} line {reader.line_num} has more cells than the first line has names."
                    )
                yield f"{jobs} line {reader.line_num}", row
        except csv.Error as error:
            raise InputError(f"{jobs} line {reader.line_num} is not CSV: {error}.") from error
        return
    if jobs.suffix.lower() not in (".jsonl", ".ndjson"):
        raise InputError(f"{jobs} is neither a folder nor a .csv or .jsonl file; choose one of these.")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{jobs} line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise InputError(f"{jobs} line {number} is not a JSON object with names of options.")
        yield f"{jobs} line {number}", row


def _rows_of_folder(jobs: Path, given: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if ("source" in given) == ("driving" in given):
        raise InputError(
            f"{jobs} is a folder: give --source if it holds drivers, or --driving if it holds sources."
        )
    lacking = "driving" if "source" in given else "source"
    suffixes = {*SEQUENCE_SUFFIXES, *VIDEO_INPUTS}
    suffixes |= {*SOUND_SUFFIXES, MOTION_SUFFIX} if lacking == "driving" else set()
    for file in sorted(jobs.iterdir()):
        if file.suffix.lower() in suffixes and not file.name.startswith("."):
            yield str(file), {lacking: str(file)}


def _value(hint: Any, text: Any, where: str) -> Any:
    """A cell as the type that the option has."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(member for member in get_args(hint) if member is not type(None))
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise InputError(f"{where} is one of {', '.join(map(str, get_args(hint)))}, got {text!r}.")
        return text
    if get_origin(hint) is tuple and isinstance(text, list) and all(isinstance(word, str) for word in text):
        return tuple(text)
    word = str(text).strip()
    if get_origin(hint) is tuple:
        return tuple(word.split())
    if hint is bool:
        if word.lower() not in (*_YES, *_NO):
            raise InputError(f"{where} is true or false, got {text!r}.")
        return word.lower() in _YES
    kind = {int: "a whole number", float: "a number"}.get(hint, "text")
    if isinstance(text, (dict, list)) or (isinstance(text, bool) and hint is not bool):
        raise InputError(f"{where} is {kind}, got {text!r}.")
    try:
        return hint(word)
    except ValueError as error:
        raise InputError(f"{where} is {kind}, got {text!r}.") from error


def _beside(jobs: Path, name: str, value: Any) -> Any:
    """The value of an option, its path taken from where the jobs are."""
    if isinstance(value, Path):
        return jobs.parent / value.expanduser()
    if name == "map":
        pairs = (entry.partition("=") for entry in value)
        return tuple(
            f"{n}={jobs.parent / Path(file).expanduser()}" if file else n + eq for n, eq, file in pairs
        )
    if name == "output":  # its last stroke says that it is a folder
        return os.path.join(jobs.parent, os.path.expanduser(value))
    if name == "reference_frame" and (picture := neutral_picture(value)) is not None:
        return str(jobs.parent / picture)
    if (
        name == "preset"
        and value not in PRESETS
        and (folder := jobs.parent / Path(value).expanduser()).exists()
    ):
        return str(folder)
    return value


def _check_outputs(items: Sequence[Item]) -> None:
    seen: dict[str, str] = {}
    for item in items:
        whole = os.path.abspath(item.recording.whole)
        if whole in seen:
            raise InputError(
                f"{seen[whole]} and {item.where} would both write {whole}; give one another output."
            )
        seen[whole] = item.where


def _near(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; is it {near[0]}" if near else "; see vivant animate --help"


def _stamp(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except OSError:
        return [str(path)]
    return [str(path), status.st_size, status.st_mtime_ns]


def _ends_a_line(path: Path) -> bool:
    if path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
