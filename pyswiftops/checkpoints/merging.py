"""What each node told of its own folders becomes one ledger over the fleet. Pure.

Whether nodes share a disk is found out: a file that two nodes see with the same inode, time of
change and size is one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyswiftops.checkpoints.ledger import TRAIN, Checkpoint, Holding, Ledger
from pyswiftops.checkpoints.verdicts import MEGATRON, Facts, can_export, can_resume

TRACKER, ARGS = "latest_checkpointed_iteration.txt", "args.json"
INDEX, METADATA_JSON = ".metadata", "metadata.json"
UNFINISHED_SECONDS = 600.0
"""A checkpoint without a tracker counts as being written for so long after its newest file."""

_WEIGHT_ENDINGS = (".distcp", ".safetensors", ".bin")

Record = Mapping[str, Any]
Key = tuple[str, str]


def make_ledger(
    name: str,
    nodes: Sequence[str],
    told: Mapping[str, Record],
    roots: Mapping[str, Mapping[str, str]],
    silent: Mapping[str, str] | None = None,
) -> Ledger:
    """Merge what nodes told into checkpoints over the fleet.

    Args:
        name: Of the run, or of the adopted folders.
        nodes: All nodes in rank order.
        told: Node -> what the module ``checkpoint_ledger`` returned there.
        roots: Node -> folder that was looked into -> what it is of (``train``, ``adopted``).
        silent: Node -> why it did not answer.
    """
    groups: dict[Key, dict[str, Record]] = {}
    problems = {node: list(told[node].get("problems", ())) for node in nodes if node in told}
    for node in nodes:
        for record in told.get(node, {}).get("checkpoints", ()):
            key = (roots[node].get(record["root"], TRAIN), record["name"])
            other = groups.setdefault(key, {}).setdefault(node, record)
            if other is not record:
                problems[node].append(f"{record['path']} is left out: {other['path']} is the same")
    mute = silent or {}
    found = [merge(key, records, tuple(mute)) for key, records in groups.items()]
    found = _with_best(found, _trainings(told, roots))
    order = list(dict.fromkeys(of for node in nodes for of in roots.get(node, {}).values()))
    found.sort(key=lambda item: (order.index(item.of), item.iteration or 0, item.name))
    used = {node: _tuples(told[node].get("used_by", {})) for node in nodes if node in told}
    told_problems = {node: tuple(items) for node, items in problems.items() if items}
    return Ledger(name, tuple(nodes), tuple(found), dict(mute), told_problems, used)


def _trainings(
    told: Mapping[str, Record], roots: Mapping[str, Mapping[str, str]]
) -> dict[tuple[str, str], Record]:
    """What was told of each training; only the node that holds its log tells of evaluations."""
    found: dict[tuple[str, str], Record] = {}
    for node, answer in told.items():
        for item in answer.get("trainings", ()):
            key = (roots[node].get(item["root"], TRAIN), item["name"])
            known = found.get(key)
            if known is None or (item["values"] and not known["values"]):
                item = {**item, "told": item["told"] or (known or {}).get("told")}  # noqa: PLW2901
                found[key] = item
            elif known["told"] is None:
                found[key] = {**known, "told": item["told"]}
    return found


def _with_best(
    found: Sequence[Checkpoint], trainings: Mapping[tuple[str, str], Record]
) -> list[Checkpoint]:
    """Mark the best checkpoint of each training: by its evaluations, or as upstream told."""
    best: dict[tuple[str, str], tuple[int, str]] = {}
    for training, told in trainings.items():
        here = {item.iteration for item in found if item.training == training}
        values = {int(step): value for step, value in told["values"].items() if int(step) in here}
        if values:
            pick = max if told["greater"] else min
            value = pick(values.values())
            number = max(step for step in values if values[step] == value)
            word = "highest" if told["greater"] else "lowest"
            best[training] = number, f"{word} {told['metric']}: {value:g}"
        elif told["told"] in here:
            best[training] = told["told"], "the best, by the training's own record"
    return [
        replace(item, best=best[item.training][1])
        if item.training in best and best[item.training][0] == item.iteration
        else item
        for item in found
    ]


def _tuples(items: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in items.items()}


def merge(key: Key, records: Mapping[str, Record], silent: Sequence[str] = ()) -> Checkpoint:
    """One checkpoint from what each node told of it.

    Args:
        key: What it is of, and its name.
        records: Node -> what the node told, in rank order.
        silent: Nodes that did not answer.
    """
    kind = _kind(records)
    indexed = [record for record in records.values() if record["needed"]]
    needed = dict(indexed[0]["needed"]) if indexed else {}
    if kind not in MEGATRON:  # each node tells only of weights that it has
        needed = _largest(record["needed"] for record in records.values())
    required = [*needed, *_small_files(kind, records)]
    good = {node: _good(record, required, needed) for node, record in records.items()}
    held = {name for record in records.values() for name in record["files"]}
    anywhere = set().union(*good.values()) if good else set()
    missing = tuple(name for name in required if name not in anywhere | held)
    short = tuple(name for name in required if name not in anywhere and name in held)
    conflicts = tuple(_conflicts(kind, records, needed))
    iteration = _first(record["iteration"] for record in records.values())
    complete = bool(kind and needed) and not (missing or short or conflicts or _refused(records))
    unfinished = _unfinished(kind, records, iteration)
    ages = [record["age"] for record in records.values() if record["age"] is not None]
    writing = any(record["writing"] for record in records.values()) or (
        unfinished and min(ages, default=UNFINISHED_SECONDS) < UNFINISHED_SECONDS
    )
    whole = [node for node, names in good.items() if len(names) == len(required)]
    facts = Facts(
        kind=kind,
        complete=complete,
        writing=writing,
        missing=missing,
        short=short,
        conflicts=conflicts,
        unproven=_unproven(kind, records, needed),
        silent=tuple(silent),
        hf_complete=_hf_complete(records),
        whole_on=whole[0] if complete and whole else "",
        has_optimizer=_first(record["has_optimizer"] for record in records.values()),
        has_rng=_first(record["has_rng"] for record in records.values()),
        reshardable=_first(record["reshardable"] for record in records.values()),
        parallel=_parallel(records),
    )
    return Checkpoint(
        of=key[0],
        name=key[1],
        iteration=iteration,
        kind=kind,
        forms=tuple(dict.fromkeys(form for item in records.values() for form in item["forms"])),
        merged=any(record["merged"] for record in records.values()),
        named_by=tuple(sorted({name for item in records.values() for name in _named_by(item)})),
        holdings=tuple(_holding(node, item, len(good[node])) for node, item in records.items()),
        shared=_shared(records),
        needed=needed,
        required=len(required),
        missing=missing,
        short=short,
        conflicts=conflicts,
        complete=complete,
        hf_complete=facts.hf_complete,
        whole_on=facts.whole_on,
        bytes=_bytes(records),
        has_optimizer=facts.has_optimizer,
        has_rng=facts.has_rng,
        reshardable=facts.reshardable,
        parallel=facts.parallel,
        swift_version=_first(item["swift_version"] or None for item in records.values()) or "",
        writing=writing,
        age=min(ages, default=None),
        resume=can_resume(facts),
        export=can_export(facts),
        problems=tuple(
            f"{node}: {text}" for node, item in records.items() for text in item["problems"]
        ),
    )


def _first(values: Iterable[Any]) -> Any:
    """The first that is known."""
    return next((value for value in values if value is not None), None)


def _kind(records: Mapping[str, Record]) -> str:
    """Shards before other forms; the node that has the index knows whether they are LoRA's."""
    told = [record for record in records.values() if record["kind"]]
    told.sort(key=lambda record: (record["kind"] not in MEGATRON, record["index_digest"] is None))
    return str(told[0]["kind"]) if told else ""


