#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: docker_fleet
short_description: Say what a host's Docker holds of a fleet, and which containers are at work
version_added: 0.1.0
description:
  - Lists containers, networks, volumes and images that carry a fleet's label.
  - Looks into the environment of a container's processes for jobs of runs that are alive.
  - Changes nothing.
author:
  - The pyswiftops developers
options:
  fleet:
    description: The fleet's name; without it all fleets.
    type: str
  live:
    description: Whether to look for jobs that are alive.
    type: bool
    default: false
  image:
    description: Name of the images that were built for the fleet, without a tag.
    type: str
attributes:
  check_mode:
    description: Looks all the same.
    support: full
"""

EXAMPLES = r"""
- name: What there is of the fleet
  pyswiftops.fleet.docker_fleet:
    fleet: lab
    live: true
  register: there
"""

RETURN = r"""
containers:
  description: Name to C(node), C(definition), C(running), C(health), C(host_key) and C(jobs).
  returned: success
  type: dict
networks:
  description: Names.
  returned: success
  type: list
  elements: str
volumes:
  description: Name to C(node) and C(use).
  returned: success
  type: dict
images:
  description: Names with tags.
  returned: success
  type: list
  elements: str
raises_limits:
  description: Whether the daemon may give containers higher limits than it has itself.
  returned: success
  type: bool
live:
  description: One sentence part for each job that is alive, C(container (job)).
  returned: success
  type: list
  elements: str
"""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

LABEL = "swiftops.fleet"
SECONDS = 30
# A job's supervisor marks all its processes; see module_utils/process_tree.py.
JOBS = "grep -zahs '^SWIFTOPS_JOB=' /proc/[0-9]*/environ | tr '\\0' '\\n' | sort -u"
UNKNOWN = "it does not answer"


class FleetUnknownError(Exception):
    """Docker cannot be asked."""


def docker(*argv: str) -> str:
    """Ask Docker; return what it printed."""
    try:
        done = subprocess.run(
            ["docker", *argv], check=False, capture_output=True, text=True, timeout=SECONDS
        )
    except FileNotFoundError:
        raise FleetUnknownError(
            "expected: the program docker; found: none; where: this host; "
            "remedy: run pyswiftops.fleet.containers with engine.install: true"
        ) from None
    except subprocess.TimeoutExpired:
        raise FleetUnknownError(
            f"docker {' '.join(argv)[:60]}: no answer within {SECONDS} s"
        ) from None
    if done.returncode:
        raise FleetUnknownError(f"docker {argv[0]}: {done.stderr.strip()}")
    return done.stdout


def jobs(container: str) -> list[str]:
    """Jobs that are alive in a running container; one that cannot be asked may have some."""
    try:
        said = docker("exec", container, "sh", "-c", JOBS)
    except FleetUnknownError:
        return [UNKNOWN]
    return [line.partition("=")[2] for line in said.splitlines()]


def host_key(container: str) -> str:
    """Type and key of a running container's sshd, or "" where it has none."""
    try:
        said = docker("exec", container, "cat", "/etc/swiftops/ssh_host_ed25519_key.pub")
    except FleetUnknownError:
        return ""
    return " ".join(said.split()[:2])


def containers(filters: list[str], live: bool) -> dict[str, dict]:
    """All containers, running or not."""
    names = docker("ps", "--all", "--no-trunc", "--quiet", *filters).split()
    found = json.loads(docker("inspect", "--type=container", *names)) if names else []

    def one(item: dict) -> tuple[str, dict]:
        name, state = item["Name"].lstrip("/"), item["State"]
        labels = item["Config"]["Labels"] or {}
        running = state["Running"]
        return name, {
            "node": labels.get("swiftops.node", ""),
            "definition": labels.get("swiftops.definition", ""),
            "running": running,
            "health": (state.get("Health") or {}).get("Status", ""),
            "host_key": host_key(name) if running else "",
            "jobs": jobs(name) if live and running else [],
        }

    with ThreadPoolExecutor(8) as pool:
        return dict(sorted(pool.map(one, found)))


def volumes(filters: list[str]) -> dict[str, dict]:
    """All volumes."""
    names = docker("volume", "ls", "--quiet", *filters).split()
    found = json.loads(docker("volume", "inspect", *names)) if names else []
    return {
        item["Name"]: {
            "node": (item["Labels"] or {}).get("swiftops.node", ""),
            "use": (item["Labels"] or {}).get("swiftops.use", ""),
        }
        for item in found
    }


def images(name: str | None) -> list[str]:
    """Tags of the images that were built for the fleet."""
    if not name:
        return []
    return sorted(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", name).split())


def raises_limits() -> bool:
    """Whether the daemon has the capability SYS_RESOURCE; True where that cannot be told."""
    try:
        pid = Path("/var/run/docker.pid").read_text(encoding="ascii").strip()
        status = Path("/proc", pid, "status").read_text(encoding="utf-8")
        return bool(int(re.findall(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)[0], 16) >> 24 & 1)
    except (OSError, IndexError, ValueError):
        return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "fleet": {"type": "str"},
            "live": {"type": "bool", "default": False},
            "image": {"type": "str"},
        },
        supports_check_mode=True,
    )
    fleet = module.params["fleet"]
    filters = ["--filter", f"label={LABEL}={fleet}" if fleet else f"label={LABEL}"]
    try:
        found = containers(filters, module.params["live"])
        module.exit_json(
            changed=False,
            containers=found,
            networks=sorted(
                docker("network", "ls", "--format", "{{.Name}}", *filters).splitlines()
            ),
            volumes=volumes(filters),
            images=images(module.params["image"]),
            raises_limits=raises_limits(),
            live=[f"{name} ({job})" for name, item in found.items() for job in item["jobs"]],
        )
    except FleetUnknownError as problem:
        module.fail_json(msg=str(problem))


if __name__ == "__main__":
    main()
