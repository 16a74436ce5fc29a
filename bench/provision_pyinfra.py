"""The end state of the playbook ``settings`` as a pyinfra deploy."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pyinfra import host
from pyinfra.operations import files, server

FILES = Path(host.data.files)
ROOT = {"user": "root", "group": "root"}
SSHD = "/usr/sbin/sshd -{} -f /etc/swiftops/sshd_config"

files.directory(path="/etc/swiftops", mode="755", **ROOT)
files.directory(path="/run/sshd", mode="755", **ROOT)
files.directory(path="/root/.ssh", mode="700", **ROOT)
config = files.put(
    src=str(FILES / "sshd_config"), dest="/etc/swiftops/sshd_config", mode="600", **ROOT
)
for name, dest, mode in (
    ("authorized_keys", "/etc/swiftops/authorized_keys", "644"),
    ("mesh_key", "/etc/swiftops/mesh_key", "600"),
    ("known_hosts", "/etc/swiftops/known_hosts", "644"),
    ("ssh_config", "/etc/swiftops/ssh_config", "644"),
    ("genders", "/etc/swiftops/genders", "644"),
    ("nodes", "/etc/swiftops/nodes", "644"),
    ("hostfile", "/etc/swiftops/hostfile", "644"),
    ("profile.sh", "/etc/profile.d/swiftops-pdsh.sh", "644"),
    ("pip.conf", "/etc/pip.conf", "644"),
):
    files.put(src=str(FILES / name), dest=dest, mode=mode, **ROOT)
files.file(path="/root/.ssh/config", mode="600", **ROOT)
files.line(path="/root/.ssh/config", line="Include /etc/swiftops/ssh_config")
files.file(path="/etc/apt/apt.conf.d/99swiftops", present=False)
server.shell(
    commands=[SSHD.format("t") + " && kill -HUP $(cat /run/sshd.pid)"], _if=config.did_change
)
wanted = [line for line in json.loads((FILES / "effective.json").read_text()) if str(line) == line]
listens = "for i in $(seq 100); do grep -q ':091D .* 0A ' /proc/net/tcp && exit 0; sleep 0.1; done"
server.shell(
    commands=[
        f"said=$({SSHD.format('T')}); "
        + " && ".join(f'echo "$said" | grep -qxF {shlex.quote(line)}' for line in wanted),
        f"{listens}; exit 1",
        "PDSH_RCMD_TYPE=ssh PDSH_GENDERS_FILE=/etc/swiftops/genders pdsh -Q -g nodes",
    ]
)
