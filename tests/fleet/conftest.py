"""What the tests of this folder need: root, and a Docker engine, which is installed if missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyswiftops.content import collections_path

ENGINE = """
- name: An engine on this machine
  hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    swiftops_device: cpu
    swiftops_container:
      engine:
        install: true
        proxy: null
        registry_mirrors: []
        insecure_registries: []
        nvidia: false
  roles:
    - role: pyswiftops.fleet.docker_engine
  post_tasks:
    - name: What the tests themselves start
      ansible.builtin.apt:
        name: [debootstrap, genders, iproute2, iptables, openssh-client, openssh-server]
    - name: And what they copy and log in with
      ansible.builtin.apt:
        name: [pdsh, rsync, sshpass, zstd]
        install_recommends: false
"""
TOOLS = ("docker", "debootstrap", "ip", "iptables", "tc")
PROGRAMS = (*TOOLS, "pdsh", "rsync", "ssh-agent", "sshpass", "zstd")


@pytest.fixture(scope="session", autouse=True)
def engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fails, and does not skip, where there can be none."""
    if os.geteuid() != 0:
        pytest.fail("expected: root, to make containers; remedy: sudo make test-fleet")
    answers = (
        shutil.which("docker")
        and not subprocess.run(["docker", "version"], capture_output=True, check=False).returncode
    )
    if answers and all(map(shutil.which, PROGRAMS)):
        return
    playbook = tmp_path_factory.mktemp("engine") / "engine.yml"
    playbook.write_text(ENGINE, encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", playbook],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path())},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
