"""Containers that we make: on which hosts, from which image, with what of the host in them."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pyswiftops.specs.document import Model
from pyswiftops.specs.texts import Address, Network, Text, Word

BOOTSTRAP = "bootstrap"
FIRST_NODE = 10  # of the subnet; what comes before stays free for gateways
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SIZE = re.compile(r"[1-9][0-9]*[bkmg]?", re.IGNORECASE)
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_ULIMIT = re.compile(r"[a-z]+=-?[0-9]+(:-?[0-9]+)?")


def label(name: str) -> str:
    """A name that may become a host name, a container's name and a label.

    Raises:
        ValueError: it may not.
    """
    if not _LABEL.fullmatch(name):
        raise ValueError("a host name label: lower-case letters, digits, dashes, at most 63")
    return name


class Host(Model):
    """A machine with SSH (or this one) that runs containers."""

    name: str = Field(description="Unique among hosts and nodes.")
    address: Address | None = Field(
        default=None, description="Address for SSH; without one the host is this machine."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="Default: host_ssh.port.")

    @field_validator("name")
    @classmethod
    def _is_a_label(cls, name: str) -> str:
        return label(name)


class Build(Model):
    """How an image is made."""

    base: Word = Field(
        default=BOOTSTRAP,
        description="An image's reference, or bootstrap: Debian made with debootstrap.",
    )
    wheelhouse: Text = Field(
        description="Folder on the controller that swiftops wheelhouse make has filled."
    )
    registry: Word | None = Field(
        default=None,
        description="Registry, and a path there, that the first host pushes the image to and the "
        "other hosts pull it from, for instance registry.example:5000/lab; default: the "
        "controller hands it on.",
    )


class Image(Model):
    """Where the image comes from: exactly one of the keys."""

    pull: Word | None = Field(
        default=None, description="Reference with its digest: name:tag@sha256:..."
    )
    archive: Text | None = Field(
        default=None, description="File on the controller that docker save has written."
    )
    build: Build | None = Field(default=None, description="Make it.")

    @field_validator("pull")
    @classmethod
    def _is_pinned(cls, reference: str | None) -> str | None:
        if reference is not None and not _DIGEST.fullmatch(reference):
            raise ValueError("a reference with its digest, name:tag@sha256:<64 digits>")
        return reference

    @model_validator(mode="after")
    def _one_source(self) -> Image:
        given = [key for key in ("pull", "archive", "build") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"one of pull, archive, build; {', '.join(given) or 'none'} is given")
        return self


class Bridge(Model):
    """A private network of the containers of one host."""

    name: str | None = Field(default=None, description="Default: swiftops-<fleet>.")
    subnet: Network = Field(default="172.30.7.0/24", description="CIDR; node addresses lie in it.")

    def address(self, rank: int) -> str | None:
        """Where a node without an address lies; None where the subnet is too small."""
        network = ipaddress.ip_network(self.subnet, strict=False)
        last = network.num_addresses - 1  # broadcast
        return str(network[FIRST_NODE + rank]) if FIRST_NODE + rank < last else None


class Mount(Model):
    """A folder of the host in the containers."""

    path: Text = Field(description="Folder on the host, absolute; made if it is not there.")
    target: Text | None = Field(default=None, description="In the container; default: /<name>.")
    read_only: bool = Field(default=False, description="Containers may not write there.")

    @field_validator("path", "target")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        if path is not None and (not path.startswith("/") or not path.strip("/.")):
            raise ValueError("an absolute path, not / itself")
        return path


class Engine(Model):
    """The container engine of the hosts."""

    install: bool = Field(default=True, description="Install it where it is missing.")
    proxy: Text | None = Field(default=None, description="HTTP proxy of the engine's daemon.")
    registry_mirrors: list[Text] = Field(default_factory=list, description="URLs.")
    insecure_registries: list[Text] = Field(
        default_factory=list, description="host:port of registries without TLS."
    )
    nvidia: bool = Field(default=False, description="Install the NVIDIA container toolkit.")


class Container(Model):
    """What the containers of a fleet are like."""

    image: Image = Field(description="Where the image comes from.")
    network: Bridge | Literal["host"] = Field(
        default_factory=Bridge, description="A private network, or host."
    )
    shm_size: str = Field(default="1g", description="Of /dev/shm, in docker's notation.")
    mounts: dict[str, Mount | Text] = Field(
        default_factory=dict,
        description="models, datasets, code, output, cache or another name: folder on the host.",
    )
    devices: list[Text] = Field(default_factory=list, description="More devices of the host.")
    ulimits: list[str] = Field(
        default_factory=lambda: ["memlock=-1"], description="name=soft[:hard]; -1 is no limit."
    )
    capabilities: list[Text] = Field(
        default_factory=lambda: ["IPC_LOCK"], description="Linux capabilities to add."
    )
    gpus: Literal["auto", "cdi", "toolkit", "none"] = Field(
        default="auto", description="How GPUs come into the container; none on device cpu."
    )
    engine: Engine = Field(default_factory=Engine)

    @field_validator("shm_size")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        if not _SIZE.fullmatch(size):
            raise ValueError("a size such as 16g or 512m")
        return size

    @field_validator("ulimits")
    @classmethod
    def _are_limits(cls, limits: list[str]) -> list[str]:
        wrong = [limit for limit in limits if not _ULIMIT.fullmatch(limit)]
        if wrong:
            raise ValueError(f"limits as name=soft[:hard]; {wrong[0]!r} is none")
        return limits

    @field_validator("mounts")
    @classmethod
    def _are_absolute(cls, mounts: dict[str, Mount | str]) -> dict[str, Mount | str]:
        for name, mount in mounts.items():
            label(name)
            if isinstance(mount, str):
                Mount(path=mount)
        targets = [item["target"] for item in _mounts(mounts)]
        twice = sorted({target for target in targets if targets.count(target) > 1})
        if twice:
            raise ValueError(f"a place of its own for every mount; two at {twice[0]}")
        return mounts

    def settings(self, fleet: str) -> dict[str, Any]:
        """All settings with defaults filled in, as the roles read them."""
        bridge = self.network if isinstance(self.network, Bridge) else None
        return {
            **self.model_dump(mode="json"),
            "network": {
                "mode": "bridge" if bridge else "host",
                "name": (bridge.name or f"swiftops-{fleet}") if bridge else "host",
                "subnet": bridge.subnet if bridge else None,
            },
            "mounts": _mounts(self.mounts),
        }


def _mounts(mounts: dict[str, Mount | str]) -> list[dict[str, Any]]:
    filled = {
        name: mount if isinstance(mount, Mount) else Mount(path=mount)
        for name, mount in mounts.items()
    }
    return [
        {
            "name": name,
            "path": mount.path,
            "target": mount.target or f"/{name}",
            "read_only": mount.read_only,
        }
        for name, mount in filled.items()
    ]
