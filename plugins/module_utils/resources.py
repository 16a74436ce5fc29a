# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""One thing that must be on a node: a file, a folder, lines of a file, a login's password.

Content, mode and owner are always read from the node. A new file is written beside the old one,
looked at by its validator, and renamed; nothing is written through a symbolic link.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from collections.abc import Callable

EXECUTION_SECONDS = 120  # of a validator, a reaction's command, or a check's
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MEMORY = ("tmpfs", "ramfs")
PATHLESS = ("password", "packages")  # kinds that are no path
SHOWN = 2000  # characters of a program's output


class RefusedError(Exception):
    """Something is not as it must be; says what, where, and what to do."""

    def __init__(self, expected: str, found: str, where: str, remedy: str) -> None:
        super().__init__(f"expected: {expected}; found: {found}; where: {where}; remedy: {remedy}")


def kind(mode: int) -> str:
    """What a path is, in words."""
    names = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISREG, "a file"),
    )
    return next((name for test, name in names if test(mode)), "a special file")


def open_folder(path: str) -> int:
    """Open a folder from the root on; links on the way must be root's or our own."""
    here = os.open("/", FOLDER)
    for part in filter(None, path.split("/")):
        try:
            below = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=here)
        except OSError as problem:
            found = _status(here, part)
            if found is None or not stat.S_ISLNK(found.st_mode):
                os.close(here)
                raise OSError(problem.errno, problem.strerror, path) from problem
            if found.st_uid not in {0, os.geteuid()}:
                os.close(here)
                raise RefusedError(
                    "folders, or links of root, on the way",
                    f"{part!r}, a symbolic link of the user id {found.st_uid}",
                    path,
                    "put a folder in its place",
                ) from problem
            below = os.open(part, FOLDER, dir_fd=here)
        os.close(here)
        here = below
    return here


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def run(
    argv: list[str], text: str | None = None, seconds: int = EXECUTION_SECONDS
) -> tuple[int, str]:
    """Run a program without a shell; return its exit code and what it said."""
    try:
        done = subprocess.run(
            argv,
            input=None if text is None else text.encode(),
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return 127, str(problem)
    return done.returncode, done.stdout.decode(errors="replace").strip()


class Resource:
    """One thing that must be on the node.

    Attributes:
        given: What the request says of it.
        check: Only say what would change.
        coming: Folders that would be there by now, were this no check.
        before: Called before anything of it changes.
    """

    def __init__(
        self, given: dict, *, check: bool, coming: set[str], before: Callable[[], None]
    ) -> None:
        self.given, self.check, self.coming, self.before = dict(given), check, coming, before
        self.path = os.path.expanduser(given.get("path") or "")  # noqa: PTH111 keeps "//", ".."
        parts = self.path.split("/")
        plain = self.path.startswith("/") and parts[-1] not in {"", "."} and "\0" not in self.path
        if given["type"] not in PATHLESS and (not plain or ".." in parts):
            raise RefusedError(
                "an absolute path without ..", repr(self.path), given["id"], "correct its path"
            )
        self.parent, self.name = os.path.split(self.path)
        self.reasons: list[str] = []
        self.diffs: list[dict] = []
        self.warnings: list[str] = []

    def converge(self) -> None:
        """Bring it to what it must be, or only say what would change."""
        if self.given["type"] == "password":
            return self._password()
        try:
            self.folder = open_folder(self.parent)
        except FileNotFoundError:
            return self._below_nothing()
        try:
            status = _status(self.folder, self.name)
            getattr(self, "_" + self.given["type"])(status)
        finally:
            os.close(self.folder)
        return None

    def _below_nothing(self) -> None:
        """The folder it belongs in is not there."""
        if self.given["type"] in {"absent", "no_lines"} or self.given.get("if_folder"):
            return
        if self.parent not in self.coming:
            raise self._refused(
                "a folder", "nothing", self.parent, "make it by a resource of type directory"
            )
        self.coming.add(self.path)
        lines = "".join(f"{line}\n" for line in self.given.get("lines") or [])
        self._changes("is not there", "", self.given.get("content", lines))

    def _refused(self, expected: str, found: str, where: str, remedy: str) -> RefusedError:
        return RefusedError(expected, found, f"{where} (resource {self.given['id']})", remedy)

    def _changes(self, reason: str, before: object = "", after: object = "") -> None:
        if not self.check and not self.reasons:
            self.before()
        self.reasons.append(reason)
        if not self.given.get("sensitive") and before != after:
            header = {"before_header": self.path, "after_header": self.path}
            self.diffs.append({"before": before, "after": after, **header})

    # Kinds.

    def _absent(self, status: os.stat_result | None) -> None:
        if status is None:
            return
        self._changes("is there", {"state": kind(status.st_mode)}, {"state": "absent"})
        if not self.check and stat.S_ISDIR(status.st_mode):
            os.rmdir(self.name, dir_fd=self.folder)
        elif not self.check:
            os.unlink(self.name, dir_fd=self.folder)

    def _directory(self, status: os.stat_result | None) -> None:
        if status is None:
            self._changes("is not there", {"state": "absent"}, {"state": "directory"})
            if self.check:
                self.coming.add(self.path)
                return
            os.mkdir(self.name, 0o700, dir_fd=self.folder)
            if not self.given.get("mode"):
                self.given["mode"] = "0755"
        elif not stat.S_ISDIR(status.st_mode):
            raise self._refused(
                "a folder", kind(status.st_mode), self.path, "move it out of the way"
            )
        if status is None or not self.given.get("only_new"):
            opened = os.open(self.name, FOLDER | os.O_NOFOLLOW, dir_fd=self.folder)
            try:
                self._attributes(opened, told=status is not None)
            finally:
                os.close(opened)

    def _file(self, status: os.stat_result | None) -> None:
        self._content(status, lambda _: self.given["content"].encode())

    def _lines(self, status: os.stat_result | None) -> None:
        """Lines of ours in a file of somebody else's; all its other lines stay as they are."""
        ours = [line.encode() for line in self.given["lines"]]

        def wanted(old: bytes) -> bytes:
            theirs = old.splitlines(keepends=True)
            if self.given.get("position") == "top":
                if old.splitlines()[: len(ours)] == ours:
                    return old
                others = [line for line in theirs if line.strip() not in ours]
                return b"".join(line + b"\n" for line in ours) + b"".join(others)
            missing = [line for line in ours if line not in old.splitlines()]
            end = b"\n" if missing and old and not old.endswith(b"\n") else b""
            return old + end + b"".join(line + b"\n" for line in missing)

        self._content(status, wanted)

    def _no_lines(self, status: os.stat_result | None) -> None:
        """None of our lines in a file of somebody else's; one that held nothing else goes."""
        ours = [line.encode() for line in self.given["lines"]]

        def wanted(old: bytes) -> bytes:
            theirs = old.splitlines(keepends=True)
            return b"".join(line for line in theirs if line.rstrip(b"\r\n") not in ours)

        if status is not None:
            self._content(status, wanted)
        if self.reasons and not self.check and os.stat(self.path).st_size == 0:  # noqa: PTH116 plain text
            os.unlink(self.name, dir_fd=self.folder)

    def _password(self) -> None:
        """A login's crypted password; handed to chpasswd on its standard input."""
        login, crypted = self.given["owner"], self.given["content"]
        if any(char in f"{login}{crypted}" for char in ":\n") or not crypted.startswith("$"):
            raise self._refused(
                "a crypted password ($6$...)",
                "another text",
                login,
                "make it by: openssl passwd -6",
            )
        with open("/etc/shadow", encoding="utf-8") as file:  # noqa: PTH123 a plain read
            entries = dict(line.split(":", 2)[:2] for line in file if line.count(":") > 1)
        if entries.get(login) == crypted:
            return
        self._changes("another password")
        if not self.check:
            code, said = run(["chpasswd", "-e"], f"{login}:{crypted}\n")
            if code:
                raise self._refused("chpasswd to take it", said[:SHOWN], login, "add the login")

    # Content, owner, mode.

    def _content(self, status: os.stat_result | None, wanted: Callable[[bytes], bytes]) -> None:
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise self._refused("a file", kind(status.st_mode), self.path, "move it out of the way")
        if self.given.get("memory_only"):
            self._in_memory()
        if status is None:
            old = b""
        else:
            opened = os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.folder)
            with os.fdopen(opened, "rb") as file:
                old = file.read()
                new = wanted(old)
                if old == new:
                    if not self.given.get("only_new"):
                        self._attributes(file.fileno(), told=True)
                    return
        new = wanted(old)
        reason = "is not there" if status is None else "other content"
        self._changes(reason, old.decode(errors="replace"), new.decode(errors="replace"))
        if self.check:
            self._validate_apart(new)
        else:
            if self.given.get("backup") and status is not None:
                self._replace(self.name + ".before", old, status, "")
            self._replace(self.name, new, status, self.path)

    def _replace(self, name: str, content: bytes, old: os.stat_result | None, path: str) -> None:
        """Give a file its content by a rename, so that it is whole at any time."""
        partial = f".{name[:200]}.{os.getpid()}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        opened = os.open(partial, flags, 0o600, dir_fd=self.folder)
        try:
            with os.fdopen(opened, "wb") as file:
                file.write(content)
                file.flush()
                if old is not None:  # what is not asked for stays as it was
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                    os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
                elif not self.given.get("mode"):
                    os.fchmod(file.fileno(), 0o644)
                if path and (old is None or not self.given.get("only_new")):
                    self._attributes(file.fileno(), told=False)
                os.fsync(file.fileno())
            if path:
                self._validate(os.path.join(self.parent, partial))  # noqa: PTH118 plain text
            os.rename(partial, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            os.fsync(self.folder)
        except BaseException:
            os.unlink(partial, dir_fd=self.folder)
            raise

    def _attributes(self, opened: int, *, told: bool) -> None:
        """Owner, group and mode of an open file, where they are asked for."""
        status = os.fstat(opened)
        owner, group, mode = (self.given.get(name) for name in ("owner", "group", "mode"))
        try:
            uid = status.st_uid if not owner else pwd.getpwnam(owner).pw_uid
            gid = status.st_gid if not group else grp.getgrnam(group).gr_gid
        except KeyError as problem:
            raise self._refused(
                "a known user and group", str(problem), self.path, "add it"
            ) from None
        bits = stat.S_IMODE(status.st_mode)
        wanted = int(mode, 8) if mode else bits
        if (uid, gid) != (status.st_uid, status.st_gid):
            if told:
                was, will = f"{status.st_uid}:{status.st_gid}", f"{uid}:{gid}"
                self._changes(f"owner {was}", {"owner": was}, {"owner": will})
            if not self.check:
                os.fchown(opened, uid, gid)
        if bits != wanted:
            if told:
                self._changes(
                    f"mode {bits:04o}", {"mode": f"{bits:04o}"}, {"mode": f"{wanted:04o}"}
                )
            if not self.check:
                os.fchmod(opened, wanted)

    def _in_memory(self) -> None:
        """A secret belongs on a file system that is no disk."""
        device = os.fstat(self.folder).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8") as file:  # noqa: PTH123 a plain read
            fields = [line.split() for line in file]
        types = {words[words.index("-") + 1] for words in fields if words[2] == number}
        if not types & set(MEMORY):
            raise self._refused(
                "a file system in memory", ", ".join(types), self.path, "name a folder in /dev/shm"
            )

    def _validate(self, path: str) -> None:
        argv = [word.replace("%s", path) for word in self.given.get("validate") or []]
        code, said = run(argv) if argv else (0, "")
        if code:
            said = "" if self.given.get("sensitive") else ": " + said.replace(path, self.path)
            raise self._refused(
                f"{argv[0]} to take it",
                f"exit code {code}{said[-SHOWN:]}",
                self.path,
                "correct its content; the file is as it was",
            )

    def _validate_apart(self, content: bytes) -> None:
        if self.given.get("validate"):
            import tempfile  # noqa: PLC0415 check mode alone needs it

            with tempfile.NamedTemporaryFile() as file:
                file.write(content)
                file.flush()
                self._validate(file.name)
