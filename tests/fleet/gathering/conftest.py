"""Three container nodes that log in to one another, each with a disk of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from bench.container_nodes import container_nodes
from bench.gather import CHECKOUT, settle

from .lab import Lab
from .user import User


@pytest.fixture(scope="session")
def lab_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    data = tmp_path_factory.mktemp("data")
    data.chmod(0o755)  # other users on nodes read there too
    volumes = [f"{data}:/data", f"{CHECKOUT}:/checkout:ro"]
    name = f"gather-{os.getpid()}"
    with container_nodes(3, name, "172.30.48.0/24", volumes=volumes) as nodes:
        settle(nodes)
        yield Lab(nodes, data)


@pytest.fixture
def lab(lab_nodes: Lab) -> Lab:
    """With a new checkpoint, and nothing gathered."""
    lab_nodes.renew()
    return lab_nodes


@pytest.fixture(scope="session")
def adopted(lab_nodes: Lab, tmp_path_factory: pytest.TempPathFactory) -> User:
    """Whose checkpoints are adopted: the folders' names stay the same from test to test."""
    lab_nodes.renew()
    found = User(lab_nodes, tmp_path_factory.mktemp("user"))
    said = found.adopt("old")
    assert said.code == 0, said
    return found


@pytest.fixture
def user(adopted: User, lab: Lab) -> User:
    """With a new checkpoint, adopted as ``old``, and nothing gathered."""
    assert adopted.lab is lab
    return adopted
