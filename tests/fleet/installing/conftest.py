"""Two container nodes to install on, and the wheelhouses that they see."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyswiftops.installing.packages import BUILDER, batches
from pyswiftops.matrix import row
from pyswiftops.wheelhouse import make_wheelhouse

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from bench.container_nodes import IMAGE, Nodes, container_nodes, image

from .lab import PINS, PYTHON, play

INSTALLER = "swiftops-test-install:1"
DOCKERFILE = f"""\
FROM {IMAGE}
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends git python3-venv
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheelhouses that nodes see; kept between runs where one is named."""
    return Path(os.environ.get("SWIFTOPS_TEST_WHEELS") or tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def bring(wheels: Path) -> Callable[[str], None]:
    """Have pip fill the wheelhouse of a line."""

    def fill(line: str) -> None:
        found = batches(row(line), PYTHON, PINS[line])
        wanted = tuple(dict.fromkeys([*itertools.chain.from_iterable(found), BUILDER]))
        make_wheelhouse(wheels / line, line=line, requirements=wanted)

    return functools.cache(fill)


@pytest.fixture(scope="module")
def nodes(wheels: Path) -> Iterator[Nodes]:
    image()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        words = ["docker", "build", "--quiet", "--network", "host", "--tag", INSTALLER, folder]
        subprocess.run(words, check=True, capture_output=True, env=environment)
    mount = f"{wheels}:/srv/wheels:ro"
    name = f"install-{os.getpid()}"
    with container_nodes(2, name, "172.30.47.0/24", of=INSTALLER, volumes=[mount]) as made:
        play(made, "settings")
        yield made
