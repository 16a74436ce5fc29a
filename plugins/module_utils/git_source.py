# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""A source tree at a branch or a commit: from a repository or an archive, looked at afterwards.

Nothing that lies there is overwritten: a tree with changes of its own, a folder that holds
something else and a clone of another repository are refused. What is new is put together beside
its place and gets its name once it is what it must be.

Linux only, git and the standard library, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

RECORD = ".swiftops-source.json"  # beside a tree that came without its repository


class SourceError(Exception):
    """Something that keeps the tree from being what it must be: expected, found, where, remedy."""

    def __init__(self, expected: str, found: str, where: str, remedy: str) -> None:
        super().__init__(f"expected: {expected}; found: {found}; where: {where}; remedy: {remedy}")


class Wanted(NamedTuple):
    """What the tree must be.

    Attributes:
        path: Where it lies.
        repository: Where it is cloned from; "" with an archive.
        archive: A tar file; "" with a repository.
        branch: The branch that its commit belongs to, or "".
        commit: The commit, whole or its beginning, or "".
        update: Whether a branch's newest commit is asked for again.
        safe: Whether git of every user is to trust the tree.
    """

    path: Path
    repository: str
    archive: str
    branch: str
    commit: str
    update: bool
    safe: bool

    def __str__(self) -> str:
        what = [f"branch {self.branch}"] if self.branch else []
        return " at ".join(what + ([f"commit {self.commit}"] if self.commit else []))


class Answer(NamedTuple):
    """What the tree is.

    Attributes:
        changed: Whether it had to become it.
        head: Its commit; "" in check mode, where that is not known before.
        branch: Its branch, as far as it is known.
    """

    changed: bool
    head: str
    branch: str


def converge(wanted: Wanted, *, check: bool) -> Answer:
    """Make the tree what is wanted, and look at what it is.

    Raises:
        SourceError: it cannot be; what was there is as it was.
    """
    if not shutil.which("git"):
        raise SourceError("git", "none", "PATH of the node", "install git there")
    if bool(wanted.repository) == bool(wanted.archive):
        raise SourceError("a repository or an archive", "both or none", str(wanted.path), "say one")
    if not (wanted.branch or wanted.commit):
        raise SourceError("a branch or a commit", "none", str(wanted.path), "say one")
    trusted = _trust(wanted.path, check=check) if wanted.safe else False
    if wanted.archive:
        answer = _from_archive(wanted, check=check)
    else:
        answer = _from_repository(wanted, check=check)
    return answer._replace(changed=answer.changed or trusted)


def _git(*words: str, at: Path | None = None, fails: bool = True) -> subprocess.CompletedProcess:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    argv = ["git", *(["-C", str(at)] if at else []), *words]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
    if done.returncode and fails:
        last = " / ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
        what = f"git {words[0]} to succeed"
        raise SourceError(what, last, str(at or words[-1]), "look whether the node reaches it")
    return done


