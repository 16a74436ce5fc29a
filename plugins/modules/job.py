#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: job
short_description: Start, read, await and stop a supervised job on a node
version_added: 0.1.0
description:
  - Starts a command under a small supervisor that outlives Ansible, holds on to the whole process
    tree (whatever sessions it makes), and writes down how it ended and why.
  - One folder is one job of a run, a stage and a node. Starting is idempotent by that folder.
  - Supervisors of the same job on several nodes share one fate without the controller. When one
    node's job fails, is stopped or falls silent, all stop and each says why.
author:
  - The pyswiftops developers
options:
  directory:
    description: The job's folder on the node.
    type: path
    required: true
  state:
    description:
      - C(started) starts the job and returns as soon as it runs. A job that runs or has succeeded
        is left alone; one that has failed, was stopped or was lost starts anew, and what it left
        moves to C(attempt-N).
      - C(read) tells how it is now. C(finished) waits up to O(wait) seconds for its end or for
        progress and then tells the same.
      - C(stopped) ends exactly this job's processes and proves that none is left.
    type: str
    choices: [started, read, finished, stopped]
    default: started
  run_id:
    description: The run. Required to start.
    type: str
  stage:
    description: The stage. Required to start.
    type: str
  node:
    description: This node's name. Required to start.
    type: str
  argv:
    description: The command and its arguments, byte for byte; no shell. Required to start.
    type: list
    elements: str
  env:
    description:
      - Environment variables. Of the environment that Ansible finds on the node only PATH, HOME,
        USER, LOGNAME, SHELL, LANG, LC_*, TZ, TMPDIR, LD_LIBRARY_PATH, CUDA_HOME and CUDA_PATH
        reach the job, and what the machine sets for its interconnect, which is NCCL_*, NVSHMEM_*
        and TORCH_SYMM_MEM_*.
    type: dict
    default: {}
  env_file:
    description:
      - A file on the node with more of them, a NAME=value a line. O(env) wins, and so does what the
        machine sets. None if it is not there.
    type: path
  secret_env:
    description: Environment variables that are never shown or kept in a file once the job runs.
    type: dict
    default: {}
  path:
    description: Folders put before PATH.
    type: list
    elements: path
    default: []
  cwd:
    description: The folder to run in, made if it is missing; the job's folder if left out.
    type: path
  again:
    description: For C(started), start a job that has succeeded once more.
    type: bool
    default: false
  make_directories:
    description: Folders to make first, mode 0755.
    type: list
    elements: path
    default: []
  files:
    description: Small text files to write first, path to content, mode 0644.
    type: dict
    default: {}
  hide:
    description:
      - Paths that the job must not read, for example other nodes' roots on the same machine.
    type: list
    elements: path
    default: []
  isolation:
    description:
      - C(auto) covers the paths of O(hide) in a private mount namespace, or in a user namespace,
        or, where neither is allowed, fails the job once it is seen to have such a path open.
      - C(opened_paths) takes the last way at once; for tests of it.
    type: str
    choices: [auto, opened_paths]
    default: auto
  peers:
    description:
      - The nodes that share one fate, in rank order and with this one. The first one's supervisor
        listens, the others connect to it. Empty for a job on its own.
    type: list
    elements: dict
    default: []
    suboptions:
      node:
        description: The node's name.
        type: str
        required: true
      host:
        description: Its address on the training network.
        type: str
        required: true
      port:
        description: The port for the supervisors; only the first one's is used.
        type: int
        required: true
  token:
    description: The secret that the peers' supervisors share. Required with two peers or more.
    type: str
  stop_grace:
    description: Seconds between SIGTERM and SIGKILL.
    type: float
    default: 10
  heartbeat_timeout:
    description: Seconds of silence after which a peer counts as failed.
    type: float
    default: 8
  join_timeout:
    description: Seconds that a peer may take to join.
    type: float
    default: 120
  hang_timeout:
    description:
      - Seconds without a new line in O(progress_file) after which the job counts as hung and is
        stopped everywhere; until the first line C(hang_startup) of O(watch) more. A process
        that stays stopped (SIGSTOP) for half of it, or for 30 seconds if that is less, is a hang
        too.
      - C(0) is never. Saving a checkpoint and evaluating log no step, so leave time for them.
    type: float
    default: 0
  watch:
    description:
      - What else to look for in a training. C(hang_steps), a step that takes so many times the
        usual, but more than C(hang_at_least) seconds (600), is a hang too. C(hang_startup) seconds
        (600) may pass until the first step. A loss C(spike) robust deviations above the median of
        C(window) steps (50) is a spike. C(stop_on_nan) ends the job at a loss that is no number.
      - C(output), the folder of the checkpoints, C(save_every), C(iterations) and C(keep) are for
        the forecast of its disk. What is left out, or 0, is not looked for.
    type: dict
    default: {}
  grace:
    description:
      - For C(stopped), seconds between SIGTERM and SIGKILL where the supervisor is dead. What the
        job was started with if left out.
    type: float
  wait:
    description: For C(finished), how many seconds to wait at most.
    type: float
    default: 5
  since_step:
    description: For C(finished), return as soon as O(progress_file) has a later step.
    type: int
  progress_file:
    description: The C(logging.jsonl) of the training on this node.
    type: path
  tail:
    description: How many last lines of the log to return.
    type: int
    default: 0
  log_from:
    description:
      - Bytes of the log that are known already. The whole lines after them come as C(log_lines),
        at most 1 MiB at once, and C(log_next) is what to ask with next.
    type: int
  log_since:
    description: Of the log only what came after, in seconds since the epoch by the node's clock.
    type: float
  fail:
    description: For C(read) and C(finished), fail where the job has failed or is lost.
    type: bool
    default: false
