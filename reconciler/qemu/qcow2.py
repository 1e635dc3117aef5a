"""The head of a qcow2 file, read without trusting it: the disk's size, and whether it leads to other files.

A guest of the raw-format days, or a broken QEMU, may have written any header. A backing file or an external
data file in it would give the guest a file of the host (seen: /etc/hostname). 80 bytes answer that; no
program runs. The format: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import struct

from reconciler.model.errors import ImageError

MAGIC = b"QFI\xfb"
HEAD_BYTES = 80
DATA_FILE_BIT = 1 << 2  # of incompatible_features: the guest's data lie in another file
_HEADER = struct.Struct(
    ">4sIQIIQ"
)  # magic, version, backing file's offset and length, cluster bits, virtual size
_FEATURES = struct.Struct(">Q")
_FEATURES_OFFSET = 72  # from version 3 on


def virtual_size(head: bytes, name: str) -> int:
    """Virtual size in bytes, from the first HEAD_BYTES of the file that `name` names in messages.

    Raises ImageError for what is no qcow2 image, and for one with a backing file or an external data file.
    """
    backing_offset, size_bytes, features = _fields(head, name)
    if backing_offset != 0:
        raise ImageError(f"{name} has a backing file that the agent never gave it, and is not used")
    if features & DATA_FILE_BIT:
        raise ImageError(f"{name} has an external data file that the agent never gave it, and is not used")
    return size_bytes


def stated_size(head: bytes, name: str) -> int:
    """The same of an image that is only looked at, not used: it may lead to other files.

    Raises ImageError for what is no qcow2 image.
    """
    return _fields(head, name)[1]


def _fields(head: bytes, name: str) -> tuple[int, int, int]:
    """Backing file's offset, virtual size in bytes, incompatible features."""
    try:
        magic, version, backing_offset, _, _, size_bytes = _HEADER.unpack_from(head)
        features = 0 if version == 2 else _FEATURES.unpack_from(head, _FEATURES_OFFSET)[0]
    except struct.error as error:
        raise ImageError(f"{name} is not a qcow2 image: it is too short") from error
    if magic != MAGIC or version not in {2, 3}:
        raise ImageError(f"{name} is not a qcow2 image")
    return backing_offset, size_bytes, features
