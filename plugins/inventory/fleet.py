# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Reads a pyswiftops fleet file
description:
  - A fleet file names the machines of a fleet in rank order. Its first line names this plugin.
  - Sets connection variables (ssh arguments, pipelining, jump hosts) and C(swiftops_*) variables
    of every node, all in the group C(swiftops_nodes), and of every host that containers are made
    on, in the group C(swiftops_hosts).
  - Raises Ansible's forks to the number of nodes and hosts (at most 64) unless C(--forks) or the
    configuration says otherwise, because an installed collection brings no C(ansible.cfg).
author:
  - The pyswiftops developers (@pyswiftops)
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [pyswiftops.fleet.fleet]
"""

EXAMPLES = r"""
plugin: pyswiftops.fleet.fleet
name: demo
runtime: local
device: cpu
root: ./nodes
nodes:
  - name: node-1
  - name: node-2
"""

from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.context_objects import CLIArgs

try:  # since ansible-core 2.19, text of an inventory plugin is no template unless it says so
    from ansible.template import trust_as_template
except ImportError:

    def trust_as_template(value: str) -> str:
        """As it was before: all text of an inventory may be a template."""
        return value


try:
    from pyswiftops.errors import BadInputError, FleetError
    from pyswiftops.specs import connection
    from pyswiftops.specs.fleet import GROUP, HOSTS, PLUGIN, Fleet
    from pyswiftops.specs.reading import read_yaml
except ImportError as problem:
    MISSING: ImportError | None = problem
else:
    MISSING = None

MOST_FORKS = 64


class InventoryModule(BaseInventoryPlugin):
    """Inventory from a fleet file."""

    NAME = "pyswiftops.fleet.fleet"

    def verify_file(self, path: str) -> bool:
        """Whether ``path`` is a YAML file that names this plugin."""
        if not super().verify_file(path) or not path.endswith((".yml", ".yaml")):
            return False
        with Path(path).open(encoding="utf-8-sig", errors="replace") as file:
            return any(self.NAME in line for line in file if line.startswith("plugin:"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Read the fleet file at ``path`` into ``inventory``."""
        super().parse(inventory, loader, path, cache)
        if MISSING is not None:
            raise AnsibleParserError(
                "expected the Python package pyswiftops beside ansible-core, found none "
                f"({MISSING}); remedy: pip install pyswiftops"
            )
        try:
            document = read_yaml(Path(path), FleetError, "fleet file")
            fleet = Fleet.from_document({"plugin": PLUGIN, **document}, Path(path))
        except BadInputError as problem:
            # Ansible would go on without hosts, and call that a success.
            constants.INVENTORY_ANY_UNPARSED_IS_FAILED = True
            raise AnsibleParserError(str(problem)) from problem
        for group, machines in ((GROUP, fleet.host_vars()), (HOSTS, fleet.machine_vars())):
            inventory.add_group(group)
            for name, variables in machines.items():
                inventory.add_host(name, group=group)
                for key, value in variables.items():
                    ours = (key, value) in connection.passwords().items()
                    inventory.set_variable(name, key, trust_as_template(value) if ours else value)
        _raise_forks(len(fleet.nodes) + len(fleet.hosts))


def _raise_forks(machines: int) -> None:
    """Give every machine a fork of its own, unless the user set a number."""
    forks = context.CLIARGS.get("forks")
    if forks is None or forks != constants.DEFAULT_FORKS or forks >= machines:
        return
    if constants.config.get_config_value_and_origin("DEFAULT_FORKS")[1] != "default":
        return
    context.CLIARGS = CLIArgs({**context.CLIARGS, "forks": min(machines, MOST_FORKS)})
