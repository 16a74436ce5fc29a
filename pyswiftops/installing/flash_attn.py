"""Which wheel of a flash-attention release fits a node, by the name that its releases give it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import Version

NAME = re.compile(
    r"flash_attn-(?P<version>[^+]+)\+cu(?P<cuda>\d+)torch(?P<torch>\d+\.\d+)"
    r"cxx11abi(?P<abi>TRUE|FALSE)-(?P<python>cp\d+)-(?P=python)-linux_(?P<machine>\w+)\.whl"
)


@dataclass(frozen=True)
class Wheel:
    """What a wheel is built for.

    Attributes:
        version: Of flash-attention.
        cuda: The major version of CUDA, as releases since 2.7 have it.
        torch: Major and minor version of torch.
        cxx11abi: The C++ ABI of that torch.
        python: ``cp312``.
        machine: ``x86_64``.
    """

    version: str
    cuda: str
    torch: str
    cxx11abi: bool
    python: str
    machine: str

    @property
    def name(self) -> str:
        """The file's name among the assets of a release."""
        abi = str(self.cxx11abi).upper()
        build = f"{self.version}+cu{self.cuda}torch{self.torch}cxx11abi{abi}"
        return f"flash_attn-{build}-{self.python}-{self.python}-linux_{self.machine}.whl"

    def url(self, base: str) -> str:
        """Where the release, or a mirror of the releases, has it."""
        return f"{base.rstrip('/')}/v{self.version}/{self.name.replace('+', '%2B')}"


def wheel(version: str, cuda: str, torch: str, python: str, machine: str, *, abi: bool) -> Wheel:
    """The wheel for a node.

    Args:
        version: Of flash-attention.
        cuda: As torch says it: ``12.8``.
        torch: As torch says it: ``2.8.0+cu128``.
        python: ``3.12.4``.
        machine: ``x86_64``.
        abi: Whether torch was built with the C++11 ABI.
    """
    series = "{}.{}".format(*Version(torch).release[:2])
    tag = "cp{}{}".format(*Version(python).release[:2])
    return Wheel(version, cuda.partition(".")[0], series, abi, tag, machine)


def parse(name: str) -> Wheel:
    """What a wheel of that name is built for.

    Raises:
        ValueError: it is no such name.
    """
    found = NAME.fullmatch(name)
    if not found:
        raise ValueError(name)
    part = found.groupdict()
    abi = part.pop("abi") == "TRUE"
    return Wheel(part["version"], part["cuda"], part["torch"], abi, part["python"], part["machine"])


def newest(names: Sequence[str]) -> str:
    """The newest version that a listing holds."""
    return str(max(Version(parse(name).version) for name in names))


def nearest(wanted: Wheel, names: Sequence[str]) -> str:
    """For which torch and Python the listing has wheels like the wanted one, in words."""
    like = [
        item
        for item in map(parse, names)
        if (item.version, item.cuda, item.machine) == (wanted.version, wanted.cuda, wanted.machine)
    ]
    torches = sorted({item.torch for item in like}, key=Version)
    pythons = sorted({item.python for item in like}, key=lambda tag: int(tag[2:]))
    if not like:
        return f"none of {wanted.version} for CUDA {wanted.cuda} on {wanted.machine}"
    return f"torch {', '.join(torches)} on {', '.join(pythons)}"
