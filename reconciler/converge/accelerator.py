"""The accelerator of this host, proved once in the background: a broken KVM takes two seconds to show itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from reconciler.model.errors import AccelError
from reconciler.model.observed import Fault
from reconciler.model.vm import Accel
from reconciler.qemu.accel import AccelProof, resolve

log = logging.getLogger(__name__)

PROOF_TIMEOUT_S = 30.0


class Accelerator:
    """Says who executes a guest. Whoever asks waits for the proof, which `start` begins."""

    def __init__(self, prove: Callable[[], AccelProof]) -> None:
        self._prove = prove
        self._proof: Future[AccelProof] = Future()

    def start(self) -> None:
        """Begin the proof, in a thread of its own."""
        threading.Thread(target=self._run, name="accelerator", daemon=True).start()

    def choose(self, wanted: Accel) -> Accel:
        """KVM or TCG. Raises AccelError where the manifest insists on what does not work."""
        if wanted is Accel.TCG:
            return Accel.TCG
        chosen = resolve(wanted, self._proof.result(PROOF_TIMEOUT_S))
        if isinstance(chosen, Fault):
            raise AccelError(chosen.message)
        return chosen

    def proof(self) -> AccelProof | None:
        """What was found out, or None where that is still going on."""
        return self._proof.result() if self._proof.done() else None

    def _run(self) -> None:
        try:
            proof = self._prove()
        except Exception as error:
            log.exception("the proof of the accelerator broke off")
            proof = AccelProof(False, f"its proof broke off: {error}", "", "", "")
        self._proof.set_result(proof)
        if proof.kvm_usable:
            log.info("guests run under KVM")
        else:
            log.warning("KVM does not work here (%s): guests run under TCG, which is slow", proof.why)