def _said(*words: str, at: Path) -> str:
    """What git says, or "" where it fails."""
    done = _git(*words, at=at, fails=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _trust(path: Path, *, check: bool) -> bool:
    """Let git of every user of the machine work in the tree."""
    known = _git("config", "--system", "--get-all", "safe.directory", fails=False).stdout.split(
        "\n"
    )
    if str(path) in known or "*" in known:
        return False
    if not check:
        _git("config", "--system", "--add", "safe.directory", str(path))
    return True


# A repository.


def _from_repository(wanted: Wanted, *, check: bool) -> Answer:
    path = wanted.path
    if not path.is_dir() or not any(path.iterdir()):
        if check:
            return Answer(changed=True, head="", branch=wanted.branch)
        with _beside(path) as place:
            _git("clone", "--quiet", "--no-checkout", "--", wanted.repository, str(place))
            _checkout(wanted, place)
            answer = _verified(wanted, place, changed=True)
            _settle(place, path)
        return answer
    _is_clone(wanted)
    if not wanted.update and _fits(wanted, path):
        return _verified(wanted, path, changed=False)
    changes = _said("status", "--porcelain", "--untracked-files=no", at=path)
    if changes:
        names = [line.split(maxsplit=1)[-1] for line in changes.splitlines()]
        found = f"changes in {', '.join(names[:3])}"
        remedy = "commit or stash them, or name another path"
        raise SourceError(f"no changes of its own, to go to {wanted}", found, str(path), remedy)
    before = _said("rev-parse", "HEAD", at=path)
    if before and not _said(
        "for-each-ref", "--contains", before, "refs/remotes", "refs/tags", at=path
    ):
        found, remedy = f"commit {before}, which is nowhere else", "push it, or name another path"
        raise SourceError(f"no commits of its own, to go to {wanted}", found, str(path), remedy)
    target = _target(wanted, path)
    if check:
        return Answer(changed=target != before, head="", branch=wanted.branch)
    _checkout(wanted, path)
    return _verified(wanted, path, changed=_said("rev-parse", "HEAD", at=path) != before)


def _is_clone(wanted: Wanted) -> None:
    top = _said("rev-parse", "--show-toplevel", at=wanted.path)
    if not top or Path(top).resolve() != wanted.path.resolve():
        where, remedy = str(wanted.path), "move it away, or name another path"
        raise SourceError("an empty folder, or a clone", "something else", where, remedy)
    origin = _said("config", "--get", "remote.origin.url", at=wanted.path)
    if origin != wanted.repository:
        remedy = "move it away, or give that repository"
        raise SourceError(
            f"a clone of {wanted.repository}", f"one of {origin}", str(wanted.path), remedy
        )


def _target(wanted: Wanted, at: Path) -> str:
    """The commit to go to, looked up where it comes from."""
    if wanted.commit:
        found = _said("rev-parse", "--verify", f"{wanted.commit}^{{commit}}", at=at)
        return found or wanted.commit
    told = _git(
        "ls-remote", "--exit-code", "origin", f"refs/heads/{wanted.branch}", at=at, fails=False
    )
    if told.returncode:
        raise _no_branch(wanted, at)
    return told.stdout.split()[0]


def _checkout(wanted: Wanted, at: Path) -> None:
    """Have the work tree at what is wanted; in a clone that holds it, without asking anyone."""
    target = _has(wanted, at)
    if not target or (wanted.update and not wanted.commit):
        _git("fetch", "--quiet", "--tags", "--prune", "origin", at=at)
        target = _has(wanted, at)
    if not target and wanted.branch and not _said("rev-parse", f"origin/{wanted.branch}", at=at):
        raise _no_branch(wanted, at)
    if not target:
        found, remedy = "no such commit", "correct the commit, or take a mirror that has it"
        raise SourceError(str(wanted), found, wanted.repository, remedy)
    if wanted.branch:
        _git("checkout", "--quiet", "-B", wanted.branch, target, at=at)
    else:
        _git("checkout", "--quiet", "--detach", target, at=at)


def _has(wanted: Wanted, at: Path) -> str:
    """The wanted commit where the clone has it, else ""."""
    name = wanted.commit or f"refs/remotes/origin/{wanted.branch}"
    return _said("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", at=at)


def _no_branch(wanted: Wanted, at: Path) -> SourceError:
    told = _said("ls-remote", "--heads", "origin", at=at)
    names = [line.partition("refs/heads/")[2] for line in told.splitlines()]
    close = [name for name in names if name.startswith("core_r")] or names
    found = f"branches {', '.join(close[-12:])}" if close else "no branch"
    return SourceError(str(wanted), found, wanted.repository, "take a mirror that has the branch")


def _fits(wanted: Wanted, at: Path) -> bool:
    head = _said("rev-parse", "HEAD", at=at)
    return bool(head) and _problem(wanted, at, head) is None


def _problem(wanted: Wanted, at: Path, head: str) -> str | None:
    """What the tree's commit is instead of what is wanted; None where it is that."""
    if wanted.commit and not head.startswith(wanted.commit.lower()):
        return f"commit {head}"
    if not wanted.branch:
        return None
    upstream, own = f"refs/remotes/origin/{wanted.branch}", f"refs/heads/{wanted.branch}"
    # An archive may hold a repository that knows no other; else the upstream's branch counts.
    tip = _said("rev-parse", "--verify", "--quiet", upstream, at=at)
    tip = tip or _said("rev-parse", "--verify", "--quiet", own, at=at)
    if not tip:
        return f"commit {head}, no such branch"
    inside = _git("merge-base", "--is-ancestor", head, tip, at=at, fails=False).returncode == 0
    if head == tip or (wanted.commit and inside):
        return None
    name = _said("symbolic-ref", "--short", "--quiet", "HEAD", at=at) or "no branch"
    return f"commit {head}, {name}"


def _verified(wanted: Wanted, at: Path, *, changed: bool) -> Answer:
    head = _said("rev-parse", "HEAD", at=at)
    problem = _problem(wanted, at, head) if head else "no commit"
    if problem:
        remedy = "look which of both is right: branch, commit or where it comes from"
        raise SourceError(str(wanted), problem, str(wanted.path), remedy)
    return Answer(changed, head, wanted.branch)


# An archive.


def _from_archive(wanted: Wanted, *, check: bool) -> Answer:
    path, archive = wanted.path, Path(wanted.archive)
    if not archive.is_file():
        raise SourceError("an archive", "no file", str(archive), "bring it to the node")
    digest = _sha256(archive)
    there = _recorded(path)
    if there.get("sha256") == digest:
        return _verified_record(wanted, path, there)
    if path.is_dir() and any(path.iterdir()):
        if not there:
            remedy = "move it away, or name another path"
            raise SourceError("an empty folder", "something else", str(path), remedy)
        _unchanged(path)
    with _beside(path) as place:
        comment = _unpack(archive, place)
        record = {"sha256": digest, **_described(place, comment)}
        answer = _verified_record(wanted, place, record)
        if check:
            return Answer(changed=True, head=answer.head, branch=answer.branch)
        (place / RECORD).write_text(json.dumps(record), encoding="utf-8")
        _settle(place, path)
    return answer._replace(changed=True)


def _unchanged(path: Path) -> None:
    changes = _said("status", "--porcelain", "--untracked-files=no", at=path)
    if changes and (path / ".git").exists():
        remedy = "move it away, or name another path"
        raise SourceError("no changes of its own", changes.splitlines()[0], str(path), remedy)


def _recorded(path: Path) -> dict:
    try:
        return dict(json.loads((path / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _described(place: Path, comment: str) -> dict:
    """Commit and branch of what was unpacked: its repository's, its record's, or git's comment."""
    if (place / ".git").exists():
        head = _git("-c", f"safe.directory={place}", "rev-parse", "HEAD", at=place, fails=False)
        return {"commit": head.stdout.strip(), "branch": "", "git": True}
    told = _recorded(place)
    commit, branch = str(told.get("commit") or comment), str(told.get("branch") or "")
    return {"commit": commit, "branch": branch, "git": False}


def _verified_record(wanted: Wanted, at: Path, record: dict) -> Answer:
    if record.get("git"):
        return _verified(wanted, at, changed=False)
    commit, branch = str(record.get("commit", "")), str(record.get("branch", ""))
    known = [f"branch {branch}"] if branch else []
    found = " at ".join(known + ([f"commit {commit}"] if commit else [])) or "neither"
    remedy = f"archive the repository with its .git, or put commit and branch into {RECORD}"
    wrong_commit = wanted.commit and not commit.startswith(wanted.commit.lower())
    wrong_branch = wanted.branch and branch != wanted.branch and not (wanted.commit and not branch)
    if wrong_commit or wrong_branch:
        raise SourceError(str(wanted), found, wanted.archive, remedy)
    return Answer(changed=False, head=commit, branch=branch or wanted.branch)


def _unpack(archive: Path, place: Path) -> str:
    """Unpack an archive of one folder into a place; return the commit that git noted in it."""
    with tarfile.open(archive) as file:
        members = file.getmembers()
        top = {member.name.split("/")[0] for member in members}
        if len(top) != 1:
            remedy = "pack one folder"
            raise SourceError("one folder", f"{len(top)} entries", str(archive), remedy)
        for member in members:
            _is_inside(member, archive)
        if hasattr(tarfile, "data_filter"):
            file.extractall(place, members=members, filter="data")
        else:
            file.extractall(place, members=members)  # noqa: S202 looked at above
        comment = str(file.pax_headers.get("comment", ""))
    inner = place / top.pop()
    for item in list(inner.iterdir()):
        item.rename(place / f".moving-{item.name}")
    inner.rmdir()
    for item in list(place.iterdir()):
        item.rename(place / item.name[len(".moving-") :])
    return comment


def _is_inside(member: tarfile.TarInfo, archive: Path) -> None:
    names = [member.name]
    if member.issym():
        names.append(os.path.join(os.path.dirname(member.name), member.linkname))  # noqa: PTH118, PTH120 names in an archive
    elif member.islnk():
        names.append(member.linkname)
    fine = member.isfile() or member.isdir() or member.issym() or member.islnk()
    for name in names:
        plain = os.path.normpath(name)
        if not fine or os.path.isabs(name) or plain.split("/")[0] == "..":  # noqa: PTH117 as above
            remedy = "pack it anew"
            raise SourceError("files below one folder", member.name, str(archive), remedy)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


# Beside its place until it is whole.


class _beside:  # noqa: N801 used as a context
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent)
        self.place = Path(name)
        self.place.chmod(0o755)
        return self.place

    def __exit__(self, *_problem: object) -> None:
        shutil.rmtree(self.place, ignore_errors=True)


def _settle(place: Path, path: Path) -> None:
    """Give what is whole its name; what had it before goes away only then."""
    before = place.with_name(place.name + ".before")
    if path.exists():
        path.rename(before)
    place.rename(path)
    shutil.rmtree(before, ignore_errors=True)