def _largest(maps: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for sizes in maps:
        for name, size in sizes.items():
            found[name] = max(size, found.get(name, 0))
    return dict(sorted(found.items()))


def _small_files(kind: str, records: Mapping[str, Record]) -> list[str]:
    """Files without which the weights are of no use."""
    if kind == "hf":
        return ["config.json"]
    if kind == "hf_lora":
        return ["adapter_config.json"]
    if kind not in MEGATRON:
        return []
    folder = next(_prefix(record) for record in records.values() if record["iter_dir"])
    return [f"{folder}{INDEX}", f"{folder}{METADATA_JSON}", ARGS, TRACKER]


def _prefix(record: Record) -> str:
    """What the names of shards begin with."""
    return f"{record['iter_dir'][len(record['base']) + 1 :]}/"


def _good(record: Record, required: Iterable[str], needed: Mapping[str, int]) -> set[str]:
    """Which of the required files a node has whole."""
    files, damaged = record["files"], set(record["damaged"])
    return {
        name
        for name in required
        if name in files and name not in damaged and files[name]["size"] >= needed.get(name, 1)
    }


def _conflicts(
    kind: str, records: Mapping[str, Record], needed: Mapping[str, int]
) -> Iterable[str]:
    digests = _by_value({node: item["index_digest"] for node, item in records.items()})
    if len(digests) > 1:
        groups = " and ".join(", ".join(nodes) for nodes in digests.values())
        yield f"{INDEX} differs between {groups}"
    iterations = sorted({number for item in records.values() for number in item["iterations"]})
    if len(iterations) > 1 and kind in MEGATRON:
        yield f"shards of iterations {', '.join(map(str, iterations))} are mixed"
    for name in sorted({name for item in records.values() for name in item["files"]}):
        if name.endswith(_WEIGHT_ENDINGS):
            sizes = {
                node: item["files"].get(name, {}).get("size") for node, item in records.items()
            }
            whole = {
                node: size for node, size in sizes.items() if (size or 0) >= needed.get(name, 1)
            }
            if len(_by_value(whole)) > 1:
                told = ", ".join(f"{size} bytes on {node}" for node, size in whole.items())
                yield f"{name} has {told}"


def _by_value(values: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Value -> the nodes that have it; None is no value."""
    groups: dict[Any, list[str]] = {}
    for node, value in values.items():
        if value is not None:
            groups.setdefault(value, []).append(node)
    return groups


def _refused(records: Mapping[str, Record]) -> bool:
    return any(record["refused"] for record in records.values())


def _unproven(kind: str, records: Mapping[str, Record], needed: Mapping[str, int]) -> str:
    """Why nothing can be said of completeness; empty where something can."""
    if _refused(records):
        return f"its {INDEX} is refused: it names what no checkpoint holds"
    if kind and needed:
        return ""
    if kind in MEGATRON:
        return f"no node has an {INDEX} that can be read, so that its shards cannot be checked"
    return "no weights lie there"


def _unfinished(kind: str, records: Mapping[str, Record], iteration: int | None) -> bool:
    """Whether no tracker names it yet: that is written last."""
    if kind not in MEGATRON:
        return False
    told = [record["tracker"] for record in records.values() if record["tracker"] is not None]
    numbers = [int(text) for text in told if text.isascii() and text.isdigit()]
    return not told or (bool(numbers) and max(numbers) < (iteration or 0))


def _hf_complete(records: Mapping[str, Record]) -> bool:
    """Whether some node alone has a whole Hugging Face form."""
    for record in records.values():
        forms = [form for form in record["forms"] if form not in MEGATRON]
        needed = record["needed_hf"]
        small = [name for form in forms for name in _small_files(form, records)]
        wanted = [*needed, *small]
        if needed and len(_good(record, wanted, needed)) == len(set(wanted)):
            return True
    return False


def _named_by(record: Record) -> list[str]:
    """Links that lead to a checkpoint, and a tracker outside it that names it."""
    shared = record["base"] != record["path"] and record["iteration"] is not None
    tracked = shared and record["tracker"] == str(record["iteration"])
    return [*record["links"], *([TRACKER] if tracked else [])]


def _parallel(records: Mapping[str, Record]) -> dict[str, int]:
    found: dict[str, int] = {}
    for record in records.values():
        found = {**record["parallel"], **found}
    return found


def _holding(node: str, record: Record, good: int) -> Holding:
    return Holding(
        node=node,
        path=record["path"],
        base=record["base"],
        root=record["root"],
        files=record["files"],
        bytes=sum(entry["size"] for entry in record["files"].values()),
        good=good,
        used_by=tuple(record.get("used_by", ())),
        fingerprint=record["fingerprint"],
    )


def _shared(records: Mapping[str, Record]) -> tuple[tuple[str, ...], ...]:
    """Groups of two nodes or more that see the same files."""
    groups: list[list[str]] = []
    for node, record in records.items():
        for group in groups:
            if _same_disk(records[group[0]]["files"], record["files"]):
                group.append(node)
                break
        else:
            groups.append([node])
    return tuple(tuple(group) for group in groups if len(group) > 1)


def _same_disk(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    common = set(one) & set(other)
    fields = ("identity", "size")
    return bool(common) and all(
        one[name][key] == other[name][key] for name in common for key in fields
    )


def _bytes(records: Mapping[str, Record]) -> int:
    sizes = _largest(
        {name: entry["size"] for name, entry in record["files"].items()}
        for record in records.values()
    )
    return sum(sizes.values())
