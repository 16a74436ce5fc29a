"""What is looked at before a launch, and what of it may stop one."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from pyswiftops.specs.document import Model


class Check(StrEnum):
    """Every check, by the name that ``--only`` and ``preflight.accept`` take."""

    NODES = "nodes"
    SHM = "shm"
    DISK = "disk"
    MEMORY = "memory"
    LIMITS = "limits"
    CLOCK = "clock"
    GPUS = "gpus"
    GPU_ERRORS = "gpu_errors"
    KERNEL = "kernel"
    PROCESSES = "processes"
    PORTS = "ports"
    REACH = "reach"
    NAMES = "names"
    PROXY = "proxy"
    PACKAGES = "packages"
    UPGRADES = "upgrades"
    ENGINE = "engine"
    SHARED = "shared"
    INPUTS = "inputs"
    CACHE = "cache"
    BASELINE = "baseline"


class Preflight(Model):
    """How nodes are looked at before a launch."""

    before_launch: bool = Field(default=True, description="Look before every launch.")
    accept: list[Check] = Field(
        default_factory=list, description="Checks that are told of and never stop a launch."
    )
