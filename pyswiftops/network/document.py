"""What the controller keeps of a fleet's network: facts of all nodes, and the file of each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyswiftops.network.decide import Decision, decide
from pyswiftops.network.facts import NodeNetwork
from pyswiftops.settings import pins

FACTS, FILES = "network.json", "network"  # in the fleet's folder
ASKED = ("swiftops_address", "swiftops_interface", "swiftops_env")
HEAD = "# Made by pyswiftops; changes are lost. All reasons: swiftops why nccl\n"


def gathered(
    variables: Mapping[str, Mapping[str, Any]],
    names: Iterable[str],
    told: Mapping[str, Any],
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is known of all nodes, as plain data.

    Args:
        variables: Ansible's ``hostvars``.
        names: The nodes in rank order.
        told: Node -> what the module ``network_facts`` returned.
        kept: What was known before; a node that is down keeps what it told then.
    """
    before = (kept or {}).get("nodes", {})
    nodes = {
        str(name): {
            "asked": {key: variables[name].get(key) for key in ASKED},
            "facts": told.get(name) or before.get(name, {}).get("facts"),
        }
        for name in names
    }
    plain: dict[str, Any] = json.loads(json.dumps({"nodes": nodes}, default=str))
    return plain


def decided(document: Mapping[str, Any], run: Mapping[str, str] | None = None) -> Decision:
    """What the nodes of a document are to train over.

    Args:
        document: From :func:`gathered` or :func:`read`.
        run: ``training.env`` of a run.
    """
    return decide(
        [
            NodeNetwork.of(name, node["asked"], node["facts"], run)
            for name, node in document["nodes"].items()
        ]
    )


def read(state: str | Path) -> dict[str, Any] | None:
    """What is kept in a fleet's folder, or None."""
    try:
        text = (Path(state).expanduser() / FACTS).read_text(encoding="utf-8")
        document: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        return None
    return document


def write(state: str | Path, document: Mapping[str, Any], decision: Decision) -> list[str]:
    """Keep facts and files; the nodes whose file is another."""
    folder = pins.folder(state)
    files = pins.folder(folder / FILES)
    changed = [
        name for name in decision.nodes if pins.write_text(files / name, text(decision, name))
    ]
    pins.write_text(folder / FACTS, json.dumps(document, indent=1) + "\n")
    return changed


def text(decision: Decision, node: str) -> str:
    """A node's file: a variable a line, the reason above it; a shell reads it as well."""
    lines = [
        f"# {decision.nodes[node][name].why}\n{name}={_word(value)}\n"
        for name, value in decision.environment(node).items()
    ]
    return HEAD + "".join(lines)


def _word(value: str) -> str:
    return f"'{value}'" if value.startswith("=") else shlex.quote(value)  # zsh looks =eth0 up


# Filters of the role nccl.


def nccl_peers(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Addresses on the training network of the nodes that ``fleet_keys`` named."""
    return [str(node["training"] or node["address"]) for node in nodes]


def nccl_resources(state: str, node: str, path: str) -> list[dict[str, Any]]:
    """A node's file as ``converge`` takes it; nothing before it was decided."""
    kept = Path(state).expanduser() / FILES / node
    if not kept.is_file():
        return []
    content = kept.read_text(encoding="utf-8")
    item = {"id": "nccl.file", "type": "file", "path": path, "content": content, "mode": "0644"}
    return [item]


def nccl_as_kept(
    variables: Mapping[str, Mapping[str, Any]], names: Iterable[str], state: str
) -> bool:
    """Whether the nodes have just told what is kept of them."""
    kept = read(state)
    names = list(names)
    return kept is not None and kept == gathered(variables, names, told(variables, names), kept)


def told(
    variables: Mapping[str, Mapping[str, Any]], names: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """Node -> facts of its last execution, by the role ``settings`` or by ``nccl`` itself."""
    answers = {
        name: variables[name].get("nccl_facts") or variables[name].get("settings_done") or {}
        for name in names
    }
    return {name: answer["network"] for name, answer in answers.items() if answer.get("network")}
