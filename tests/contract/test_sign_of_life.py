"""The API's sign of life for the watchdog: it is that of the work, not of a process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from reconciler.api.server import THREADS, build
from reconciler.model.status import VMState
from tests.contract.http_support import SETTINGS, Http, backend_of
from tests.contract.memory_controller import MemoryController
from tests.contract.memory_inspector import MemoryInspector


class Hanging(MemoryInspector):
    """A QEMU that gives no screen until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()

    def screenshot(self, name: str) -> bytes:
        self.entered.release()
        self.let_go.wait(60)
        return super().screenshot(name)


def test_an_api_whose_threads_all_hang_gives_no_sign_of_life_until_one_is_free() -> None:
    controller, inspector = MemoryController(), Hanging()
    controller.has("web", VMState.RUNNING)
    server = build(backend_of(controller, inspector), SETTINGS)
    server.start()
    http = Http(server.address)
    try:
        with ThreadPoolExecutor(THREADS) as clients:
            assert server.answers(10)
            asked = [clients.submit(http.ask, "GET", "/api/vms/web/screenshot") for _ in range(THREADS)]
            for _ in asked:
                assert inspector.entered.acquire(timeout=30)
            assert not server.answers(0.3)
            inspector.let_go.set()
            assert server.answers(30)
            assert {each.result().status for each in asked} == {200}
    finally:
        inspector.let_go.set()
        server.close()
