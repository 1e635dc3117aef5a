"""schemathesis: requests that the document suggests, good and bad, against a real agent.

Every check that it knows: no 500, every answer as documented, what is well formed is accepted, what is not is refused,
what was deleted is gone. No guest is started, which would take the time of all others; every start fails. The request
that a failure was found with stands in the output, and can be sent again. `make test` tries a few hundred, made up by
chance; `make soak` thousands, the bounds of every field among them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.browser import ConsolePage, chromium
from tests.e2e.site import Site

HERE = Path(__file__).parent
SEED = 20


@pytest.mark.timeout(300)
def test_hundreds_of_requests_are_answered_as_documented(site: Site) -> None:
    assert cases_answered(site, "fuzzing", examples=8) >= 200


@pytest.mark.soak
def test_thousands_of_requests_are_answered_as_documented(site: Site) -> None:
    assert cases_answered(site, "examples,coverage,fuzzing,stateful", examples=28) >= 2000


def cases_answered(site: Site, phases: str, examples: int) -> int:
    """How many cases schemathesis tried, and all went well: so many for each operation, and those of other phases."""
    site.write("web-server", state="stopped")  # the name that the document gives as an example
    agent = site.agent(qemuBinary=str(HERE / "unstartable_qemu.sh"))
    report = site.root / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *(
            "--config-file",
            str(HERE / "schemathesis.toml"),
            "run",
            f"{agent.url}/openapi.json",
            "--url",
            agent.url,
        ),
        *(
            "--phases",
            phases,
            "--max-examples",
            str(examples),
            "--seed",
            str(SEED),
            "--workers",
            "2",
            "--no-shrink",
        ),
        *("--report", "json", "--report-json-path", str(report)),
    ]
    done = subprocess.run(command, cwd=site.root, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in agent.log.read_text()
    found = json.loads(report.read_text())
    return int(found["test_cases"]["generated"])


@pytest.mark.xdist_group("browser")
def test_the_document_can_be_read_and_tried_in_a_browser(site: Site) -> None:
    agent = site.agent()
    with chromium() as browser:
        page = ConsolePage(browser.new_page(), f"{agent.url}/docs?lang=en")
        operation = page.page.locator("#operations-default-get-api-host")
        operation.click()
        operation.locator("button.try-out__btn").click()
        operation.locator("button.execute").click()
        answer = operation.locator(".live-responses-table").inner_text()
        assert "200" in answer
        assert '"qemuVersion"' in answer
        assert page.errors == []
