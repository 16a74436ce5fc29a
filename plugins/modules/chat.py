#!/usr/bin/python
# Copyright (c) The pyswiftops developers
# Apache-2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: chat
short_description: Ask an OpenAI-compatible endpoint and check its answers
description:
  - Waits until the endpoint lists its models, asks every question (greedily decoded), and looks
    for the expected words in each answer, in any case of letters.
options:
  url:
    description: Base URL, for instance C(http://127.0.0.1:8000/v1).
    type: str
    required: true
  questions:
    description: What to ask, each with C(ask) and C(expect), a list of words.
    type: list
    elements: dict
    default: []
  max_tokens:
    description: Length of an answer, in tokens.
    type: int
    default: 48
  ready_timeout:
    description: Seconds to wait for the endpoint; 0 asks once.
    type: int
    default: 300
  job:
    description: Folder of the job that serves; waiting ends at once when that job has ended.
    type: path
author:
  - The pyswiftops developers (@pyswiftops)
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Ask the trained model
  pyswiftops.fleet.chat:
    url: http://127.0.0.1:8000/v1
    questions:
      - {ask: "Who are you?", expect: [swift-robot]}
"""

RETURN = r"""
model:
  description: The served model's name.
  type: str
  returned: success
answers:
  description: For every question C(ask), C(answer), C(expect), C(missing) and C(seconds).
  type: list
  elements: dict
  returned: always
seconds:
  description: Seconds until the endpoint was ready.
  type: float
  returned: success
"""

import json
import time
import urllib.request
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

POLL = 0.25  # seconds
ANSWER_TIMEOUT = 300  # seconds
ENDED = ("failed", "stopped", "succeeded", "lost")


def call(url: str, body: dict | None = None, timeout: float = ANSWER_TIMEOUT) -> dict:
    """GET, or POST ``body`` as JSON; the endpoint is the node's own, never a proxy's."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 the role writes http://
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as response:
        return json.load(response)


def job_state(folder: str | None) -> str:
    """State of the serving job, or "" where it cannot be told."""
    if not folder:
        return ""
    try:
        state = json.loads(Path(folder, "state.json").read_text(encoding="utf-8"))
        return state.get("state", "")
    except (OSError, ValueError):
        return ""


def wait_ready(module: AnsibleModule, started: float) -> str:
    """The name of the served model, once the endpoint lists it."""
    url, limit = module.params["url"], module.params["ready_timeout"]
    while True:
        try:
            return call(f"{url}/models", timeout=10)["data"][0]["id"]
        except (OSError, ValueError, LookupError) as problem:
            reason = str(problem)
        state = job_state(module.params["job"])
        waited = time.monotonic() - started
        if state in ENDED or waited > limit:
            found = f"the serving job {state}" if state in ENDED else reason
            module.fail_json(
                answers=[],
                msg=f"expected: an endpoint that lists its models; found: {found} after "
                f"{waited:.0f} s; where: {url}; remedy: see the log in "
                f"{module.params['job'] or 'the serving job'}",
            )
        time.sleep(POLL)


def ask(url: str, model: str, question: dict, max_tokens: int) -> dict:
    """One question and what came of it."""
    started = time.monotonic()
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question["ask"]}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    answer = call(f"{url}/chat/completions", body)["choices"][0]["message"]["content"] or ""
    expect = question.get("expect") or []
    return {
        "ask": question["ask"],
        "answer": answer,
        "expect": expect,
        "missing": [word for word in expect if word.casefold() not in answer.casefold()],
        "seconds": round(time.monotonic() - started, 3),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "questions": {"type": "list", "elements": "dict", "default": []},
            "max_tokens": {"type": "int", "default": 48},
            "ready_timeout": {"type": "int", "default": 300},
            "job": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params, started, answers = module.params, time.monotonic(), []
    params["url"] = params["url"].rstrip("/")
    if module.check_mode:
        module.exit_json(changed=False, answers=answers, model="", seconds=0.0)
    model = wait_ready(module, started)
    seconds = round(time.monotonic() - started, 3)
    try:
        for question in params["questions"]:
            answers.append(ask(params["url"], model, question, params["max_tokens"]))
    except (OSError, ValueError, LookupError, TypeError) as problem:
        module.fail_json(
            answers=answers,
            msg=f"expected: an answer to {question['ask']!r}; found: {problem}; "
            f"where: {params['url']}; remedy: see the serving job's log",
        )
    wrong = [answer for answer in answers if answer["missing"]]
    if wrong:
        first = wrong[0]
        module.fail_json(
            answers=answers,
            msg=f"expected: {', '.join(first['missing'])} in the answer to {first['ask']!r}; "
            f"found: {first['answer']!r}; where: {params['url']}; remedy: train longer, mix in "
            "rows that the base answers itself, or mend smoke.questions",
        )
    module.exit_json(changed=False, answers=answers, model=model, seconds=seconds)


if __name__ == "__main__":
    main()