attributes:
  check_mode:
    description: Tells what starting and stopping would change; the others read only.
    support: full
"""

EXAMPLES = r"""
- name: Start the training
  pyswiftops.fleet.job:
    directory: "{{ node_root }}/runs/{{ run_id }}/jobs/train"
    run_id: "{{ run_id }}"
    stage: train
    node: "{{ inventory_hostname }}"
    argv: "{{ command.argv }}"
    env: "{{ command.env }}"
    peers: "{{ peers }}"
    token: "{{ run_token }}"

- name: Wait for its end
  pyswiftops.fleet.job:
    directory: "{{ node_root }}/runs/{{ run_id }}/jobs/train"
    state: finished
    wait: 30
    tail: 20
  register: job
  until: job.state in ["succeeded", "failed", "stopped", "lost"]
  retries: 100000
  delay: 0

- name: Stop it
  pyswiftops.fleet.job:
    directory: "{{ node_root }}/runs/{{ run_id }}/jobs/train"
    state: stopped
"""

RETURN = r"""
state:
  description:
    - One of C(absent), C(starting), C(running), C(succeeded), C(failed), C(stopped), C(lost).
  returned: always
  type: str
exit_code:
  description: The command's exit code, if it exited.
  returned: always
  type: int
signal:
  description: The number of the signal that ended the command, if one did.
  returned: always
  type: int
reason:
  description:
    - Why the job ended other than by success. C(kind) is one of C(exited), C(signal), C(stopped),
      C(hung), C(nan), C(peer_failed), C(peer_silent), C(join_timeout), C(start_failed),
      C(isolation), C(lost); C(detail) is a sentence; C(node) is where it began; C(at) is the time
      there, in seconds since the epoch; C(cause) is C(hung) where another node hung.
  returned: always
  type: dict
pid:
  description: The pid of the command itself.
  returned: always
  type: int
supervisor_pid:
  description: The pid of its supervisor.
  returned: always
  type: int
started_at:
  description: In seconds since the epoch.
  returned: always
  type: float
ended_at:
  description: In seconds since the epoch.
  returned: always
  type: float
argv:
  description: The command that was started.
  returned: always
  type: list
  elements: str
directory:
  description: The job's folder.
  returned: always
  type: str
log:
  description: The path of the job's output.
  returned: always
  type: str
hang:
  description:
    - What the ranks on this node were doing when the job hung, here or on another node. C(ranks)
      has C(rank), C(pid), C(state), C(used_cpu) and C(frames) of each; C(lines) are the log's last
      ones of NCCL, Gloo and process groups; C(world_size) is how many ranks there are.
  returned: when an ended job is waited for or stopped; null unless it hung
  type: dict
log_lines:
  description: Whole lines after O(log_from).
  returned: where O(log_from) is given
  type: list
  elements: str
log_next:
  description: The O(log_from) to go on with.
  returned: where O(log_from) is given
  type: int
log_more:
  description: Whether the log holds more than what came at once.
  returned: where O(log_from) is given
  type: bool
log_tail:
  description: Its last lines, as many as O(tail) says.
  returned: always
  type: list
  elements: str
progress:
  description:
    - The last record of O(progress_file) as C(step), C(total), C(loss), C(grad_norm), C(lr), and
      in seconds C(elapsed), C(remaining) and C(seconds_per_step).
  returned: always
  type: dict
usage:
  description:
    - What the job used in the last seconds, as C(cpu_percent) (100 is one core), C(memory_bytes)
      (the sum of resident sets) and C(gpus), each with C(index), C(utilisation_percent),
      C(memory_used_bytes) and C(memory_total_bytes). Null before it was measured, and at the end.
  returned: always
  type: dict
