"""The rules of the house, kept by a machine: who imports whom, how long things are, what must never appear.

Everything is read from the source with `ast`; nothing is imported, so this runs in a second and without torch.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "vivant"

# The ladder: a module imports only from lower rungs or from its own package. Lowest first.
RUNGS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("store", "records", "controls"),
    ("keyframes",),
    ("bookmark",),
    ("ops",),
    ("layers", "diffusion"),
    ("media",),
    ("marks",),
    ("face",),
    ("checkpoint", "runtime"),
    ("engine", "published"),
    ("motion_file", "engines", "voice"),
    ("export",),
    ("driving",),
    ("presets", "session", "montage"),
    ("place",),
    ("scenes",),
    ("drivers", "sources", "settings"),
    ("performance", "motion_capture"),
    ("casting",),
    ("animation", "editing"),
    ("live",),
    ("manifest", "outputs", "checked"),
    ("recording", "retouching"),
    ("batch", "plan"),
    ("studio",),
    ("training",),
    ("families' training",),  # engines/<family>/{losses, recipes, ...}
    ("evaluation",),
    ("web",),
    ("cli",),
)
LEVEL = {package: level for level, rung in enumerate(RUNGS) for package in rung}

# Rooms of a family that belong to training; inference code never imports them.
TRAINING_ROOMS = (
    "kept",
    "losses",
    "encoded",
    "recipes",
    "recipes_full",
    "recipes_stage2",
    "resident",
    "solving",
    "stages",
    "stages_decoder",
    "stages_judged",
    "stages_published",
    "stages_retargeting",
    "stages_start",
    "stages_student",
    "stages_talking",
    "streams",
    "voice_training",
    "data",
    "discriminator",
    "discriminators",
)

# The one reader of pickles lets nothing in them run; see docs/decisions/0011.
EXCEPTED = {("engines/liveportrait/template.py", "pickle")}

# Libraries that only these packages may touch.
OWNED = {
    "av": {"media"},
    "tkinter": {"media"},
    "cv2": {"media", "marks", "face", "studio", "evaluation", "training"},
    "typer": {"cli"},
    "rich": {"cli"},
    "click": {"cli"},
    "fastapi": {"web"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "websockets": {"web"},
    "aiortc": {"web"},
    "numba": {"studio", "families' training", "training"},
    "onnx": {"runtime"},
    "onnxruntime": {"runtime"},
    "skimage": {"evaluation"},
    "ray": {"web", "evaluation"},
    "triton": {"ops"},
}
BANNED = {
    "torchvision": "has no build for our torch and breaks others on import",
    "mediapipe": "is only a carrier of three files, never imported",
    "pickle": "runs code when it loads; see docs/decisions",
    "dill": "runs code when it loads",
    "insightface": "models are non-commercial",
    "huggingface_hub": "downloads behind the user's back",
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# Over budget means: explain here, or split. Keys: "package/file.py" or "package/file.py:function".
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


@lru_cache(maxsize=1)
def sources() -> dict[str, tuple[str, ast.Module]]:
    """Text and tree of every file of the package, by path below it."""
    texts = {
        str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))
    }
    return {name: (text, ast.parse(text, name)) for name, text in texts.items()}


def package_of(name: str) -> str:
    """The rung's package that a file belongs to; "" for the package's own __init__ and __main__."""
    parts = Path(name).with_suffix("").parts
    if parts[0] in ("__init__", "__main__"):
        return ""
    if parts[0] == "engines" and len(parts) == 3 and parts[2] in TRAINING_ROOMS:
        return "families' training"
    return parts[0]


def imports_of(name: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Absolute dotted names that a file imports, with their lines; type-only and lazy imports count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: imports are absolute"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def our_file(dotted: str) -> str | None:
    """The file, below the package, of an imported name of ours: the longest prefix that is a module."""
    parts = dotted.split(".")[1:]
    for length in range(len(parts), 0, -1):
        stem = "/".join(parts[:length])
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if candidate in sources():
                return candidate
        if (PACKAGE / stem).is_dir():
            return f"{stem}/__init__.py"
    return None


def our_imports() -> Iterator[tuple[str, str, int]]:
    """(importing file, imported file, line) of every import inside the package."""
    for name, (_, tree) in sources().items():
        for dotted, line in imports_of(name, tree):
            if dotted == "vivant" or dotted.startswith("vivant."):
                target = our_file(dotted)
                if target is not None:
                    yield name, target, line


def test_every_file_is_on_the_ladder() -> None:
    lost = [name for name in sources() if package_of(name) and package_of(name) not in LEVEL]
    assert not lost, f"give these a rung in RUNGS and docs/architecture.md: {lost}"
    assert len(LEVEL) == sum(len(rung) for rung in RUNGS), "a package stands on one rung"


def test_imports_go_down_only() -> None:
    wrong = []
    for name, target, line in our_imports():
        here, there = package_of(name), package_of(target)
        if here and there and here != there and LEVEL[here] <= LEVEL[there]:
            wrong.append(f"{name}:{line} ({here}) imports {target} ({there})")
    assert not wrong, "\n".join(wrong)


def test_families_do_not_know_each_other() -> None:
    wrong = []
    for name, target, line in our_imports():
        theirs = Path(target).parts
        if theirs[0] != "engines" or len(theirs) < 3:
            continue
        if Path(name).parts[0] == "engines" and Path(name).parts[1:2] != theirs[1:2]:
            wrong.append(f"{name}:{line} imports {target}")
        if package_of(name) in (
            "presets",
            "session",
            "animation",
            "engine",
            "checkpoint",
            "training",
            "runtime",
        ):
            wrong.append(
                f"{name}:{line} names the family {theirs[1]}; families are named as strings in ENGINES"
            )
    assert not wrong, "\n".join(wrong)


def test_inference_never_imports_training() -> None:
    later = {"training", "studio", "evaluation", "families' training"}
    wrong = [
        f"{name}:{line} imports {target}"
        for name, target, line in our_imports()
        if package_of(target) in later and package_of(name) not in later | {"cli", "web"}
    ]
    assert not wrong, "\n".join(wrong)


def test_ops_import_torch_only() -> None:
    allowed = {"torch", "math", "__future__", "collections", "dataclasses", "typing", "functools", "vivant"}
    allowed |= {"contextlib", "contextvars", "importlib", "itertools", "os", "threading"}
    wrong = [
        f"{name}:{line} imports {dotted}"
        for name, (_, tree) in sources().items()
        if package_of(name) in ("ops", "diffusion")
        for dotted, line in imports_of(name, tree)
        if dotted.split(".")[0] not in (allowed | {"triton"} if name.startswith("ops/device/") else allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_are_imported_where_they_are_called() -> None:
    """There is no Triton on a CPU."""
    wrong = [
        f"{name}: {ast.unparse(node)}"
        for name, (_, tree) in sources().items()
        if not name.startswith("ops/device/")
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "vivant.ops.device" in ast.unparse(node)
    ]
    assert not wrong, "\n".join(wrong)


def test_libraries_stay_where_they_belong() -> None:
    wrong = []
    for name, (_, tree) in sources().items():
        for dotted, line in imports_of(name, tree):
            library = dotted.split(".")[0]
            if library in BANNED and (name, library) not in EXCEPTED:
                wrong.append(f"{name}:{line} imports {library}, which {BANNED[library]}")
            if library in OWNED and package_of(name) not in OWNED[library]:
                wrong.append(f"{name}:{line} imports {library}; only {sorted(OWNED[library])} may")
    assert not wrong, "\n".join(wrong)


def test_torchvision_is_not_installed() -> None:
    assert importlib.util.find_spec("torchvision") is None, (
        "torchvision breaks this environment; uninstall it"
    )


def test_files_are_short() -> None:
    long = {name: len(text.splitlines()) for name, (text, _) in sources().items()}
    long = {name: lines for name, lines in long.items() if lines > MAX_FILE_LINES}
    assert set(long) == set(LONG_FILES), (
        f"over {MAX_FILE_LINES} lines: {long}; explained: {sorted(LONG_FILES)}"
    )


def test_functions_are_short() -> None:
    long = {}
    for name, (_, tree) in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{name}:{node.name}"] = lines
    assert set(long) == set(LONG_FUNCTIONS), f"over {MAX_FUNCTION_LINES} lines: {long}"


def test_libraries_do_not_print() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, (_, tree) in sources().items()
        if package_of(name) not in ("cli", "web")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "input")
    ]
    assert not wrong, f"print or input in {wrong}"


def test_nothing_is_caught_broadly() -> None:
    broad = {None, "Exception", "BaseException"}
    wrong = []
    for name, (_, tree) in sources().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {
                item.id if isinstance(item, ast.Name) else None
                for item in caught
                if not isinstance(item, ast.Attribute)
            }
            if names & broad and node.body and not isinstance(node.body[-1], ast.Raise):
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong, f"broad except that does not raise again: {wrong}"


def test_no_room_for_the_undecided() -> None:
    undecided = {"utils", "util", "helper", "helpers", "misc", "wrapper", "common", "manager"}
    wrong = [name for name in sources() if undecided & set(Path(name).with_suffix("").parts)]
    assert not wrong, f"say what it is: {wrong}"


def test_signatures_hide_nothing() -> None:
    wrong = [
        f"{name}:{node.lineno} {node.name}"
        for name, (_, tree) in sources().items()
        for scope in ast.walk(tree)
        if isinstance(scope, (ast.Module, ast.ClassDef))
        for node in scope.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.args.kwarg is not None
    ]
    assert not wrong, f"**kwargs hides the signature: {wrong}"


def test_public_list_is_sorted_and_real() -> None:
    import vivant

    assert vivant.__all__ == sorted(vivant.__all__)
    for name in vivant.__all__:
        assert getattr(vivant, name) is not None
    assert dir(vivant) == vivant.__all__
    with pytest.raises(AttributeError, match="it offers"):
        vivant.pipeline  # noqa: B018


def test_import_is_light() -> None:
    heavy = ("torch", "numpy", "cv2", "av", "PIL", "scipy", "typer", "safetensors")
    program = f"import sys, vivant; print([name for name in {heavy!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
