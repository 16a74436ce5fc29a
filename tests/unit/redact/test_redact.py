"""What must not leave a site does not, and what explains a failure stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyswiftops.redact import REDACTED, Redactor

HOSTS = ("gpu-07.lab.example.com", "gpu-07", "node-1", "controller.corp")
BORDER = "-----{} OPENSSH PRIVATE KEY-----"
KEY = f"{BORDER.format('BEGIN')}\nb3BlbnNzaC1rZXk\nAAAA\n{BORDER.format('END')}"
SECRETS = [  # text, what must be gone
    ("HF_TOKEN=hf_abcdefghijklmnopqrstuv", "abcdefghij"),
    ("found hf_abcdefghijklmnopqrstuv in the cache", "abcdefghij"),
    ("export WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567", "0123456789"),
    ("MODELSCOPE_API_TOKEN: ms-12345678-1234-1234-1234-123456789abc", "12345678"),
    ("ms-12345678-1234-1234-1234-123456789abc", "12345678"),
    ("--swanlab_token s3cr3tvalue --lr 1e-4", "s3cr3tvalue"),
    ("--api-key=s3cr3tvalue", "s3cr3tvalue"),
    ("--api_key 's3cr3t value' --port 80", "s3cr3t value"),
    ("argv: ['--api_key', 's3cr3tvalue']", "s3cr3tvalue"),
    ('{"password": "s3cr3t \\" value", "x": 1}', "value"),
    ("password: s3cr3tvalue", "s3cr3tvalue"),
    ("ansible_become_password='s3cr3tvalue'", "s3cr3tvalue"),
    ("DB_PASSWD=s3cr3tvalue", "s3cr3tvalue"),
    ("the passphrase = s3cr3tvalue", "s3cr3tvalue"),
    ("clientSecret: s3cr3tvalue", "s3cr3tvalue"),
    ("Authorization: Bearer s3cr3tvalue", "s3cr3tvalue"),
    ("'authorization': 'Basic czNjcjN0dmFsdWU='", "czNjcjN0"),
    ("curl -H 'Authorization: token s3cr3tvalue'", "s3cr3tvalue"),
    ("proxy-authorization: s3cr3tvalue", "s3cr3tvalue"),
    ("sent Bearer abcdef.123-456_789", "abcdef"),
    ("https://ada:s3cr3tvalue@git.example.com/x.git", "s3cr3tvalue"),
    ("http://s3cr3tvalue@proxy:8080", "s3cr3tvalue"),
    ("https://h/x?access_token=s3cr3tvalue&y=1", "s3cr3tvalue"),
    ("https://oapi.dingtalk.com/robot/send?access_token=s3cr3tvalue&sign=5igned", "5igned"),
    ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=s3cr3tvalue", "s3cr3tvalue"),
    ("https://open.feishu.cn/open-apis/bot/v2/hook/s3cr3t-value", "s3cr3t-value"),
    ("https://hooks.slack.com/services/T000/B000/s3cr3tvalue", "s3cr3tvalue"),
    (f"key:\n{KEY}\nafter", "b3BlbnNzaC1rZXk"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEcutoff", "MIIEcutoff"),
    ("sk-proj-abcdefghijklmnop1234", "abcdefghij"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghij"),
    ("github_pat_11ABCDEFG0abcdefghij_klmn", "abcdefghij"),
    ("glpat-abcdefghijklmnopqrst", "abcdefghij"),
    ("AKIAABCDEFGHIJKLMNOP", "ABCDEFGH"),
    ("LTAI5tABCDEFGHijklmnop", "ABCDEFGH"),
    ("ALIBABA_ACCESS_KEY_SECRET=s3cr3tvalue", "s3cr3tvalue"),
    ("xoxb-123456789012-abcdefghij", "abcdefghij"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "c2lnbmF0"),
    ("mail ada.lovelace@example.org now", "lovelace"),
    ("connect to 10.1.2.3:29500 failed", "10.1.2.3"),
    ("MASTER_ADDR=10.1.2.3", "10.1.2.3"),
    ("[2001:db8::17]:80 refused", "2001:db8"),
    ("ether 0a:1b:2c:3d:4e:5f", "0a:1b"),
    ("ssh gpu-07.lab.example.com failed", "gpu-07"),
    ("on gpu-07: killed", "gpu-07"),
    ("controller.corp drives it", "controller.corp"),
    ("/home/ada/x and /Users/ada/y", "ada"),
    ("login lovelace was refused", "lovelace"),
]
KEPT = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "--max_new_tokens 32 --max_tokens 5 --tokenizer_path /m",
    "tokens per second: 512.5",
    "{'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'image_token': '<image>'}",
    "step 3/20 loss 1.2345 at 2026-11-27 16:21:06,123",
    "listening on 127.0.0.1:8000 and 0.0.0.0 and [::1]:80",
    "nvidia-cublas-cu12==12.4.5.8 nvidia_nccl_cu12-2.21.5.1-py3-none-any.whl",
    'File "/root/runs/good/train.py", line 12, in main',
    "sha256 0123456789abcdef0123456789abcdef01234567",
    "c10d::ProcessGroup std::vector at 12:34:56",
    "node-1 and localhost answer",
    "password: null, token: none",
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
]


def redactor() -> Redactor:
    return Redactor(HOSTS, ["lovelace", "root"])


@pytest.mark.parametrize(("text", "gone"), SECRETS)
def test_it_is_gone_and_redacting_again_changes_nothing(text: str, gone: str) -> None:
    subject = redactor()
    found = subject.text(f"before\n{text}")
    assert gone not in found
    assert found.startswith("before\n")
    assert subject.text(found) == found
    assert sum(subject.counts.values()) >= 1


@pytest.mark.parametrize("text", KEPT)
def test_what_explains_a_failure_stays(text: str) -> None:
    assert redactor().text(text) == text


def test_the_rest_of_the_line_stays() -> None:
    found = redactor().text("--api_key 'a b' --lr 1e-4 https://u:p@h.example/x?token=t&y=1")
    assert found == (
        f"--api_key '{REDACTED}' --lr 1e-4 https://{REDACTED}@h.example/x?token={REDACTED}&y=1"
    )


def test_names_stay_the_same_and_apart() -> None:
    subject = redactor()
    first = subject.text("10.0.0.1 calls 10.0.0.2 for ada@example.org in /home/ada")
    assert first == "ip-1 calls ip-2 for email-1 in /home/user-1"
    assert subject.text("10.0.0.2, /home/bob/x, /home/ada") == "ip-2, /home/user-2/x, /home/user-1"
    assert subject.counts["ip"] == 3


def test_data_is_redacted_by_its_keys_and_in_every_string() -> None:
    data: dict[str, Any] = {
        "argv": ["serve", "--api_key", "s3cr3t", "--port", "80", "10.0.0.9"],
        "env": {"HF_TOKEN": "s3cr3t", "PIN_SECRET": 1234, "NODE_RANK": "1"},
        "secrets": {"x": "kept, as it is no value"},
        "eos_token": "<|im_end|>",
        "api_key": None,
        "password": "",
        "imports": {"packages": {"nvidia-cublas": "12.4.5.8", "torch": "2.13.0"}},
        "nested": [{"deep": ("a", "gpu-07")}],
        "steps": 3,
        "10.0.0.9": True,
    }
    before = json.dumps(data)
    found = redactor().data(data)
    assert found == {
        "argv": ["serve", "--api_key", REDACTED, "--port", "80", "ip-1"],
        "env": {"HF_TOKEN": REDACTED, "PIN_SECRET": REDACTED, "NODE_RANK": "1"},
        "secrets": {"x": "kept, as it is no value"},
        "eos_token": "<|im_end|>",
        "api_key": None,
        "password": "",
        "imports": {"packages": {"nvidia-cublas": "12.4.5.8", "torch": "2.13.0"}},
        "nested": [{"deep": ["a", "host-1"]}],
        "steps": 3,
        "ip-1": True,
    }
    assert json.dumps(data) == before
