#!/usr/bin/python
# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: debian_base
short_description: Make a base image of the host's own distribution with debootstrap
version_added: 0.1.0
description:
  - Takes release and mirror from the host's own apt sources, of both styles, runs debootstrap
    (variant minbase) and imports what it made.
  - An image that carries the label of the same definition is not made again, only tagged.
  - Names and passwords in a mirror's URI do not get into the image.
author:
  - The pyswiftops developers
options:
  tag:
    description: Name and tag that the image has at the end.
    type: str
    required: true
  suite:
    description: Release to install; by default the host's own.
    type: str
  mirror:
    description: Where packages come from; by default the host's own mirror.
    type: str
  packages:
    description: Packages beyond the smallest system.
    type: list
    elements: str
    default: [ca-certificates]
  folder:
    description: Where the system is put together, in a folder that is removed at the end.
    type: path
    default: /var/tmp
attributes:
  check_mode:
    description: Looks whether the image is there.
    support: full
requirements:
  - debootstrap on the host, and root, where the image has to be made
"""

EXAMPLES = r"""
- name: A base for images where no registry is reachable
  pyswiftops.fleet.debian_base:
    tag: swiftops/lab:base
"""

RETURN = r"""
id:
  description: The image's id; empty in check mode where it is not there.
  returned: success
  type: str
definition:
  description: Sum of all that the image is made from.
  returned: success
  type: str
sources:
  description: The apt sources of the image.
  returned: success
  type: list
  elements: str
made:
  description: Whether debootstrap has to run, or ran.
  returned: success
  type: bool
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyswiftops.fleet.plugins.module_utils.apt_sources import (
    Source,
    codename,
    read_sources,
    without_login,
)

LABEL = "swiftops.base"


class BaseError(Exception):
    """Something that keeps the image from being made, as expected, found, where, remedy."""


def choose(sources: list[Source], suite: str, mirror: str | None) -> tuple[str, list[Source]]:
    """The mirror, and the sources that belong to the release."""
    ours = [item for item in sources if item.suite == suite or item.suite.startswith(suite + "-")]
    if mirror:
        return mirror, ours
    main = [item for item in ours if item.suite == suite and "main" in item.components]
    if not main:
        raise BaseError(
            f"expected: an apt source of {suite} with the component main; found: none; "
            "where: /etc/apt; remedy: set image_bootstrap_mirror"
        )
    return main[0].uri, ours


def run(argv: list[str], **options: object) -> str:
    """Run a program; return what it printed."""
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, **options)
    except FileNotFoundError:
        raise BaseError(
            f"expected: the program {argv[0]}; found: none; where: this host; "
            f"remedy: install {argv[0]}"
        ) from None
    if done.returncode:
        last = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-8:])
        raise BaseError(f"{argv[0]} ended with {done.returncode}: {last}")
    return done.stdout.strip()


def image_with(definition: str) -> str:
    """The id of a base that carries the definition, or "".

    Images that were built on a base inherit its label; a base itself has one layer.
    """
    argv = ["docker", "image", "ls", "--no-trunc", "--quiet"]
    found = run([*argv, "--filter", f"label={LABEL}={definition}"]).split()
    if not found:
        return ""
    told = run(["docker", "image", "inspect", "--format={{.Id}} {{len .RootFS.Layers}}", *found])
    return next((line.split()[0] for line in told.splitlines() if line.endswith(" 1")), "")


def image_of(tag: str) -> str:
    """The id of the image that has the tag, or ""."""
    return run(["docker", "image", "ls", "--no-trunc", "--quiet", tag])


def make(module: AnsibleModule, mirror: str, suite: str, lines: list[str], label: str) -> None:
    """Put the system together and import it."""
    options = module.params
    place = tempfile.mkdtemp(prefix="swiftops-base-", dir=options["folder"])
    try:
        argv = ["debootstrap", "--variant=minbase"]
        if options["packages"]:
            argv.append("--include=" + ",".join(options["packages"]))
        run([*argv, suite, place, mirror])
        root = Path(place)
        (root / "etc/apt/sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / folder, ignore_errors=True)
            (root / folder / "partial").mkdir(parents=True)
        changes = ["--change", f"LABEL {label}", "--change", 'CMD ["/bin/sh"]']
        with subprocess.Popen(
            ["tar", "--numeric-owner", "--create", "--directory", place, "."],
            stdout=subprocess.PIPE,
        ) as tar:
            run(["docker", "import", *changes, "-", options["tag"]], stdin=tar.stdout)
        if tar.returncode:
            raise BaseError(f"tar ended with {tar.returncode}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "tag": {"type": "str", "required": True},
            "suite": {"type": "str"},
            "mirror": {"type": "str"},
            "packages": {"type": "list", "elements": "str", "default": ["ca-certificates"]},
            "folder": {"type": "path", "default": "/var/tmp"},  # noqa: S108 mkdtemp makes it private
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        suite = options["suite"] or codename()
        mirror, ours = choose(read_sources(), suite, options["mirror"])
        lines = sorted({without_login(str(item)) for item in ours}) or [
            f"deb {without_login(mirror)} {suite} main"
        ]
        text = json.dumps([suite, lines, sorted(options["packages"]), os.uname().machine])
        definition = hashlib.sha256(text.encode()).hexdigest()[:16]
        there = image_with(definition)
        changed = not there or image_of(options["tag"]) != there
        if changed and not module.check_mode:
            if there:
                run(["docker", "image", "tag", there, options["tag"]])
            else:
                make(module, mirror, suite, lines, f"{LABEL}={definition}")
        module.exit_json(
            changed=changed,
            id=image_of(options["tag"]) if not module.check_mode else there,
            definition=definition,
            sources=lines,
            made=not there,
        )
    except BaseError as problem:
        module.fail_json(msg=str(problem))


if __name__ == "__main__":
    main()
