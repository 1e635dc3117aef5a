"""The document: whole, sound, and of this application."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import falcon
import pytest
from falcon import inspect
from jsonschema import Draft202012Validator

from reconciler.api import docs, pages
from reconciler.api.access import access_of
from reconciler.api.app import Services, create_app
from reconciler.api.endpoints import ENDPOINTS
from reconciler.api.messages import Code, Language
from reconciler.api.openapi import document
from reconciler.manifest.schema import schema
from tests.contract.http_support import SETTINGS, Http, backend_of, serving
from tests.contract.memory_controller import MemoryController

OF_NO_ENDPOINT = {Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED}
"""What a path or a method answers that the document does not have."""


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with serving(MemoryController()) as client:
        yield client


@pytest.fixture(scope="module")
def found(http: Http) -> dict[str, Any]:
    reply = http.ask("GET", "/openapi.json")
    assert reply.status == 200
    return dict(reply.body)


def routes() -> set[tuple[str, str]]:
    """Every method of every route, apart from the files of pages."""
    access = access_of(SETTINGS, lambda: ())
    app = create_app(Services(backend_of(MemoryController()), access, Language.ZH, lambda: 0.0))
    files = {pages.HOME, *docs.DOCS, *pages.CONSOLES}
    return {
        (method.method, route.path)
        for route in inspect.inspect_app(app).routes
        for method in route.methods
        if not method.internal and route.path not in files
    }


def parts(value: Any) -> Iterator[Any]:
    """Everything in a document."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(each)


def test_the_document_has_every_route_and_no_other(found: dict[str, Any]) -> None:
    documented = {(m.upper(), path) for path, methods in found["paths"].items() for m in methods}
    assert documented == routes()


def test_every_reference_leads_somewhere_and_every_component_is_used(found: dict[str, Any]) -> None:
    refs = {part["$ref"] for part in parts(found) if isinstance(part, dict) and "$ref" in part}
    assert refs == {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}


def test_every_schema_is_one(found: dict[str, Any]) -> None:
    for named in found["components"]["schemas"].values():
        Draft202012Validator.check_schema(named)


def test_names_of_operations_and_components_are_as_openapi_wants_them(found: dict[str, Any]) -> None:
    assert found["openapi"] == "3.1.0"
    operations = [
        operation["operationId"] for methods in found["paths"].values() for operation in methods.values()
    ]
    assert len(operations) == len(set(operations)) == len(ENDPOINTS)
    assert all(re.fullmatch(r"[A-Za-z0-9.\-_]+", name) for name in found["components"]["schemas"])


def test_the_fields_of_requests_are_those_of_the_manifest(found: dict[str, Any]) -> None:
    components, fields = found["components"]["schemas"], schema()["properties"]["spec"]["properties"]
    for body, own in (("Create", {"name", "start"}), ("Configure", {"name"})):
        assert set(components[body]["properties"]) == set(fields) | own
    assert components["spec.memory"]["minimum"] == fields["memory"]["minimum"]


def test_every_code_is_documented(found: dict[str, Any]) -> None:
    enums = [
        part["code"]["enum"] for part in parts(found["paths"]) if isinstance(part, dict) and "code" in part
    ]
    assert {name for enum in enums for name in enum} == {
        code.name for code in Code if code not in OF_NO_ENDPOINT
    }


def test_every_code_stands_at_its_own_status(found: dict[str, Any]) -> None:
    for methods in found["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                codes = re.findall(r"`([A-Z_]+)`", answer["description"])
                assert all(Code[name].status == int(status) for name in codes)


def test_the_document_speaks_both_languages(http: Http) -> None:
    texts = {lang: json.dumps(document(lang), ensure_ascii=False) for lang in Language}
    assert "创建虚拟机" in texts[Language.ZH]
    assert not re.search("[\u4e00-\u9fff]", texts[Language.EN])
    assert (
        "Make a VM" in http.ask("GET", "/openapi.json?lang=en").body["paths"]["/api/vms"]["post"]["summary"]
    )


@pytest.mark.parametrize("path", list(docs.DOCS))
def test_the_page_of_the_document_runs_no_script_but_ours(http: Http, path: str) -> None:
    reply = http.ask("GET", path)
    assert reply.status == 200
    assert reply.body
    policy = reply.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_falcon_tells_routes_by_method() -> None:
    """What `routes` depends on: a route that is added is seen."""
    app = falcon.App()
    app.add_route("/x", docs.Document())
    (route,) = inspect.inspect_app(app).routes
    assert [m.method for m in route.methods if not m.internal] == ["GET"]
