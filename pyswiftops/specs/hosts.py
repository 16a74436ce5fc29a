"""What nodes are given beyond what a run needs: a proxy, a shell, limits, a CUDA toolkit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from pyswiftops.specs.container import Bridge
from pyswiftops.specs.document import Model
from pyswiftops.specs.texts import Text, User, Word

if TYPE_CHECKING:
    from pyswiftops.specs.fleet import Fleet

UNLIMITED = "unlimited"
CUDA_HOME = "/opt/cuda-toolkit/home"  # the link that the role cuda_toolkit keeps
LIMITS = ("memlock", "nofile", "nproc", "stack", "core")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SYSCTL = re.compile(r"[a-z][a-z0-9_-]*(\.[A-Za-z0-9_/-]+)+")
_SHELL_SPECIAL = re.compile(r"[\s\"'`$\\;|&<>(){}*?!#^]")


def _proxy(url: str) -> str:
    """A proxy's URL; a login belongs into a vault."""
    if re.fullmatch(r"https?://[^\s/]*@.*", url):
        raise ValueError("a URL without a login, which belongs into proxy_login, out of a vault")
    if not re.fullmatch(r"https?://[A-Za-z0-9._\[\]:-]+/?", url):
        raise ValueError("a URL, http://host:port")
    return url.rstrip("/")


def _past(entry: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.*_:/-]+", entry):
        raise ValueError("a host, .domain, address or network, one an entry")
    return entry


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ValueError("a SHA-256 sum: 64 digits 0-9 a-f")
    return text


def _address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s@]+", url) or _SHELL_SPECIAL.search(url):
        raise ValueError("a URL, http:// or https://, without a login in it")
    return url


