"""What the controller keeps of a fleet: its key pair, and the host keys that it may trust."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyswiftops.errors import Finding, FleetError

KEY, NEXT, LAST = "id_ed25519", "id_ed25519.next", "id_ed25519.last"
KNOWN_HOSTS = "known_hosts"
_WORDS = 2  # of a key: its type, and the key


def folder(state: str | Path) -> Path:
    """The fleet's folder, made where it is missing; only its owner may look into it."""
    path = Path(state).expanduser()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def make_key(state: str | Path, fleet: str, name: str = KEY) -> bool:
    """Make a key pair without a passphrase, where there is none; say whether it was made."""
    path = folder(state)
    with _locked(path):
        if (path / name).exists():
            return False
        with tempfile.TemporaryDirectory(dir=path) as apart:
            new = Path(apart) / "key"
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"swiftops-{fleet}"]
            subprocess.run([*words, "-f", str(new)], check=True, stdin=subprocess.DEVNULL)
            new.with_suffix(".pub").rename(path / f"{name}.pub")
            new.rename(path / name)  # last: a key has its public half
        return True


def switch_key(state: str | Path) -> None:
    """Make the next key the fleet's key; the one before is kept until :func:`drop_key`."""
    path = folder(state)
    with _locked(path):
        if not (path / NEXT).exists():
            return
        for end in (".pub", ""):
            (path / f"{KEY}{end}").replace(path / f"{LAST}{end}")
            (path / f"{NEXT}{end}").replace(path / f"{KEY}{end}")


def drop_key(state: str | Path) -> None:
    """Forget the key before."""
    path = folder(state)
    with _locked(path):
        for end in ("", ".pub"):
            (path / f"{LAST}{end}").unlink(missing_ok=True)


def public_keys(state: str | Path) -> list[str]:
    """All keys that nodes are to take: the fleet's, while it changes the next and the last too."""
    path = folder(state)
    files = [path / f"{name}.pub" for name in (KEY, NEXT, LAST)]
    return [file.read_text(encoding="utf-8").strip() for file in files if file.exists()]


def public_half(key: str) -> str:
    """The public half of a private key of the user's."""
    path = Path(key).expanduser()
    beside = path.with_name(path.name + ".pub")
    if beside.exists():
        return beside.read_text(encoding="utf-8").strip()
    done = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(path)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise FleetError(
            Finding(
                "a private key, or its public half beside it",
                done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "none",
                str(path),
                f"ssh-keygen -y -f {path} > {beside}",
            )
        )
    return done.stdout.strip()


def pin(state: str | Path, keys: Mapping[str, str]) -> list[str]:
    """Add host keys to the pinned ones; return the aliases that are new.

    Nodes that ``keys`` does not name keep their lines.

    Args:
        state: The fleet's folder.
        keys: alias -> "ssh-ed25519 AAAA...", over a channel that is trusted.

    Raises:
        FleetError: an alias has another key already; nothing was changed.
    """
    path = folder(state)
    with _locked(path):
        pinned = read(path)
        plain = {alias: _key(alias, key) for alias, key in keys.items()}
        findings = [
            Finding(
                f"the host key that is pinned, {pinned[alias]}",
                key,
                f"{alias} in {path / KNOWN_HOSTS}",
                f"if its container was made anew: swiftops keys forget {node_of(alias, path)}; "
                "if not, somebody may stand between",
            )
            for alias, key in plain.items()
            if pinned.get(alias, key) != key
        ]
        if findings:
            raise FleetError(findings)
        new = [alias for alias in plain if alias not in pinned]
        if new or not (path / KNOWN_HOSTS).exists():
            _write(path, {**pinned, **plain})
        return new


def forget(state: str | Path, aliases: Iterable[str]) -> list[str]:
    """Remove pinned keys; return the aliases that had one."""
    path = folder(state)
    with _locked(path):
        pinned = read(path)
        gone = [alias for alias in aliases if alias in pinned]
        if gone:
            _write(path, {alias: key for alias, key in pinned.items() if alias not in gone})
        return gone


def read(state: str | Path) -> dict[str, str]:
    """Alias -> pinned key."""
    try:
        text = (Path(state) / KNOWN_HOSTS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    words = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return {alias: f"{kind} {key}" for alias, kind, key, *_ in words}


def node_of(alias: str, state: Path) -> str:
    """The node's name in an alias; the fleet's name is the folder's unless it was moved."""
    start = f"swiftops-{state.name}-"
    return alias.removeprefix(start) if alias.startswith(start) else alias


def write_text(path: Path, text: str) -> bool:
    """Give a file of mode 0600 its text by a rename; say whether that changed it."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
    return True


def _key(alias: str, key: str) -> str:
    words = str(key).split()
    if len(words) < _WORDS or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise FleetError(
            Finding("a public host key, ssh-ed25519 AAAA...", repr(key), alias, "start its sshd")
        )
    if len(alias.split()) != 1:
        raise FleetError(Finding("an alias without blanks", repr(alias), "pin", "rename the node"))
    return " ".join(words[:_WORDS])


def _write(path: Path, pinned: Mapping[str, str]) -> None:
    text = "".join(f"{alias} {pinned[alias]}\n" for alias in sorted(pinned))
    write_text(path / KNOWN_HOSTS, text)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
