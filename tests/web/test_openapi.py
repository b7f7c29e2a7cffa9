"""What the server does is what its OpenAPI says, with requests made up by schemathesis.

Coverage of every keyword, random requests, and sequences along the links (order, watch, cancel, try again). For a
longer hunt raise EXAMPLES.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from vivant.media.writer import VideoWriter
from vivant.web.app import build
from vivant.web.settings import Serving

from .conftest import noise, png, running

EXAMPLES = 4
SETTINGS = """
[[operations]]
include-path-regex = "^/v1/(portraits|clips)$"
# 422 as well: no schema can say that a body is a picture or a clip.
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]
"""


@pytest.fixture
def api(serving: Callable[..., Serving]) -> Iterator[str]:
    """A server on a free port; jobs end as soon as they begin."""
    made = serving(requests_per_minute=1_000_000, max_job_hours=1e-9, max_user_jobs=1000)
    with running(build(made)[0]) as address:
        yield address.rstrip("/")


def test_the_server_does_what_its_openapi_says(api: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, Fraction(25), 64, 64) as writer:
        writer.write(noise(0))
    known = {
        "TEST_PORTRAIT": posted(api, "portraits", png(noise(1))),
        "TEST_CLIP": posted(api, "clips", clip.read_bytes()),
    }
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"]
    what = [
        "run",
        f"{api}/openapi.json",
        "--max-examples",
        str(EXAMPLES),
        "--seed",
        "0",
        "--continue-on-failure",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(Path(__file__).parent), "NO_COLOR": "1"}
    ended = subprocess.run(
        command + what,
        cwd=tmp_path,
        env={**os.environ, **known, **hooks},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "Tested: 14" in ended.stdout
    links = re.search(r"(\d+) covered / 7 selected / 7 total", ended.stdout)
    assert links is not None, ended.stdout
    assert int(links[1]) >= 3


def posted(api: str, room: str, content: bytes) -> str:
    request = Request(f"{api}/v1/{room}", content, {"content-type": "application/octet-stream"})
    with urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["id"])
