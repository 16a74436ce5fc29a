#!/usr/bin/python
# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: answers
short_description: Read what C(swift infer) answered, and compare it word for word
description:
  - Reads the JSON lines that C(swift infer --result_path) writes.
  - With O(same_as) it fails at the first answer that differs.
options:
  path:
    description: The answers.
    type: path
    required: true
  same_as:
    description: Answers of another model to the same questions.
    type: path
author:
  - The pyswiftops developers (@pyswiftops)
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: The converted model answers as the base does
  pyswiftops.fleet.answers:
    path: /data/swiftops/node-1/runs/demo/infer/roundtrip_infer-answers.jsonl
    same_as: /data/swiftops/node-1/runs/demo/infer/infer-answers.jsonl
"""

RETURN = r"""
answers:
  description: For every question C(ask) and C(answer).
  type: list
  elements: dict
  returned: success
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def read(path: str) -> list:
    """Question and answer of every row; the file is appended to, so the last of each counts."""
    found: dict = {}
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            ask = next(m["content"] for m in row["messages"] if m["role"] == "user")
            found[ask] = row["response"]
    return [{"ask": ask, "answer": answer} for ask, answer in found.items()]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "same_as": {"type": "path"},
        },
        supports_check_mode=True,
    )
    path, same_as = module.params["path"], module.params["same_as"]
    try:
        answers = read(path)
        others = read(same_as) if same_as else answers
    except (OSError, ValueError, LookupError, StopIteration) as problem:
        module.fail_json(
            msg=f"expected: answers of swift infer as JSON lines; found: {problem!r}; "
            f"where: {path}; remedy: swiftops run --only infer --again"
        )
    if [item["ask"] for item in answers] != [item["ask"] for item in others]:
        module.fail_json(
            msg=f"expected: answers to the same questions; found: {len(answers)} and "
            f"{len(others)}; where: {path} and {same_as}; remedy: swiftops run --only infer --again"
        )
    for mine, other in zip(answers, others):  # noqa: B905 the node's Python may be 3.9
        if mine["answer"] != other["answer"]:
            module.fail_json(
                msg=f"expected: the base's answer to {mine['ask']!r}, {other['answer']!r}; "
                f"found: {mine['answer']!r}; where: {path}; remedy: the conversion changed the "
                "model: compare the release line with the matrix (roles/versions)"
            )
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
