"""The head of a qcow2 file, as a hostile guest may have left it."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import ImageError
from reconciler.qemu.qcow2 import DATA_FILE_BIT, HEAD_BYTES, stated_size, virtual_size


def head(
    magic: bytes = b"QFI\xfb", version: int = 3, backing: int = 0, size: int = 1 << 30, features: int = 0
) -> bytes:
    """A head with these fields."""
    start = struct.pack(">4sIQIIQ", magic, version, backing, 9 if backing else 0, 16, size)
    return start.ljust(72, b"\0") + struct.pack(">Q", features)


def test_the_size_of_the_disk_stands_in_the_head() -> None:
    assert virtual_size(head(size=5 << 30), "x") == 5 << 30


def test_a_backing_file_is_refused() -> None:
    with pytest.raises(ImageError, match="backing file"):
        virtual_size(head(backing=0x200), "x")


def test_what_is_only_looked_at_may_lead_to_other_files() -> None:
    assert stated_size(head(backing=0x200, features=DATA_FILE_BIT, size=3 << 30), "x") == 3 << 30
    with pytest.raises(ImageError, match="not a qcow2 image"):
        stated_size(head(magic=b"VMDK"), "x")


def test_a_data_file_is_refused() -> None:
    with pytest.raises(ImageError, match="data file"):
        virtual_size(head(features=DATA_FILE_BIT | 1), "x")


def test_version_two_has_no_features_yet() -> None:
    assert virtual_size(head(version=2, features=DATA_FILE_BIT), "x") == 1 << 30


@pytest.mark.parametrize(
    "data", [b"", b"QFI\xfb", head()[:79], b"\0" * 80, head(magic=b"RAW!"), head(version=4)]
)
def test_what_is_no_qcow2_image_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"disk\.img is not a qcow2 image"):
        virtual_size(data, "disk.img")


@given(st.binary(max_size=HEAD_BYTES))
def test_no_head_does_harm(data: bytes) -> None:
    with suppress(ImageError):
        assert virtual_size(data, "x") >= 0
