#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: git_source
short_description: Have a source tree at a branch or a commit, and look that it is
version_added: 0.1.0
description:
  - Clones a repository, or unpacks an archive of one, and looks afterwards whether the commit that
    is checked out is the one that was asked for. If it is not, the module fails and names both.
  - A tree that is at the branch already is not fetched again, so that a node without a network
    stays as it is. O(update) asks for the branch's newest commit.
  - Refuses to touch a tree with changes of its own, a clone of another repository, and a folder
    that holds something else.
author:
  - The pyswiftops developers
options:
  path:
    description: Where the tree lies.
    type: path
    required: true
  repository:
    description: What git clones, a URL or a path on the node; this or O(archive).
    type: str
    default: ""
  archive:
    description:
      - A tar file on the node with one folder in it. With a C(.git) in that folder its commit is
        read there; without one, out of the file C(.swiftops-source.json) in it (V(commit) and
        V(branch)), or out of the comment that C(git archive) leaves.
    type: str
    default: ""
  branch:
    description: The branch. With O(commit) the commit must be one of it.
    type: str
    default: ""
  commit:
    description: The commit, whole or its beginning.
    type: str
    default: ""
  update:
    description: Go to the newest commit of O(branch), where no O(commit) is named.
    type: bool
    default: false
  safe:
    description: Enter the tree as C(safe.directory) in the system's git configuration.
    type: bool
    default: true
attributes:
  check_mode:
    description: Looks only.
    support: full
requirements:
  - git on the node
"""

EXAMPLES = r"""
- name: Megatron-LM of release line 3.12
  pyswiftops.fleet.git_source:
    path: /opt/megatron/Megatron-LM
    repository: https://github.com/NVIDIA/Megatron-LM
    branch: core_r0.15.0
"""

RETURN = r"""
head:
  description: The commit that the tree is at; empty in check mode where it is not known before.
  returned: success
  type: str
branch:
  description: Its branch, as far as it is known.
  returned: success
  type: str
path:
  description: Where it lies.
  returned: success
  type: str
"""

import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import git_source


def main() -> None:
    """Run the module."""
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "repository": text,
            "archive": text,
            "branch": text,
            "commit": text,
            "update": {"type": "bool", "default": False},
            "safe": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = git_source.Wanted(
        **{**{key: params[key] for key in git_source.Wanted._fields}, "path": Path(params["path"])}
    )
    try:
        answer = git_source.converge(wanted, check=module.check_mode)
    except (git_source.SourceError, tarfile.TarError, OSError) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(**answer._asdict(), path=str(wanted.path))


if __name__ == "__main__":
    main()
