"""GPUs, CUDA toolkits and what releases of packages need, read from the role ``versions``."""

from __future__ import annotations

from functools import cache

import yaml
from packaging.specifiers import SpecifierSet
from pydantic import Field

from pyswiftops.content import collection
from pyswiftops.errors import MatrixError
from pyswiftops.matrix import Fact
from pyswiftops.specs.document import Model, validate


class Architecture(Fact):
    """A GPU architecture."""

    gpus: str
    cuda: str = Field(description="The CUDA versions that can build for it.")
    bf16: bool
    fp8: bool
    flash_attn: bool


class Toolkit(Fact):
    """A CUDA version that torch is built with."""

    driver: str
    own_driver: str | None = None
    built_for: list[str]

    def runs_on(self, arch: str) -> bool:
        """Whether torch's builds with this CUDA run on an architecture.

        Binaries run on GPUs of the same major number and the same or a larger minor one.
        """
        major, minor = _capability(arch)
        return any(
            its_major == major and its_minor <= minor
            for its_major, its_minor in map(_capability, self.built_for)
        )


class Release(Fact):
    """A release of a package."""

    python: str
    cuda: list[str] = Field(default_factory=list)
    needs: dict[str, str] = Field(default_factory=dict, description="Package to range.")

    def takes_python(self, python: str) -> bool:
        """Whether it can be installed there."""
        return python in SpecifierSet(self.python)


class Hardware(Model):
    """The whole file."""

    architectures: dict[str, Architecture]
    cuda: dict[str, Toolkit]
    releases: dict[str, dict[str, Release]]


@cache
def hardware() -> Hardware:
    """The facts.

    Raises:
        MatrixError: the file does not fit the schema.
    """
    path = collection() / "roles" / "versions" / "files" / "hardware.yml"
    return validate(
        Hardware, yaml.safe_load(path.read_text(encoding="utf-8")), path.name, MatrixError
    )


def _capability(arch: str) -> tuple[int, int]:
    """``sm_103`` as (10, 3)."""
    digits = arch.removeprefix("sm_")
    return int(digits[:-1]), int(digits[-1])
