"""The round for one VM. This is the whole of the agent in one function: observe, plan, execute, summarise.

A round is asked for by name and looks at the whole state; what asked for it (a file, an event, a timer, the API) is
unknown here. Each round does what is due and says when to look again; none waits for a guest. What was seen is said
before anything is done about it, so that nobody who waits for the sight waits for the deed as well; what came of the
deed, the next round sees.
Next: `reconciler.converge.planner` for the decisions, `observer` and `executor` for the effects.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.converge.executor import Executor
from reconciler.converge.explain import explain
from reconciler.converge.observer import Observer
from reconciler.converge.planner import make_plan
from reconciler.converge.summarise import Context, summarise
from reconciler.model.inspection import FieldView
from reconciler.model.observed import Gone
from reconciler.model.plan import Continue, Outcome, Plan, Remember, Verdict, Wish
from reconciler.model.status import VMStatus
from reconciler.model.vm import DesiredVM, Wanted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciler:
    """The round, and what it needs: eyes, hands, and somebody to tell."""

    observer: Observer
    executor: Executor
    publish: Callable[[VMStatus], None]
    resync_s: float

    def round(self, name: str, wanted: Wanted, wish: Wish | None, context: Context) -> Verdict:
        """Bring one VM a step nearer to what is wanted of it. Whatever an action meets is said, not raised."""
        seen = self.observer.observe(name, wanted)
        plan = make_plan(wanted, seen, wish)
        self.publish(summarise(wanted, seen, plan, Outcome(), context))
        outcome = self.executor.execute(plan)
        if outcome.fault:
            self.publish(summarise(wanted, seen, plan, outcome, context))
        _tell(plan, outcome)
        if wanted is None and isinstance(seen.process, Gone) and not plan.actions:
            return Verdict(None, failed=False)  # nothing is left that could need a look
        return self._verdict(plan, outcome, context.retry_s)

    def preview(self, name: str, wanted: Wanted, wish: Wish | None = None) -> Plan:
        """What a round would do now, were this wanted; nothing is done."""
        return make_plan(wanted, self.observer.observe(name, wanted), wish)

    def explain(self, name: str, wanted: Wanted) -> tuple[FieldView, ...]:
        """Every field of the VM: as its manifest has it, as it was launched, as QEMU says now."""
        return explain(wanted if isinstance(wanted, DesiredVM) else None, self.observer.observe(name, wanted))

    def _verdict(self, plan: Plan, outcome: Outcome, retry_s: float) -> Verdict:
        if isinstance(outcome.failed, Continue):
            return Verdict(0.0, failed=False)
        if outcome.fault:
            return Verdict(min(plan.look_again_s or retry_s, retry_s), failed=True)
        if plan.actions:
            return Verdict(0.0, failed=False)
        resync_s = self.resync_s * random.uniform(0.9, 1.1)  # noqa: S311 - so that not all fall on one second
        due_s = [s for s in (plan.look_again_s, plan.later_s, resync_s) if s is not None]
        return Verdict(min(due_s), failed=False)


def _tell(plan: Plan, outcome: Outcome) -> None:
    for action in outcome.done:
        level = logging.DEBUG if isinstance(action, Remember) else logging.INFO
        log.log(level, "%s: %s", plan.name, action.render())
    if outcome.failed and outcome.fault:
        log.warning("%s: %s failed: %s", plan.name, outcome.failed.render(), outcome.fault.message)
