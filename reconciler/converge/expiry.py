"""`spec.ttl`: how long a VM may still live, counted by the wall clock from its first start, reboots included. Pure.

Used by `reconciler.converge.planner` and `.absent`; the first start is written down by `launch`. A VM that an earlier
agent started counts from the launch that was known first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.model.observed import Fault, ObservedVM
from reconciler.model.vm import VMSpec


def left_s(spec: VMSpec, seen: ObservedVM) -> float | None:
    """Seconds until the VM's time is over, not more than 0 from then on; None where it has no end, or no beginning."""
    started = _started(seen)
    if spec.ttl_s is None or started is None:
        return None
    return started.timestamp() + spec.ttl_s - datetime.fromisoformat(seen.utc).timestamp()


def is_over(spec: VMSpec, seen: ObservedVM) -> bool:
    """Whether the VM's time is over."""
    left = left_s(spec, seen)
    return left is not None and left <= 0


def expired(spec: VMSpec, seen: ObservedVM) -> Fault | None:
    """That the VM's time is over, in words, and what would give it more."""
    started = _started(seen)
    if spec.ttl_s is None or started is None or not is_over(spec, seen):
        return None
    ttl = timedelta(seconds=spec.ttl_s)
    since = started.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Fault(
        "Expired",
        f"spec.ttl ({ttl}) has been over since its first start at {since}: it is off, and its disks are kept; "
        "make spec.ttl longer, or take it out, and it runs again",
    )


def to_remember(seen: ObservedVM) -> str | None:
    """The first start, where the record of the launch, which is about to go, is all that knows it."""
    dated = seen.identity is not None and seen.identity.started_at is not None
    return seen.lifecycle.started_at if dated else _first_start(seen)


def _first_start(seen: ObservedVM) -> str | None:
    """What is remembered is older than what a later launch wrote into the identity."""
    identity, launch = seen.identity, seen.lifecycle.launch
    written = identity.started_at if identity else None
    return seen.lifecycle.started_at or written or (launch.requested_at if launch else None)


def _started(seen: ObservedVM) -> datetime | None:
    moment = _first_start(seen)
    return datetime.fromisoformat(moment) if moment else None
