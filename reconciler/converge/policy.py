"""When a VM that ended by itself is started again: the latch and the back-off, as pure functions.

KubeVirt's run strategies on plain QEMU. Used by `reconciler.converge.planner` and `.summarise`.
"""

from __future__ import annotations

from reconciler.model.observed import ExitKind, ObservedVM
from reconciler.model.vm import RestartPolicy, VMSpec

LOOK_AGAIN_BLOCKED_S = 30.0  # what blocks is often a file that somebody is still copying
BACKOFF_FIRST_S = 10.0
BACKOFF_MAX_S = 300.0
HEALTHY_AFTER_S = 600.0  # a run this long makes the failures before it forgotten

FAILURES = frozenset({ExitKind.CRASHED, ExitKind.GUEST_PANICKED, ExitKind.START_FAILED})
UNWANTED = FAILURES | {ExitKind.HOST_QUIT}  # nobody who may decide about the VM asked for these ends


def backoff_s(failures: int) -> float:
    """Seconds between an end and the next start: none after the first failure, then 10 s doubling to 300 s."""
    if failures <= 1:
        return 0.0
    return min(BACKOFF_FIRST_S * 2.0 ** min(failures - 2, 10), BACKOFF_MAX_S)


def latched(spec: VMSpec, kind: ExitKind) -> bool:
    """Whether an end of this kind keeps the VM off until an edit, an explicit start or a boot of the host."""
    match spec.restart_policy:
        case RestartPolicy.ALWAYS:
            return False
        case RestartPolicy.ON_FAILURE:
            return kind not in UNWANTED
        case RestartPolicy.NEVER:
            return True


def stays_off(spec: VMSpec, seen: ObservedVM) -> bool:
    """Whether the last end of this VM forbids a start, now and later."""
    last = seen.lifecycle.last_exit
    return seen.lifecycle.unanswered and last is not None and latched(spec, last.kind)


def wait_s(seen: ObservedVM) -> float:
    """Seconds until the back-off allows the next start; 0 where it is allowed now."""
    last = seen.lifecycle.last_exit
    if not seen.lifecycle.unanswered or last is None:
        return 0.0
    return max(0.0, last.at_s + backoff_s(seen.lifecycle.failures) - seen.now_s)


def failures_after(spec: VMSpec, kind: ExitKind, failures_before: int, ran_s: float) -> int:
    """The unasked ends in a row after this one, as far as they are followed by another start.

    So a guest that powers itself off did not fail; unless it is to be on always, and is off again at once.
    """
    if latched(spec, kind):
        return 0
    return (0 if ran_s >= HEALTHY_AFTER_S else failures_before) + 1
