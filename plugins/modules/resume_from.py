#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: resume_from
short_description: Take what a node holds of a checkpoint as the one that training goes on from
version_added: 0.1.0
description:
  - Finds the checkpoint, compares its C(args.json) with what the run needs, and links its files
    into O(dest). Where both folders do not lie on one file system the files are copied.
  - A O(dest) that holds a whole checkpoint already is left as it is, so that a training that is
    started again goes on from the same one; unless O(checkpoint) names another, whose place it
    then takes.
  - The source is never changed.
author:
  - The pyswiftops developers
options:
  source:
    description: A checkpoint, or the output folder of a training.
    type: path
    required: true
  checkpoint:
    description: Name of the checkpoint in the output folder. Without it, the latest with a tracker.
    type: str
  dest:
    description: The folder to fill.
    type: path
    required: true
  needed:
    description: Key of C(args.json) to the value that it must have, if it is there.
    type: dict
    default: {}
  must_exist:
    description: Whether to fail where the checkpoint is not on this node.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what it found, and links nothing.
    support: full
"""

EXAMPLES = r"""
- name: Go on from the latest checkpoint of an earlier run
  pyswiftops.fleet.resume_from:
    source: /data/swiftops/node-1/runs/first/train
    dest: /data/swiftops/node-1/runs/second/resume
    needed: {tuner_type: lora}
    must_exist: true
"""

RETURN = r"""
checkpoint:
  description: Where the checkpoint was found on this node; empty where it is not there.
  type: str
  returned: success
name:
  description: Its folder's name.
  type: str
  returned: success
iteration:
  description: The step that it was saved after; 0 where this node holds no tracker.
  type: int
  returned: success
linked:
  description: Files that were linked.
  type: int
  returned: success
findings:
  description: Why it failed, as C(expected), C(found), C(where), C(remedy).
  type: list
  elements: dict
  returned: failure
copied:
  description: Files that were copied.
  type: int
  returned: success
dropped:
  description: Whether another checkpoint was taken out of O(dest).
  type: bool
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest, resume, torch_dist

NOTHING = {
    "checkpoint": "",
    "name": "",
    "iteration": 0,
    "linked": 0,
    "copied": 0,
    "dropped": False,
}


def take(params: dict, *, check: bool) -> dict:
    """Find, compare and, unless ``check``, link; return what ``RETURN`` says.

    Raises:
        ResumeError: there is none though there must be, or it does not fit the run.
    """
    source, dest, name = Path(params["source"]), Path(params["dest"]), params["checkpoint"]
    dropped = not check and resume.drop_other(dest, name)
    if (dest / torch_dist.TRACKER).is_file():
        held = {"checkpoint": str(dest), "iteration": resume.iteration(dest)}
        return {**NOTHING, **held, "name": f"checkpoint-{held['iteration']}"}
    found = resume.find(source, name)
    if found is None:
        if not params["must_exist"]:
            return {**NOTHING, "dropped": dropped}
        what = name or "a checkpoint-N that was saved to its end"
        raise resume.ResumeError(
            what, "none", source, "name a run or a path that holds one (resume.from)"
        )
    tracked = (found / torch_dist.TRACKER).is_file()
    only = None if name in {found.name, source.name} else resume.asked(name)
    step = (only or resume.iteration(found)) if tracked else 0
    wrong = resume.differences(found, params["needed"]) if params["must_exist"] else []
    if wrong:
        raise resume.ResumeError(
            "a checkpoint that fits this run",
            "; ".join(wrong),
            found,
            "make both the same, name another checkpoint, or take the weights alone "
            "(resume.mode: restart)",
        )
    counts = {"linked": 0, "copied": 0} if check else resume.take(found, dest, only)
    told = {"checkpoint": str(found), "name": name or found.name, "iteration": step}
    return {**told, **counts, "dropped": dropped}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "checkpoint": {"type": "str"},
            "dest": {"type": "path", "required": True},
            "needed": {"type": "dict", "default": {}},
            "must_exist": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        answer = take(module.params, check=module.check_mode)
    except resume.ResumeError as error:
        module.fail_json(msg=str(error), findings=[error.finding])
    except (manifest.ManifestError, OSError) as error:
        module.fail_json(msg=str(error))
    changed = bool(answer["linked"] + answer["copied"] + answer["dropped"])
    module.exit_json(changed=changed, **answer)


if __name__ == "__main__":
    main()
