"""fetch: the job that downloads on the first node; other nodes then pull from it."""

from __future__ import annotations

from pyswiftops.stages.command import Command, Word
from pyswiftops.stages.context import Context
from pyswiftops.stages.node import NodeFacts
from pyswiftops.stages.sources import fetched_items

# Hubs are asked here, and the release line's environment may say that they are not to be.
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def fetch(context: Context) -> list[Command]:
    """Downloads of hub ids on the first node; no command where there is none."""
    node = context.first
    hub = node.hub
    items = [item for item in fetched_items(context.spec) if item.origin(hub) == "hub"]
    if not items:
        return []
    argv: list[Word] = ["python", "-m", "pyswiftops.data.fetch"]
    for item in items:
        source = item.source
        where = (source.from_hub.value, item.kind, str(source.id), source.at_revision)
        argv += ["--item", *where, item.folder(node.root).folder]
    return [context.command("fetch", node, tuple(argv), asking_hubs(context, node))]


def asking_hubs(context: Context, node: NodeFacts) -> dict[str, Word]:
    """Environment of a job that asks hubs, with the fleet's ways to them; no token is in it."""
    hub = node.hub
    env = {**context.environment(node, ranks=0), "HF_HUB_DISABLE_TELEMETRY": "1"}
    for name in _OFFLINE:
        env.pop(name, None)
    if hub.huggingface_endpoint:
        env["HF_ENDPOINT"] = hub.huggingface_endpoint
    if hub.modelscope_endpoint:
        env["MODELSCOPE_ENDPOINT"] = hub.modelscope_endpoint
    if hub.proxy:
        env |= {"HTTP_PROXY": hub.proxy, "HTTPS_PROXY": hub.proxy}
    return env
