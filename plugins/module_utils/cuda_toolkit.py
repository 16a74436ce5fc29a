# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A CUDA toolkit of the CUDA that torch was built with, for what is compiled on a node.

One that is there already is used. Otherwise pip puts NVIDIA's wheels into a folder of our own, or
conda makes a prefix; torch's environment stays as it is. Links are added that compilers look for
and wheels do not carry. The proof is a kernel that is compiled, for which no GPU is needed.

Sources: the wheels nvidia-cuda-nvcc 13.0 (with nvcc) and nvidia-cuda-nvcc-cu12 12.9 (without);
torch 2.13, utils/cpp_extension.py.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

FIRST_WITH_NVCC = 13  # major version of CUDA whose wheels hold nvcc
WHEELS = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime")
WHEELS += ("nvidia-cuda-cccl",)
USUAL = ("/usr/local/cuda", "/opt/cuda")
SECONDS = 1800
SHOWN = 2000  # characters of a program's output
HEAD = "# Made by pyswiftops; changes are lost.\n"
KERNEL = """\
#include <cuda_runtime.h>
__global__ void probe(float *x) { x[threadIdx.x] += 1.0f; }
int main() { probe<<<1, 1>>>(nullptr); return 0; }
"""
ASK_TORCH = (
    "import torch, importlib.util as u; s = u.find_spec('nvidia');"
    "print(torch.version.cuda or '-', *(s and s.submodule_search_locations or []), sep='\\n')"
)


class CudaError(Exception):
    """No toolkit as it must be; says what, where, and what to do."""

    def __init__(self, expected: str, found: str, where: str, remedy: str) -> None:
        super().__init__(f"expected: {expected}; found: {found}; where: {where}; remedy: {remedy}")


class Wanted(NamedTuple):
    """What is asked for.

    Attributes:
        python: The Python that has torch.
        version: CUDA's major.minor; torch's where empty.
        method: ``pip``, ``conda`` or ``path``.
        path: The toolkit that is there, with ``path``.
        root: Where toolkits of ours lie; its link ``home`` leads to the one in use.
        pip: Words of pip besides: where wheels come from.
        conda: The program, with ``conda``.
        channels: Channels of conda.
        offline: Whether conda takes only what is in its cache.
        profile: The file that login shells read.
        link: Whether ``/usr/local/cuda`` leads to it.
    """

    python: str
    version: str
    method: str
    path: str
    root: str
    pip: list
    conda: str
    channels: list
    offline: bool
    profile: str
    link: bool


class Found(NamedTuple):
    """The toolkit in use."""

    home: str
    version: str
    environment: dict
    changed: bool
    reasons: list


