"""A plan as shell scripts, one a node: the run as one would do it by hand.

Values that are known only later are shell variables. Those that a stage leaves on the node are
read from there; ports, and what only another node knows, must be set by whoever runs the script.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from pyswiftops.errors import BadInputError, Finding
from pyswiftops.paths import NodePaths
from pyswiftops.planner.plan import Plan
from pyswiftops.stages.catalog import CATALOG
from pyswiftops.stages.command import Command, Late, Word
from pyswiftops.stages.node import NodeFacts, nodes_from_vars

README = "README.md"


def variable(late: Late) -> str:
    """The shell variable that stands for a late value: ``train.checkpoint`` TRAIN_CHECKPOINT."""
    return re.sub(r"\W", "_", late.name).upper()


def _word(word: Word) -> str:
    if isinstance(word, Late):
        return f'"${{{variable(word)}}}"' + (shlex.quote(word.after) if word.after else "")
    return shlex.quote(word)


def _bindings(command: Command, paths: NodePaths) -> list[str]:
    """Lines that give every late value of a command its shell variable."""
    python = "import json, sys; print(json.load(open(sys.argv[1]))['max_length'])"
    lengths = f"python3 -c {shlex.quote(python)} {shlex.quote(paths.lengths)}"
    newest = f"ls -d {shlex.quote(paths.train)}/checkpoint-* | sort -V | tail -n 1"
    readers = {"data.max_length": lengths, "train.checkpoint": newest}
    late = {word for word in (*command.argv, *command.env.values()) if isinstance(word, Late)}
    lines = []
    for item in sorted(late, key=lambda word: (word.name in readers, word.name)):  # yours first
        name = variable(item)
        reader = readers.get(item.name)
        if reader is None:
            lines.append(f': "${{{name}:?set {name}: {item.name} of the plan}}"')
        else:
            lines.append(f'{name}="${{{name}:-$({reader})}}"')
    return lines


def _function(command: Command, paths: NodePaths) -> list[str]:
    folders = [command.cwd, *command.make_directories]
    folders += [str(Path(path).parent) for path in command.files]
    lines = [f"job_{command.job}() {{", f"  mkdir -p {shlex.join(dict.fromkeys(folders))}"]
    lines += [
        f"  printf %s {shlex.quote(text)} > {shlex.quote(path)}"
        for path, text in command.files.items()
    ]
    lines += [f"  {line}" for line in _bindings(command, paths)]
    lines.append(f"  cd {shlex.quote(command.cwd)}")
    words = [f"{name}={_word(word)}" for name, word in sorted(command.env.items())]
    if command.path:
        words.append(f'PATH={":".join(map(shlex.quote, command.path))}:"$PATH"')
    words += [_word(word) for word in command.argv]
    lines.append("  exec env \\")
    lines += [f"    {word} \\" for word in words[:-1]]
    lines += [f"    {words[-1]}", "}", ""]
    return lines


def node_script(plan: Plan, node: NodeFacts) -> str:
    """The script of one node: ``bash node-1.sh JOB`` runs a job in the foreground."""
    mine = [
        command
        for commands in plan.jobs.values()
        for command in commands
        if command.node == node.name
    ]
    names = " ".join(command.job for command in mine)
    lines = [
        "#!/usr/bin/env bash",
        f"# Run {plan.run_id} on node {node.name}, by hand: bash {node.name}.sh JOB",
        f"# Jobs here, in this order: {names}",
        "# README.md beside this file says what runs where and what is copied in between.",
        "set -euo pipefail",
        "",
    ]
    for command in mine:
        lines += _function(command, node.paths(plan.run_id))
    lines += [
        'case "${1:-}" in',
        f'  {" | ".join(command.job for command in mine)}) "job_$1" ;;',
        f"  *) echo {shlex.quote(f'usage: {node.name}.sh JOB; jobs: {names}')} >&2; exit 2 ;;",
        "esac",
    ]
    return "\n".join(lines) + "\n"


def _copy(plan: Plan, source: NodeFacts, target: NodeFacts, path: str, into: str) -> str:
    if plan.fleet.runtime == "local":
        return f"cp -a {shlex.quote(path)}/. {shlex.quote(into)}/"
    way = plan.fleet.host_vars()[source.name]
    host = f"[{source.address}]" if ":" in source.address else source.address
    there = shlex.quote(f"{way['ansible_user']}@{host}:{path}/")
    shell = shlex.quote(f"ssh -p {way['ansible_port']}")
    # -s: the far shell does not read the path
    return f"rsync -a -s -e {shell} {there} {shlex.quote(into)}/  # on {target.name}"


def readme(plan: Plan, nodes: tuple[NodeFacts, ...]) -> str:
    """What to run where, and what to copy in between."""
    first, others = nodes[0], nodes[1:]
    lines = [
        f"# Run {plan.run_id} by hand",
        "",
        "One script a node. `bash NODE.sh JOB` runs a job in the foreground. Ports are yours to",
        "choose: set `LEASE_MASTER_PORT` and `LEASE_DEPLOY_PORT` to free ports of the first node,",
        "the same on all nodes. `DATA_MAX_LENGTH`, read on the first node, must be set on others.",
        "",
    ]
    for stage in CATALOG.values():
        lines.append(f"## {stage.name}: {stage.what}")
        lines.append("")
        for job in stage.jobs:
            where = [command.node for command in plan.commands(job)]
            together = "  (all at once)" if len(where) > 1 else ""
            lines += [f"- on {node}: `bash {node}.sh {job}`{together}" for node in where]
        if stage.name == "convert":
            lines += [_copied(first, node, "mcore", plan) for node in others]
        if stage.name == "gather":
            lines += [_copied(node, first, "train", plan) for node in others]
        lines.append("")
    return "\n".join(lines)


def _copied(source: NodeFacts, target: NodeFacts, folder: str, plan: Plan) -> str:
    one, other = (getattr(node.paths(plan.run_id), folder) for node in (source, target))
    copy = _copy(plan, source, target, one, other)
    return f"- copy: `mkdir -p {shlex.quote(other)} && {copy}`"


def scripts(plan: Plan) -> Mapping[str, str]:
    """File name -> text, for all nodes that run a job, and the README."""
    nodes = nodes_from_vars(plan.fleet.host_vars())
    busy = {command.node for commands in plan.jobs.values() for command in commands}
    texts = {f"{node.name}.sh": node_script(plan, node) for node in nodes if node.name in busy}
    return {README: readme(plan, nodes), **texts}


def write_scripts(plan: Plan, folder: Path) -> list[Path]:
    """Write the scripts into a folder that is new or empty; returns their paths.

    Raises:
        BadInputError: the folder holds something, or cannot be made.
    """
    expected = "a new or empty folder for scripts"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = next(folder.iterdir(), None)
    except OSError as problem:
        finding = Finding(expected, str(problem), str(folder), "name another (--script)")
        raise BadInputError(finding) from None
    if held is not None:
        raise BadInputError(Finding(expected, f"{held.name} in it", str(folder), "name another"))
    written = []
    for name, text in scripts(plan).items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        if name.endswith(".sh"):
            path.chmod(0o755)
        written.append(path)
    return written