alerts:
  description:
    - What should be looked at, all of it since the start. C(kind) is C(nan), C(spike) or C(disk);
      C(detail) is a sentence; and C(node), C(step) and C(at), in seconds since the epoch.
  returned: always
  type: list
  elements: dict
imports:
  description:
    - What the job's Python processes imported, as they recorded it at their exit. C(packages) is
      distribution to version, C(folder) where most of them lie, C(elsewhere) the others' folders,
      C(differ) versions that the files themselves name otherwise; C(processes), C(ranks),
      C(python), C(cuda) and C(nccl). Null where no process left a record; one that was killed
      leaves none. The variable SWIFTOPS_RECORD_IMPORTS=0 in O(env) switches it off.
  returned: for O(state=finished) and O(state=stopped), once the job has ended
  type: dict
curve:
  description:
    - At most 400 points of O(progress_file), each a list of step, loss, grad_norm and lr; null
      without one.
  returned: for O(state=finished) and O(state=stopped), once the job has ended
  type: list
  elements: list
descendants:
  description: How many processes the job has.
  returned: always
  type: int
survivors:
  description: The pids of a lost job that still run.
  returned: always
  type: list
  elements: int
isolation:
  description:
    - How O(hide) is kept, C(mount_namespace), C(user_namespace), C(opened_paths) or C(none).
  returned: always
  type: str
attempt:
  description: Which attempt this is, counted from 1; 0 if there was none.
  returned: always
  type: int
joined:
  description: The nodes whose supervisors this one has heard; the hub hears all, others the hub.
  returned: always
  type: list
  elements: str
segments_removed:
  description: The shared memory segments that the job left in /dev/shm and that were removed.
  returned: always
  type: list
  elements: str
notes:
  description: What the supervisor noticed, such as connections with a wrong token.
  returned: always
  type: list
  elements: str
ended:
  description: The pids that were ended.
  returned: when O(state=stopped)
  type: list
  elements: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils import job_control

FAILED = ("failed", "lost")


def arguments() -> dict[str, dict[str, object]]:
    """Return the module's parameters."""
    paths = {"type": "list", "elements": "path", "default": []}
    return {
        "directory": {"type": "path", "required": True},
        "state": {
            "type": "str",
            "choices": ["started", "read", "finished", "stopped"],
            "default": "started",
        },
        "run_id": {"type": "str"},
        "stage": {"type": "str"},
        "node": {"type": "str"},
        "argv": {"type": "list", "elements": "str"},
        "env": {"type": "dict", "default": {}},
        "env_file": {"type": "path"},
        "secret_env": {"type": "dict", "default": {}, "no_log": True},
        "path": paths,
        "cwd": {"type": "path"},
        "again": {"type": "bool", "default": False},
        "make_directories": paths,
        "files": {"type": "dict", "default": {}},
        "hide": paths,
        "isolation": {"type": "str", "choices": ["auto", "opened_paths"], "default": "auto"},
        "peers": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "node": {"type": "str", "required": True},
                "host": {"type": "str", "required": True},
                "port": {"type": "int", "required": True},
            },
        },
        "token": {"type": "str", "no_log": True},
        "stop_grace": {"type": "float", "default": 10},
        "heartbeat_timeout": {"type": "float", "default": 8},
        "join_timeout": {"type": "float", "default": 120},
        "hang_timeout": {"type": "float", "default": 0},
        "watch": {"type": "dict", "default": {}},
        "grace": {"type": "float"},
        "wait": {"type": "float", "default": 5},
        "since_step": {"type": "int"},
        "progress_file": {"type": "path"},
        "tail": {"type": "int", "default": 0},
        "log_from": {"type": "int"},
        "log_since": {"type": "float"},
        "fail": {"type": "bool", "default": False},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=arguments(),
        required_if=[("state", "started", ("run_id", "stage", "node", "argv"))],
        supports_check_mode=True,
    )
    try:
        told = job_control.perform(module.params, check=module.check_mode)
    except (job_control.JobError, OSError) as error:
        module.fail_json(msg=f"pyswiftops.fleet.job: {error}")
    if module.params["fail"] and told["state"] in FAILED:
        reason = told["reason"] or {}
        tail = "\n".join(told["log_tail"])
        sentence = f"the job in {told['directory']} has {told['state']}: {reason.get('detail')}"
        module.fail_json(msg=f"{sentence}; its log is {told['log']}\n{tail}".rstrip(), **told)
    module.exit_json(**told)


if __name__ == "__main__":
    main()
