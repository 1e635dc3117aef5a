"""The API's own description: OpenAPI 3.1, made of the table of endpoints and of the schemas that validate.

Next: `reconciler.api.docs`, which serves it, and shows it in a browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import groupby

from reconciler import __version__
from reconciler.api.endpoints import ENDPOINTS, EVERYWHERE, JSON, PNG, Endpoint, Parameter
from reconciler.api.messages import Code, Language, Text
from reconciler.api.shapes import Schema, components, ref

TITLE = Text("reconciler 虚拟机 API", "reconciler: the API of virtual machines")
DESCRIPTION = Text(
    "QEMU 虚拟机的生命周期管理。每一次持久的更改都是对清单的更改。",
    "Looks after QEMU virtual machines. Every lasting change is a change of a manifest.",
)
TOKEN = Text("仅当代理设有令牌时需要", "only where the agent has a token")
ETAG = Text("清单的版本，供 If-Match 使用", "the version of the manifest, for If-Match")

# Any request may be refused before it reaches its handler.
AT_THE_DOOR = (
    Code.INVALID_REQUEST_PARAMS,
    Code.UNAUTHORIZED,
    Code.FORBIDDEN,
    Code.TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.INTERNAL_SERVER_ERROR,
)
_PATH_PARAMETER = re.compile(r"{(\w+)}")
_WITH_ETAG = {"Created", "OneVM", "Started", "Done", "Restarted", "Configured", "IsoToggled", "Manifest"}


@cache
def document(language: Language) -> Mapping[str, object]:
    """The whole document; its words in one language."""
    paths: dict[str, dict[str, Schema]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, language)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE.say(language),
            "version": __version__,
            "description": DESCRIPTION.say(language),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**components(), **_OTHER},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": TOKEN.say(language)}
            },
        },
    }


_OTHER: Mapping[str, Schema] = {
    "Document": {"type": "object", "required": ["openapi", "info", "paths"]},
    "ManifestText": {"type": "string"},
    "Picture": {"contentMediaType": PNG},
}


def _operation(endpoint: Endpoint, language: Language) -> Schema:
    operation: Schema = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.what.say(language),
        "parameters": [
            *_in_path(endpoint.path),
            *(_parameter(p, language) for p in (*EVERYWHERE, *endpoint.parameters)),
        ],
        "responses": {**_answers(endpoint, language), **_refusals(endpoint, language)},
        "security": [] if endpoint.is_open else [{}, {"token": []}],
    }
    if endpoint.body:
        operation["requestBody"] = {
            "required": endpoint.body_required,
            "content": {JSON: {"schema": ref(endpoint.body)}},
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = _PATH_PARAMETER.sub("", endpoint.path).replace(".", "-").split("/")
    of_one = "One" if endpoint.path.endswith("}") else ""
    return "-".join((endpoint.method.lower(), *filter(None, words))) + of_one


def _in_path(path: str) -> Iterable[Schema]:
    for name in _PATH_PARAMETER.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": ref("Name")}


def _parameter(parameter: Parameter, language: Language) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.what.say(language),
        "schema": parameter.schema,
    }


def _answers(endpoint: Endpoint, language: Language) -> Mapping[str, Schema]:
    return {
        str(status): {
            "description": endpoint.what.say(language),
            "headers": _headers(kinds.values(), language),
            "content": {kind: {"schema": ref(name)} for kind, name in kinds.items()},
        }
        for status, kinds in endpoint.answers.items()
    }


def _headers(names: Iterable[str], language: Language) -> Mapping[str, Schema]:
    request_id: Schema = {"X-Request-Id": {"required": True, "schema": {"type": "string"}}}
    if _WITH_ETAG.isdisjoint(names):
        return request_id
    return request_id | {"ETag": {"description": ETAG.say(language), "schema": {"type": "string"}}}


def _refusals(endpoint: Endpoint, language: Language) -> Mapping[str, Schema]:
    """One answer for each status, which names its codes; they all have one shape."""
    codes = sorted({*AT_THE_DOOR, *endpoint.codes}, key=lambda code: (code.status, code.name))
    return {
        str(status): _refusal(tuple(group), language)
        for status, group in groupby(codes, lambda code: code.status)
    }


def _refusal(codes: tuple[Code, ...], language: Language) -> Schema:
    said = "\n\n".join(f"`{code.name}`: {code.text.say(language)}" for code in codes)
    of_these = {"type": "object", "properties": {"code": {"enum": [code.name for code in codes]}}}
    return {"description": said, "content": {JSON: {"schema": {"allOf": [ref("Error"), of_these]}}}}
