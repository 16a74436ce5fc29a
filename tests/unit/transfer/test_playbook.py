"""The modules as a playbook runs them: gather a folder from one local node to another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COLLECTION = Path(__file__).resolve().parents[3]

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - pyswiftops.fleet.manifest:
        path: "{{ source }}"
      register: listed
    - pyswiftops.fleet.pull: &pull
        source:
          path: "{{ source }}"
        dest: "{{ dest }}"
        files: "{{ listed.files }}"
        verify: true
      register: first
    - pyswiftops.fleet.pull: *pull
      register: second
    - pyswiftops.fleet.checkpoint_info:
        path: "{{ dest }}"
      register: info
    - ansible.builtin.copy:
        content: "{{ {'first': first, 'second': second, 'info': info} | to_json }}"
        dest: "{{ answers }}"
        mode: "0600"
"""


@pytest.mark.slow
def test_a_playbook_gathers_a_folder(hostile_tree: Path, tmp_path: Path) -> None:
    link = tmp_path / "collections/ansible_collections/pyswiftops/fleet"
    link.parent.mkdir(parents=True)
    link.symlink_to(COLLECTION)
    (tmp_path / "play.yml").write_text(PLAY)
    dest = tmp_path / "de st"
    extra = {
        "source": str(hostile_tree),
        "dest": str(dest),
        "answers": str(tmp_path / "answers.json"),
        "ansible_python_interpreter": sys.executable,
    }
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,"),
            *("-e", json.dumps(extra), str(tmp_path / "play.yml")),
        ],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())
    names = sorted(p.relative_to(hostile_tree).as_posix() for p in hostile_tree.rglob("*.*"))
    assert (answers["first"]["changed"], answers["second"]["changed"]) == (True, False)
    assert set(names) - {"deep/.hidden"} <= set(answers["first"]["copied"])
    assert answers["second"]["kept"] == answers["first"]["copied"]
    assert "skipped" not in answers["second"]  # a word of Ansible's own: it would take the task so
    assert len(answers["first"]["copied"]) == 10
    assert answers["info"]["complete"] is False
    assert (dest / ".metadata").read_bytes() == (hostile_tree / ".metadata").read_bytes()
