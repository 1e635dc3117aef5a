"""Whether a spec says already what a value would."""

from __future__ import annotations

import pytest

from reconciler.manifest.fields import says
from reconciler.model.vm import BootDevice, VMSpec


def test_other_words_for_the_same_are_the_same() -> None:
    spec = VMSpec(boot_order=(BootDevice.CD, BootDevice.HD), restarted_at="2025-06-30T12:00:00.000000Z")
    assert says(spec, "bootOrder", "dc")
    assert says(spec, "restartedAt", "2025-06-30T14:00:00+02:00")
    assert not says(spec, "bootOrder", "cd")


@pytest.mark.parametrize("time", ["6602-09-31T22:36:14-22:17", "0001-01-01T00:00:00+01:00"])
def test_nothing_says_a_time_that_there_is_not(time: str) -> None:
    assert not says(VMSpec(), "restartedAt", time)
