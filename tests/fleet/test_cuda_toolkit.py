"""A real nvcc out of wheels: installed without an index, matching torch, and compiling a kernel.

Needs no container; it is marked fleet since pip brings 100 MB of wheels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import cuda_toolkit

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(600)]
VERSION = "13.0"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheelhouse of the toolkit; kept between runs where a folder is named."""
    named = os.environ.get("SWIFTOPS_TEST_WHEELS")
    folder = Path(named) / "cuda" if named else tmp_path_factory.mktemp("cuda")
    words = ["-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([sys.executable, *words, *cuda_toolkit.wheels(VERSION)], check=True)
    return folder


def a_python(folder: Path, cuda: str) -> str:
    """A Python whose torch says that it was built with this CUDA."""
    package = folder / f"stub{cuda}" / "torch"
    package.mkdir(parents=True, exist_ok=True)
    text = f"class version:\n    cuda = {cuda!r}\n"
    (package / "__init__.py").write_text(text, encoding="utf-8")
    program = folder / f"python{cuda}"
    path = f"export PYTHONPATH={package.parent}\n"
    program.write_text(f'#!/bin/sh\n{path}exec {sys.executable} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return str(program)


def wanted(folder: Path, **more: object) -> cuda_toolkit.Wanted:
    given: dict[str, object] = {
        "python": more.get("python") or a_python(folder, "13.0"),
        "version": "",
        "method": "pip",
        "path": "",
        "root": str(folder / "root"),
        "pip": ["--no-index"],
        "conda": "micromamba",
        "channels": [],
        "offline": False,
        "profile": str(folder / "profile.d" / "cuda.sh"),
        "link": False,
    }
    return cuda_toolkit.Wanted(**{**given, **more})


def test_a_wheelhouse_becomes_a_toolkit_that_compiles(wheels: Path, tmp_path: Path) -> None:
    asked = wanted(tmp_path, pip=["--no-index", f"--find-links={wheels}"])
    found = cuda_toolkit.converge(asked)
    assert (found.version, found.changed) == (VERSION, True)
    home = tmp_path / "root" / "home"
    assert (home / "lib64").resolve() == (home / "lib").resolve()
    assert (home / "lib" / "libcudart.so").exists()
    again = cuda_toolkit.converge(asked)
    assert (again.changed, again.reasons) == (False, [])
    # as a person at a login shell, with a source that names no folder
    source = tmp_path / "one.cu"
    source.write_text("#include <cub/cub.cuh>\n__global__ void f() {}\n", encoding="utf-8")
    script = f". {asked.profile} && nvcc --version && nvcc -cubin -arch=sm_90 -o one.cubin one.cu"
    said = subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert f"release {VERSION}" in said
    assert (tmp_path / "one.cubin").read_bytes()[:4] == b"\x7fELF"
    # and the one that is there is taken where it is named
    named = wanted(tmp_path, method="path", path=found.home, root=str(tmp_path / "other"))
    assert cuda_toolkit.converge(named).home == found.home
    other = wanted(tmp_path, method="path", path=found.home, python=a_python(tmp_path, "12.8"))
    with pytest.raises(cuda_toolkit.CudaError, match=r"nvcc of CUDA 12\.8; found: CUDA 13"):
        cuda_toolkit.converge(other)
    assert cuda_toolkit.remove(asked)
    assert not home.exists()
    assert not Path(asked.profile).exists()
    assert Path(found.home, "bin", "nvcc").exists()


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its wheels nor its toolkits."""
    monkeypatch.setattr(cuda_toolkit, "USUAL", ("/nonexistent/cuda",))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_FIND_LINKS", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("cuda", "more", "says"),
    [
        ("12.8", {}, "whose wheels hold no nvcc"),
        ("13.0", {}, "cuda_toolkit_find_links"),
        ("", {}, "a torch without CUDA"),
        ("13.0", {"version": "13.1"}, r"expected: the CUDA of torch, 13\.0"),
        ("13.0", {"method": "conda", "conda": "no-such-conda"}, "conda to install CUDA 13"),
    ],
)
def test_what_cannot_be_had_is_refused(
    tmp_path: Path, cuda: str, more: dict[str, str], says: str
) -> None:
    asked = wanted(tmp_path, **{"python": a_python(tmp_path, cuda), **more})
    with pytest.raises(cuda_toolkit.CudaError, match=says):
        cuda_toolkit.converge(asked)
    assert not (tmp_path / "profile.d").exists()