def said(argv: list, seconds: int = SECONDS, **environment: str) -> tuple:
    """Run a program without a shell; return its exit code and what it said."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return 127, str(problem)
    return done.returncode, done.stdout.decode(errors="replace").strip()


def of_torch(python: str) -> tuple:
    """Torch's CUDA as major.minor ("" without), and the folder of NVIDIA's wheels beside it."""
    code, text = said([python, "-c", ASK_TORCH])
    if code:
        raise CudaError(
            "a Python with torch",
            text[-SHOWN:],
            python,
            "apply the role swift_install before, or name cuda_toolkit_version",
        )
    version, *folders = text.splitlines()[-2:] if "\n" in text else [text]
    return ("" if version == "-" else ".".join(version.split(".")[:2])), (folders or [""])[0]


def nvcc_version(home: str) -> str:
    """The major.minor of the nvcc below a folder; "" where there is none."""
    code, text = said([str(Path(home, "bin", "nvcc")), "--version"])
    found = re.search(r"release ([0-9]+\.[0-9]+)", text)
    return found[1] if found and not code else ""


def wheels(version: str) -> list:
    """What pip is asked for."""
    return [f"{name}=={version}.*" for name in WHEELS]


def candidates(wanted: Wanted, version: str) -> Iterator[str]:
    """Folders that may hold the toolkit, the first that does is used."""
    if wanted.method == "path":
        yield wanted.path
        return
    yield from (ours(wanted, version), os.environ.get("CUDA_HOME", ""))
    yield from (f"{USUAL[0]}-{version}", *USUAL)


def ours(wanted: Wanted, version: str) -> str:
    """Where a toolkit that we install has its ``bin``."""
    below = Path(wanted.root, version)
    if wanted.method == "pip":
        below = below / "nvidia" / f"cu{version.partition('.')[0]}"
    return str(below)


def install(wanted: Wanted, version: str) -> str:
    """Install the toolkit; return its folder."""
    target = str(Path(wanted.root, version))
    if wanted.method == "pip":
        if int(version.partition(".")[0]) < FIRST_WITH_NVCC:
            raise CudaError(
                f"CUDA {FIRST_WITH_NVCC} or later with method pip",
                f"CUDA {version}, whose wheels hold no nvcc",
                "cuda_toolkit_method",
                "cuda_toolkit: {method: conda}, or name a toolkit that is there as path",
            )
        argv = [wanted.python, "-m", "pip", "install", "--no-deps", "--upgrade", "--target"]
        argv += [target, *wanted.pip, *wheels(version)]
    else:
        argv = [wanted.conda, "create", "--yes", "--quiet", "--prefix", target]
        argv += [f"--channel={channel}" for channel in wanted.channels]
        argv += [*(["--offline"] if wanted.offline else []), f"cuda-toolkit={version}"]
    code, text = said(argv)
    if code:
        raise CudaError(
            f"{wanted.method} to install CUDA {version}",
            f"exit code {code}: {text[-SHOWN:]}",
            shlex.join(argv),
            "name where it comes from: cuda_toolkit_find_links, cuda_toolkit_index_url or "
            "cuda_toolkit_conda_channels",
        )
    return ours(wanted, version)


def target_folder(home: str) -> Path:
    """The folder that holds ``include`` and ``lib`` of this machine's kind."""
    machines = {"x86_64": ["x86_64-linux"], "aarch64": ["sbsa-linux", "aarch64-linux"]}
    for name in machines.get(platform.machine(), []):
        folder = Path(home, "targets", name)
        if (folder / "include").is_dir():
            return folder
    return Path(home)


def links(home: str) -> dict:
    """Link -> where it leads, of those that compilers look for below a toolkit that we made."""
    target, made = target_folder(home), {}
    lib = target / "lib"
    if lib.is_dir() and not Path(home, "lib64").is_dir():
        made[str(Path(home, "lib64"))] = os.path.relpath(lib, home)
    if target != Path(home) and not Path(home, "include", "cuda_runtime.h").exists():
        for header in sorted((target / "include").iterdir()):
            place = Path(home, "include", header.name)
            if not place.exists():
                made[str(place)] = os.path.relpath(header, place.parent)
    for library in sorted(lib.glob("lib*.so.*")) if lib.is_dir() else []:
        plain = library.with_name(library.name.partition(".so.")[0] + ".so")
        if not plain.exists():
            made[str(plain)] = library.name
    return made


def environment(home: str, root: str, beside: str) -> dict:
    """Variables of what is compiled.

    Args:
        home: The toolkit.
        root: Where the link ``home`` lies, which stays when the version changes.
        beside: The folder of NVIDIA's wheels in torch's environment: cuBLAS and others.
    """
    link = str(Path(root, "home"))
    relative = os.path.relpath(target_folder(home), home)
    target = os.path.normpath(Path(link, relative))
    found = sorted(Path(beside).glob("*")) if beside else []
    more = {name: [str(path / name) for path in found if (path / name).is_dir()]
            for name in ("include", "lib")}  # fmt: skip
    cccl = [f"{target}/include/cccl"] if Path(home, relative, "include", "cccl").is_dir() else []
    return {
        "CUDA_HOME": link,
        "CUDA_PATH": link,
        "CUDACXX": f"{link}/bin/nvcc",
        "CPATH": ":".join([f"{target}/include", *cccl, *more["include"]]),
        "LIBRARY_PATH": ":".join([f"{target}/lib", *more["lib"]]),
    }


def profile(variables: Mapping[str, str]) -> str:
    """A file for shells: what was set before comes after ours."""
    lists = ("CPATH", "LIBRARY_PATH")
    lines = [
        f"export {name}={shlex.quote(value)}"
        + (f'"${{{name}:+:${name}}}"' if name in lists else "")
        for name, value in variables.items()
    ]
    return HEAD + "".join(f"{line}\n" for line in [*lines, 'export PATH="$CUDA_HOME/bin:$PATH"'])


