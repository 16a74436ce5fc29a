"""Which release of torch, which build of it, and what has to go with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from packaging.version import Version

from pyswiftops.hardware import Architecture, Toolkit, hardware
from pyswiftops.matrix import Package, Row
from pyswiftops.solver.asked import Asked, pins
from pyswiftops.solver.ranges import exact, together, within

MEGATRON, TORCH, VLLM = "megatron-core", "torch", "vllm"
Keeps = Callable[[str, str], bool]


class NoFitError(Exception):
    """Why a line does not fit, as a sentence."""


@dataclass(frozen=True)
class Build:
    """A release of torch, its build, and what goes with it."""

    torch: str
    cuda: str
    megatron: str | None
    vllm: str | None

    def specifiers(self) -> dict[str, str]:
        """Package to specifier."""
        found = {TORCH: f"=={self.torch}", MEGATRON: self.megatron, VLLM: self.vllm}
        return {name: text for name, text in found.items() if text is not None}


def best_build(row: Row, asked: Asked) -> Build:
    """The first build that goes with everything, the best first."""
    builds = _torch_builds(row, asked)
    why = None
    for torch, cuda in builds:
        try:
            return Build(torch, cuda, _megatron(row, asked, torch), _vllm(row, asked, torch))
        except NoFitError as problem:
            why = why or problem
    raise why or NoFitError("no build of torch fits")


def arch_of(asked: Asked) -> Architecture | None:
    """The facts of the architecture that is asked for."""
    return hardware().architectures[asked["arch"]] if "arch" in asked else None


def recommended(package: Package) -> list[str]:
    """The versions that the line's documentation names, the best first."""
    return list(filter(None, [package.recommended, *package.also]))


def known(package: Package, asked: Asked) -> list[str]:
    """The versions that the row names, the best first."""
    newer = package.pin_py312 if within(asked.get("python", "3.12"), ">=3.12") else None
    return [each for each in (newer, package.pin, package.recommended, *package.also) if each]


def specifier(name: str, package: Package, asked: Asked) -> str:
    """The specifier of a package that nothing but its row and the user binds."""
    wanted = pins(asked).get(name, "")
    whole = together(package.range, wanted)
    if whole is None:
        raise NoFitError(f"its row has {name} {package.range}, which excludes {wanted}")
    for version in known(package, asked):
        if within(version, whole):
            return exact(version)
    return whole


def limited(toolkit: Toolkit, asked: Asked) -> bool:
    """Whether the driver is older than the toolkit's own."""
    own, driver = toolkit.own_driver, asked.get("driver")
    return own is not None and driver is not None and Version(driver) < Version(own)


def minor(version: str) -> str:
    """The first two numbers."""
    found = Version(version)
    return f"{found.major}.{found.minor}"


def _torch_builds(row: Row, asked: Asked) -> list[tuple[str, str]]:
    """Releases of torch and the CUDA of their builds that fit; the best first.

    Raises:
        NoFitError: a demand leaves none.
    """
    package = row.packages[TORCH]
    wanted = pins(asked).get(TORCH, "")
    if together(package.range, wanted) is None:
        raise NoFitError(f"its row has torch {package.range}, which excludes {wanted}")
    releases = hardware().releases[TORCH]
    left = [
        (torch, cuda)
        for torch, release in releases.items()
        if within(torch, package.range)
        for cuda in release.cuda
    ]
    for why, keeps in _limits(asked):
        left = [(torch, cuda) for torch, cuda in left if keeps(torch, cuda)]
        if not left:
            raise NoFitError(why)
    return sorted(left, key=partial(_rank, row, asked))


