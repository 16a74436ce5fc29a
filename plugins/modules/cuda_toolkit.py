#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_toolkit
short_description: Have nvcc of the CUDA that torch was built with, and prove that it compiles
version_added: 0.4.0
description:
  - Uses a toolkit of that version that is there, in O(path), C(CUDA_HOME) or C(/usr/local/cuda*).
    Otherwise pip puts NVIDIA's wheels into a folder below O(root), or conda makes a prefix there.
    The environment of torch is not touched.
  - Adds links that compilers look for, and a file for login shells. The link C(home) below O(root)
    leads to the toolkit in use.
  - Compiles and links a kernel each time, for which no GPU is needed.
author:
  - The pyswiftops developers
options:
  state:
    description: V(absent) takes variables and links away; toolkits stay.
    type: str
    choices: [present, absent]
    default: present
  python:
    description: The Python that has torch; also runs pip.
    type: path
    required: true
  version:
    description: CUDA's major.minor; torch's where empty.
    type: str
    default: ""
  method:
    description: How a toolkit comes that is not there. The wheels of CUDA 12 hold no nvcc, so that
      V(pip) is for CUDA 13 and later.
    type: str
    choices: [pip, conda, path]
    default: pip
  path:
    description: The toolkit that is there, with O(method=path).
    type: str
    default: ""
  root:
    description: Where toolkits of ours lie.
    type: path
    default: /opt/cuda-toolkit
  pip:
    description: Words of pip besides, such as C(--no-index) and C(--find-links).
    type: list
    elements: str
    default: []
  conda:
    description: The program that makes the prefix.
    type: str
    default: micromamba
  channels:
    description: Where conda takes it from.
    type: list
    elements: str
    default: [conda-forge]
  offline:
    description: Whether conda takes only what is in its cache.
    type: bool
    default: false
  profile:
    description: The file for login shells.
    type: path
    default: /etc/profile.d/swiftops-cuda.sh
  link:
    description: Whether C(/usr/local/cuda) leads to the toolkit; a folder there is refused.
    type: bool
    default: false
attributes:
  check_mode:
    description: Looks for a toolkit and installs none; proves nothing.
    support: full
"""

EXAMPLES = r"""
- name: A compiler for CUDA, from a folder of wheels
  pyswiftops.fleet.cuda_toolkit:
    python: /opt/swift/bin/python
    pip: [--no-index, --find-links=/srv/wheels]
"""

RETURN = r"""
home:
  description: The toolkit in use.
  returned: success, and state is present
  type: str
version:
  description: CUDA's major.minor.
  returned: success, and state is present
  type: str
environment:
  description: Variables of what is compiled, with C(PATH).
  returned: success, and state is present
  type: dict
reasons:
  description: What was not as it must be.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import cuda_toolkit


def main() -> None:
    """Run the module."""
    text = {"type": "str", "default": ""}
    texts = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "python": {"type": "path", "required": True},
            "version": text,
            "method": {"type": "str", "choices": ["pip", "conda", "path"], "default": "pip"},
            "path": text,
            "root": {"type": "path", "default": "/opt/cuda-toolkit"},
            "pip": {**texts, "default": []},
            "conda": {"type": "str", "default": "micromamba"},
            "channels": {**texts, "default": ["conda-forge"]},
            "offline": {"type": "bool", "default": False},
            "profile": {"type": "path", "default": "/etc/profile.d/swiftops-cuda.sh"},
            "link": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = dict(module.params)
    state = given.pop("state")
    wanted = cuda_toolkit.Wanted(**given)
    try:
        if state == "absent":
            reasons = [] if module.check_mode else cuda_toolkit.remove(wanted)
            module.exit_json(changed=bool(reasons), reasons=reasons)
        found = cuda_toolkit.converge(wanted, check=module.check_mode)
    except (cuda_toolkit.CudaError, OSError) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(**found._asdict())


if __name__ == "__main__":
    main()
