"""Versions and specifiers, without asking an index what exists."""

from __future__ import annotations

from functools import cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

_FULL = 3  # numbers of a version that names one release


@cache
def within(version: str, specifier: str) -> bool:
    """Whether a version is in a range; pre-releases count."""
    return SpecifierSet(specifier).contains(version, prereleases=True)


@cache
def together(one: str, other: str) -> str | None:
    """Both ranges as one; None where no version can be in both.

    A range that holds anything holds 0, a version that is named in it, or one just above that.
    """
    whole = SpecifierSet(one) & SpecifierSet(other)
    probes = {"0"}
    for part in whole:
        version = Version(part.version.removesuffix(".*"))
        numbers = ".".join(map(str, version.release))
        probes |= {str(version), numbers, f"{numbers}.0.0.1", f"{numbers}.post1"}
    if any(whole.contains(probe, prereleases=True) for probe in probes):
        return ",".join(filter(None, (one, other)))
    return None


def exact(version: str) -> str:
    """A specifier for a version; one of two numbers stands for all its releases."""
    return f"=={version}" if len(Version(version).release) >= _FULL else f"=={version}.*"
