# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Copy the bytes of one open file into another, hashing them on their way.

Hashing needs the bytes in this process, and writing them from there costs no more than a
copy inside the kernel; so ``copy_file_range`` serves only where no hash is asked for, and a
shared extent (reflink) wherever the filesystem has them. Standard library only, Python 3.9.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os

from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest

_FICLONE = 0x40049409
_KERNEL_CHUNK = 64 * 1024 * 1024
_NO_KERNEL_COPY = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False  # this filesystem does not share extents
    return True


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _copy_hashing(source: int, target: int, offset: int, size: int) -> str:
    """Copy from ``offset`` on; the digest covers the target's first ``offset`` bytes too."""
    digest = hashlib.blake2b(digest_size=manifest.DIGEST_SIZE)
    os.lseek(target, 0, os.SEEK_SET)
    manifest.feed(digest, target, offset)
    os.lseek(source, offset, os.SEEK_SET)
    buffer = memoryview(bytearray(manifest.CHUNK))
    while offset < size:
        count = os.readv(source, [buffer[: min(len(buffer), size - offset)]])
        if not count:
            break
        digest.update(buffer[:count])
        _write(target, buffer[:count])
        offset += count
    return digest.hexdigest()


def _copy_in_kernel(source: int, target: int, offset: int, size: int) -> None:
    by_range = True
    while offset < size:
        want = min(_KERNEL_CHUNK, size - offset)
        try:
            if by_range:
                count = os.copy_file_range(source, target, want, offset, offset)
            else:
                os.lseek(target, offset, os.SEEK_SET)
                count = os.sendfile(target, source, offset, want)
        except OSError as error:
            if not by_range or error.errno not in _NO_KERNEL_COPY:
                raise
            by_range = False
            continue
        if not count:
            break
        offset += count


def fill(source: int, target: int, size: int, expected: str | None) -> str | None:
    """Bring ``target`` to ``size`` bytes, continuing what it already holds.

    Args:
        source: Descriptor to read from.
        target: Descriptor to fill, open for reading and writing.
        size: Bytes the source has.
        expected: Hexadecimal digest to reach; None copies without hashing, and then starts
            over, since nothing proves that a half copy belongs to this source.

    Returns:
        The digest of all that ``target`` holds, or None where no digest was expected.
    """
    have = os.fstat(target).st_size
    if have > size or (have and not expected):
        os.ftruncate(target, 0)
        have = 0
    if not have and size and _clone(source, target):
        os.lseek(target, 0, os.SEEK_SET)
        return manifest.hash_fd(target)[0] if expected else None
    if not expected:
        _copy_in_kernel(source, target, have, size)
        return None
    digest = _copy_hashing(source, target, have, size)
    if have and digest != expected:  # the half copy was of something else
        os.ftruncate(target, 0)
        digest = _copy_hashing(source, target, 0, size)
    return digest