def _limits(asked: Asked) -> Iterator[tuple[str, Keeps]]:
    """What each demand leaves of torch's builds, with the sentence for when that is nothing."""
    releases, toolkits = hardware().releases[TORCH], hardware().cuda
    wanted, arch, python = pins(asked).get(TORCH), arch_of(asked), asked.get("python")
    cuda, driver = asked.get("cuda"), asked.get("driver")
    if wanted is not None:
        told = f"no release of torch that is known here is {wanted} and in its row's range"
        yield told, lambda torch, _: within(torch, wanted)
    if python is not None:
        told = f"no such torch takes Python {python}"
        yield told, lambda torch, _: releases[torch].takes_python(python)
    if arch is not None:
        name = asked["arch"]
        told = f"no such build of torch runs on {name}, which needs CUDA {arch.cuda}"
        yield told, lambda _, build: within(build, arch.cuda) and toolkits[build].runs_on(name)
    if cuda is not None:
        major = Version(cuda).major
        told = f"no such build of torch is for CUDA {major}.x"
        yield told, lambda _, build: Version(build).major == major
    if driver is not None:
        told = f"every such build of torch needs a newer driver than {driver}"
        yield told, lambda _, build: Version(driver) >= Version(toolkits[build].driver)


def _rank(row: Row, asked: Asked, build: tuple[str, str]) -> tuple[int, ...]:
    """Smaller is better: recommended torch, the machine's CUDA, recommended CUDA, driver, newer."""
    torch, cuda = build
    releases, best = list(hardware().releases[TORCH]), recommended(row.packages[TORCH])
    position = releases.index(torch)
    near = releases.index(best[0]) if best else len(releases)
    listed = row.cuda.recommended if row.cuda else []
    return (
        best.index(torch) if torch in best else len(best),
        abs(position - near),
        -position,
        minor(asked.get("cuda", cuda)) != cuda,
        cuda not in listed,
        limited(hardware().cuda[cuda], asked),
        -list(hardware().cuda).index(cuda),
    )


def _megatron(row: Row, asked: Asked, torch: str) -> str | None:
    """The specifier of megatron-core; None for a line whose row does not name it."""
    package = row.packages.get(MEGATRON)
    if package is None:
        return None
    if row.megatron_source.kind == "git":
        return specifier(MEGATRON, package, asked)
    wanted = pins(asked).get(MEGATRON, "")
    if together(package.range, wanted) is None:
        raise NoFitError(f"its row has {MEGATRON} {package.range}, which excludes {wanted}")
    releases = hardware().releases[MEGATRON]
    fitting = [
        name
        for name, release in releases.items()
        if within(name, package.range)
        and within(name, wanted)
        and ("python" not in asked or release.takes_python(asked["python"]))
        and within(torch, release.needs.get(TORCH, ""))
    ]
    if not fitting:
        told = f"no {MEGATRON} {together(package.range, wanted)} is known here that takes"
        raise NoFitError(f"{told} Python {asked.get('python', 'any')} and torch {torch}")
    for version in known(package, asked):
        same = [name for name in fitting if within(name, exact(version))]
        if same:
            return f"=={same[-1]}"
    return f"=={fitting[-1]}"


def _vllm(row: Row, asked: Asked, torch: str) -> str | None:
    """The specifier of vLLM; None where none that the row names goes with this torch."""
    package = row.packages.get(VLLM)
    if package is None:
        return None
    wanted = pins(asked).get(VLLM)
    whole = together(package.range, wanted or "")
    if whole is None:
        raise NoFitError(f"its row has {VLLM} {package.range}, which excludes {wanted}")
    releases = {n: r for n, r in hardware().releases[VLLM].items() if within(n, whole)}
    fitting = [
        name
        for name, release in releases.items()
        if within(torch, release.needs.get(TORCH, ""))
        and ("python" not in asked or release.takes_python(asked["python"]))
    ]
    for version in known(package, asked):
        same = [name for name in fitting if within(name, exact(version))]
        if same:
            return f"=={same[-1]}"
    if wanted is None:
        return None
    if releases and not fitting:
        raise NoFitError(f"no {VLLM} {wanted} that is known here takes torch {torch}")
    return f"=={fitting[-1]}" if fitting else whole