ProxyUrl = Annotated[str, AfterValidator(_proxy)]
Past = Annotated[str, AfterValidator(_past)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Url = Annotated[str, AfterValidator(_address)]


class Proxy(Model):
    """An HTTP proxy on the nodes' way out."""

    http: ProxyUrl = Field(description="The proxy's URL, for http.")
    https: ProxyUrl | None = Field(default=None, description="For https; default: http.")
    no_proxy: list[Past] = Field(
        default_factory=list,
        description="Hosts, .domains, addresses and networks that go past it, beside the fleet's.",
    )
    test: Url = Field(
        default="https://www.modelscope.cn", description="What proxytest asks for by default."
    )
    sessions: bool = Field(
        default=False, description="Every session has the variables at once, without proxyon."
    )
    apt: bool = Field(default=True, description="apt goes through it.")
    git: bool = Field(default=True, description="git goes through it, over http and https.")
    pip: bool = Field(default=True, description="pip goes through it.")
    engine: bool = Field(
        default=False, description="So do the container engines of the fleet's hosts."
    )


class Archive(Model):
    """An archive with its sum: a file of the controller or a URL."""

    path: Text | None = Field(default=None, description="A .tar.gz on the controller.")
    url: Url | None = Field(default=None, description="Where nodes get it from.")
    sha256: Sha256 = Field(description="Its SHA-256 sum.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Archive:
        if (self.path is None) == (self.url is None):
            raise ValueError("exactly one of path and url")
        return self


class DevShell(Model):
    """Zsh for people who work on nodes."""

    users: list[User] = Field(
        default_factory=lambda: ["root"], min_length=1, description="Whose zsh it concerns."
    )
    oh_my_zsh: Archive | None = Field(
        default=None, description="An archive of a commit of oh-my-zsh; without it, none."
    )
    theme: Word = Field(default="robbyrussell", description="Theme of oh-my-zsh.")
    plugins: list[Word] = Field(
        default_factory=lambda: ["git", "pip"], description="Plugins of oh-my-zsh."
    )

    @field_validator("theme", "plugins")
    @classmethod
    def _plain_words(cls, value: Any) -> Any:
        for word in [value] if isinstance(value, str) else value:
            if _SHELL_SPECIAL.search(word):
                raise ValueError("letters, digits, dashes and underscores")
        return value


class HostTuning(Model):
    """Limits of logins and kernel settings; each only where it is named."""

    limits: dict[str, int | str] = Field(
        default_factory=dict,
        description="memlock (KiB), nofile, nproc, stack (KiB), core (KiB): a number or unlimited.",
    )
    sysctl: dict[str, int | str] = Field(
        default_factory=dict, description="Kernel setting to value."
    )
    recommended: bool = Field(
        default=False, description="Also the values of the role that are not named here."
    )

    @field_validator("limits")
    @classmethod
    def _known(cls, limits: dict[str, int | str]) -> dict[str, int | str]:
        for name, value in limits.items():
            number = isinstance(value, int) and value > 0
            if name not in LIMITS or not (number or value == UNLIMITED):
                raise ValueError(f"{', '.join(LIMITS)}: a number above 0, or {UNLIMITED}")
        if limits.get("nofile") == UNLIMITED:
            raise ValueError("a number for nofile: no kernel takes unlimited, and logins would end")
        return limits

    @field_validator("sysctl")
    @classmethod
    def _settings(cls, values: dict[str, int | str]) -> dict[str, int | str]:
        for name, value in values.items():
            if not _SYSCTL.fullmatch(name) or ".." in name:
                raise ValueError("names of kernel settings, as net.core.somaxconn")
            if not re.fullmatch(r"[\w.,: \t-]+", str(value)):
                raise ValueError(f"a value of one line for {name}")
        return values


class CudaToolkit(Model):
    """A CUDA toolkit for what is compiled on nodes."""

    path: Text | None = Field(default=None, description="One that is there: the parent of bin/.")
    method: str = Field(
        default="pip",
        pattern="^(pip|conda|path)$",
        description="pip (CUDA 13 and later), conda, or path.",
    )
    version: Text | None = Field(
        default=None, pattern=r"^[0-9]+\.[0-9]+$", description="Default: torch's, as 13.0."
    )
    link: bool = Field(default=False, description="Whether /usr/local/cuda leads to it.")

    @model_validator(mode="after")
    def _path_and_method(self) -> CudaToolkit:
        if (self.path is None) != (self.method != "path"):
            raise ValueError("a path with method path, and with no other")
        return self


def problems(fleet: Fleet) -> list[str]:
    """What does not go together."""
    found = []
    ours = [fleet.proxy, fleet.dev_shell, fleet.host_tuning, fleet.cuda_toolkit]
    if fleet.runtime == "local" and any(ours):
        found.append(
            "no proxy, dev_shell, host_tuning or cuda_toolkit with runtime local: its nodes are "
            "folders of this machine"
        )
    if fleet.proxy and fleet.proxy.engine and not fleet.hosts:
        found.append("proxy.engine only with hosts, whose engines it concerns")
    if fleet.host_tuning and fleet.host_tuning.limits and fleet.container:
        found.append("limits of containers in container.ulimits, and not in host_tuning.limits")
    return found


def own_places(fleet: Fleet) -> list[str]:
    """What always goes past a proxy: names, addresses and networks of the fleet."""
    places: list[str | None] = []
    for node in fleet.nodes:
        places += [node.name, fleet.address(node), fleet.address_in_training(node)]
    for host in fleet.hosts:
        places += [host.name, host.address]
    places.append(fleet.training_network)
    if fleet.container and isinstance(fleet.container.network, Bridge):
        places.append(fleet.container.network.subnet)
    return [place for place in dict.fromkeys(places) if place]


def node_variables(fleet: Fleet) -> dict[str, Any]:
    """Variables of every node: the settings that the file asks for."""
    made: dict[str, Any] = {}
    if fleet.proxy:
        given = fleet.proxy.model_dump(mode="json")
        made["swiftops_proxy"] = {**given, "no_proxy": [*own_places(fleet), *given["no_proxy"]]}
    for name in ("dev_shell", "cuda_toolkit", "host_tuning"):
        asked: Model | None = getattr(fleet, name)
        if asked is not None and (name != "host_tuning" or not fleet.hosts):
            made[f"swiftops_{name}"] = asked.model_dump(mode="json")
    return made


def job_environment(fleet: Fleet) -> dict[str, str]:
    """Variables of every job: what engines compile at run time needs the toolkit, too."""
    return {**({"CUDA_HOME": CUDA_HOME} if fleet.cuda_toolkit else {}), **fleet.env}


def host_variables(fleet: Fleet, container: dict[str, Any]) -> dict[str, Any]:
    """Variables of every host that containers are made on.

    Args:
        fleet: The fleet.
        container: The settings of containers there; a proxy of their engine is the fleet's.
    """
    made: dict[str, Any] = {"swiftops_container": container}
    if fleet.proxy and fleet.proxy.engine and not container["engine"]["proxy"]:
        engine = {**container["engine"], "proxy": fleet.proxy.http}
        engine["no_proxy"] = [*own_places(fleet), *fleet.proxy.no_proxy]
        made["swiftops_container"] = {**container, "engine": engine}
    if fleet.host_tuning:
        made["swiftops_host_tuning"] = fleet.host_tuning.model_dump(mode="json")
    return made