def prove(home: str, version: str, variables: Mapping[str, str]) -> None:
    """Refuse a toolkit of another version, and one that compiles nothing."""
    nvcc, found = str(Path(home, "bin", "nvcc")), nvcc_version(home)
    if found != version:
        raise CudaError(
            f"nvcc of CUDA {version}",
            f"CUDA {found}" if found else "none that starts",
            nvcc,
            "name another toolkit in cuda_toolkit.path, or take method pip or conda",
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cu")
        source.write_text(KERNEL, encoding="utf-8")
        argv = [nvcc, "-o", str(Path(folder, "probe")), str(source)]
        code, text = said(argv, **variables)
    if code:
        compiler = (
            "apt-get install g++" if said(["g++", "--version"])[0] else f"run by hand: {nvcc}"
        )
        raise CudaError(
            "nvcc to compile and link a kernel",
            f"exit code {code}: {text[-SHOWN:]}",
            nvcc,
            compiler,
        )


def link(place: Path, to: str) -> bool:
    """Have a link lead somewhere; say whether that changed it."""
    if place.is_symlink() and os.readlink(place) == to:  # noqa: PTH115 text is compared
        return False
    if place.exists() and not place.is_symlink():
        raise CudaError("a link, or nothing", "a folder", str(place), "move it out of the way")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(to)
    return True


def write(path: Path, text: str) -> bool:
    """Give a file its text by a rename; say whether that changed it."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)
    return True


def remove(wanted: Wanted) -> list:
    """Take away what leads to a toolkit; toolkits stay, as they may take hours to come again."""
    reasons = []
    home = Path(wanted.root, "home")
    usual = Path(USUAL[0])
    if usual.is_symlink() and os.readlink(usual) == str(home):  # noqa: PTH115 text is compared
        usual.unlink()
        reasons.append(f"{usual} led to it")
    for path in (Path(wanted.profile), home):
        if path.is_symlink() or path.exists():
            path.unlink()
            reasons.append(f"{path} was there")
    return reasons


def asked_version(wanted: Wanted) -> tuple:
    """CUDA's major.minor that nvcc must have, and the folder of NVIDIA's wheels beside torch."""
    try:
        torch, beside = of_torch(wanted.python)
    except CudaError:
        if not wanted.version:
            raise
        torch, beside = "", ""  # nothing is said of what is not there yet
    version = wanted.version or torch
    if torch and version != torch:
        raise CudaError(
            f"the CUDA of torch, {torch}", version, "cuda_toolkit.version", "leave version out"
        )
    if not version:
        raise CudaError(
            "torch with CUDA, whose version nvcc must have",
            "a torch without CUDA",
            wanted.python,
            "name cuda_toolkit.version, or leave cuda_toolkit out",
        )
    return version, beside


def converge(wanted: Wanted, *, check: bool = False) -> Found:
    """Have a toolkit, its links and its variables; prove that it compiles.

    Raises:
        CudaError: there is none of that version, and none can be installed.
    """
    version, beside = asked_version(wanted)
    home: str | None = next(
        (each for each in candidates(wanted, version) if each and nvcc_version(each) == version),
        None,
    )
    reasons = []
    if home is None and wanted.method == "path":
        home = wanted.path  # and the proof says what is wrong with it
    if home is None:
        reasons.append(f"no nvcc of CUDA {version}")
        if check:
            return Found(ours(wanted, version), version, {}, changed=True, reasons=reasons)
        home = install(wanted, version)
    if check:
        made = environment(home, wanted.root, beside)
        return Found(home, version, made, changed=False, reasons=reasons)
    return _in_use(wanted, home, version, beside, reasons)


def _in_use(wanted: Wanted, home: str, version: str, beside: str, reasons: list) -> Found:
    """Prove a toolkit, and have links and variables lead to it."""
    if home.startswith(wanted.root + "/"):
        reasons += [f"{place} was not there" for place, to in links(home).items()
                    if link(Path(place), to)]  # fmt: skip
    variables = environment(home, wanted.root, beside)
    prove(home, version, variables)
    if link(Path(wanted.root, "home"), home):
        reasons.append("another toolkit")
    if write(Path(wanted.profile), profile(variables)):
        reasons.append(f"other variables in {wanted.profile}")
    if wanted.link and link(Path(USUAL[0]), str(Path(wanted.root, "home"))):
        reasons.append(f"{USUAL[0]} led elsewhere")
    path = f"{home}/bin:{os.environ.get('PATH', os.defpath)}"
    return Found(home, version, {**variables, "PATH": path}, bool(reasons), reasons)
