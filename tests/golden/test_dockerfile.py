"""The Dockerfile that an image is built from, whole, as role ``image`` renders it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from pyswiftops.content import collection

GOLDEN = Path(__file__).parent / "Dockerfile"
HOSTILE = "deb http://m.example/debian 'bookworm main; rm -rf /"


def rendered(**changes: Any) -> str:
    role = collection() / "roles" / "image"
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    variables = {
        **defaults,
        "image_source": {"build": {"base": "bootstrap"}},
        "image_all_packages": defaults["image_packages"],
        "image_wheelhouse": {"python": "3.11", "requirements": ["torch==2.13.0", "rich>=13"]},
        "swiftops_line": "4.6",
        **changes,
    }
    text = (role / "templates" / "Dockerfile.j2").read_text(encoding="utf-8")
    templar = Templar(DataLoader(), variables=variables)
    return str(templar.template(trust_as_template(text), escape_backslashes=False))


def test_the_dockerfile_is_the_golden_one() -> None:
    text = rendered()
    if os.environ.get("REGENERATE"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_wheels_are_mounted_and_never_copied() -> None:
    lines = rendered().splitlines()
    assert not [line for line in lines if line.startswith(("COPY", "ADD"))]
    assert sum("--mount=type=bind" in line for line in lines) == 2


def test_no_host_key_is_baked_into_the_image() -> None:
    assert "/etc/ssh/ssh_host_*" in rendered()


@pytest.mark.parametrize("lines", [[HOSTILE]])
def test_lines_of_apt_are_quoted(lines: list[str]) -> None:
    text = rendered(image_apt_sources=lines)
    assert "'deb http://m.example/debian '\"'\"'bookworm main; rm -rf /'" in text
