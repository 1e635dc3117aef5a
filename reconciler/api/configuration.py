"""What the body of a create or a config asks of a manifest: fields given, fields to be left out, fields ignored. Pure.

Panels of this API send whole VM objects back, so `""` and `null` mean "none", `vncPort: 0` means "allocate", and what
is no field of a manifest is ignored and said to be. The JSON Schema of manifests judges the values; there is no second
definition of a field. Next: `reconciler.api.operations`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.api.errors import ApiError, Detail, invalid
from reconciler.api.media import JsonObject
from reconciler.api.messages import Code, Text
from reconciler.manifest.edit import REMOVE, Change, Changes
from reconciler.manifest.fields import says
from reconciler.manifest.nodes import Value
from reconciler.manifest.schema import Complaint, complaints, schema
from reconciler.model.errors import ManifestError
from reconciler.model.status import VMStatus
from reconciler.model.vm import GIB, DesiredVM, VMSpec, is_vm_name

NETWORKS_TO_COME = ("bridge", "nat")  # documented, and refused by the schema until they do what they say
_SHOWN_MAX = 60


@dataclass(frozen=True)
class Asked:
    """What a body asks for: values for fields of `spec`, fields that shall not be written, members that are ignored."""

    given: Mapping[str, Value]
    none: tuple[str, ...]
    ignored: tuple[str, ...]


def read(body: JsonObject, own: Collection[str]) -> Asked:
    """Sort out a body; `own` are members that mean something to the operation itself.

    Raises ApiError INVALID_REQUEST_PARAMS that names every field that is wrong.
    """
    fields = _spec_fields()
    none = tuple(name for name, value in body.items() if name in fields and _is_none(name, value))
    given = {n: _whole(v) for n, v in body.items() if n in fields and n not in none}
    if body.get("networkType") in NETWORKS_TO_COME:
        raise invalid(
            "networkType",
            "本版本尚不支持 bridge 和 nat，请使用 user",
            "bridge and nat are not built yet in this version; user is",
        )
    if found := complaints(given, ("spec",)):
        raise ApiError(Code.INVALID_REQUEST_PARAMS, details=tuple(_detail(one, given) for one in found))
    ignored = tuple(n for n in body if n not in fields and n not in own)
    return Asked(given, none, ignored)


def name_of(body: JsonObject, field: str = "name") -> str:
    """The name of a VM that shall be made, or have it. Raises ApiError."""
    name = body.get(field)
    if name is None:
        raise invalid(field, "缺少虚拟机名称", "a VM needs a name")
    if isinstance(name, str) and is_vm_name(name):
        return name
    raise invalid(
        field,
        "必须是 1 到 63 个字母、数字、点、横线或下划线，且以字母或数字开头",
        "must be 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first",
    )


def must_be_named(body: JsonObject, name: str) -> None:
    """A name in the body is that of the path, or not there. Raises ApiError."""
    if body.get("name") not in (None, "", name):
        raise invalid(
            "name",
            f"与路径中的名称 {name} 不一致；虚拟机不能改名",
            f"must be {name}, as in the path; a VM cannot be renamed",
        )


def flag(body: JsonObject, name: str) -> bool:
    """A boolean that is false where it is not given. Raises ApiError."""
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid(name, "必须是布尔值", "must be true or false")
    return value


def check_metadata(body: JsonObject) -> None:
    """`metadata.lastPid` is a client's memory: of the right type, and not used for anything. Raises ApiError."""
    metadata = body.get("metadata")
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise invalid("metadata", "必须是对象", "must be an object")
    last_pid = metadata.get("lastPid")
    if last_pid is not None and (isinstance(last_pid, bool) or not isinstance(last_pid, int)):
        raise invalid("metadata.lastPid", "必须是整数或 null", "must be an integer or null")


def changes(asked: Asked, status: VMStatus, spec: VMSpec) -> Changes:
    """The edits that are needed: a field whose value is in force already is not written. Raises ApiError."""
    edits: dict[tuple[str, ...], Change] = {
        ("spec", name): REMOVE
        for name in asked.none
        if name != "state"  # not a word about it is not "running"
    }
    for name, value in asked.given.items():
        is_given_one = name == "vncPort" and spec.vnc_port is None and value == status.vnc_port
        if not (is_given_one or says(spec, name, value)):
            edits["spec", name] = value
    if "isoPath" in asked.none and "mountIso" not in asked.given:
        edits["spec", "mountIso"] = REMOVE  # true or false, it speaks of an ISO
    size = edits.get(("spec", "diskSize"))
    _must_not_shrink(VMSpec().disk_size_gib if size is REMOVE else size, status.disk_size_bytes)
    return edits


def iso_path(edits: Changes) -> str | None:
    """The ISO that these edits put into the manifest, if they do."""
    value = edits.get(("spec", "isoPath"))
    return value if isinstance(value, str) else None


def blamed(error: ManifestError) -> ApiError:
    """The answer where a manifest that was sound would be broken by what was asked for."""
    details = tuple(Detail(p.field.removeprefix("spec."), Text.same(p.message)) for p in error.problems)
    return ApiError(Code.INVALID_REQUEST_PARAMS, details=details)


def full(vm: DesiredVM) -> Mapping[str, object]:
    """What a manifest says, for an answer that shows it: the file, the place, the text."""
    source = {"file": vm.source.file, "line": vm.source.line, "column": vm.source.column}
    return {"source": source, "generation": vm.generation, "manifest": vm.text}


def _spec_fields() -> Mapping[str, Any]:
    # Any: the JSON Schema, as it was read.
    fields: Mapping[str, Any] = schema()["properties"]["spec"]["properties"]
    return fields


def _is_none(name: str, value: object) -> bool:
    return value is None or value == "" or (name == "vncPort" and value == 0 and not isinstance(value, bool))


def _whole(value: Any) -> Value:
    # Any: JSON that was decoded strictly. 2048.0 is the whole number 2048, and is written down as that.
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _whole(each) for name, each in value.items()}
        case list():
            return [_whole(each) for each in value]
    plain: Value = value
    return plain


def _must_not_shrink(wanted: object, disk_size_bytes: int | None) -> None:
    if isinstance(wanted, int) and disk_size_bytes is not None and wanted * GIB < disk_size_bytes:
        present = f"{disk_size_bytes / GIB:g}"
        raise invalid(
            "diskSize",
            f"磁盘已有 {present} GB，不能缩小",
            f"the disk has {present} GiB already, and cannot shrink",
        )


def _detail(complaint: Complaint, given: Mapping[str, Value]) -> Detail:
    field = ".".join(str(step) for step in complaint.path)
    expected = _expected_in_chinese(str(complaint.path[0])) if len(complaint.path) == 1 else None
    if expected is None:
        return Detail(field, Text.same(str(complaint)))
    found = json.dumps(given[field], ensure_ascii=False)
    shown = found if len(found) <= _SHOWN_MAX else found[:_SHOWN_MAX] + "…"
    return Detail(field, Text(f"{expected}，收到 {shown}", str(complaint)))


def _expected_in_chinese(name: str) -> str | None:
    """What the schema allows for a field, for the kinds of fields that there are."""
    match _spec_fields()[name]:
        case {"enum": words}:
            return f"应为 {' 或 '.join(words)}"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"应为 {low} 到 {high} 之间的整数"
        case {"type": "boolean"}:
            return "应为 true 或 false"
        case {"type": "string", "examples": [example, *_]}:
            return f"应为文本，例如 {json.dumps(example)}"
    return None
