"""What requests and answers look like, as JSON Schemas: the one place for them, apart from the manifest's own schema.

Fields of a manifest come from that schema, so that the document cannot say otherwise than what validates. Objects
list all their members, and all are there unless said to be optional; the tests check every answer against them.
Pure data. Next: `reconciler.api.endpoints`.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from reconciler.api.messages import Code
from reconciler.converge.fields import Reach
from reconciler.importing.outcome import Kind
from reconciler.manifest.schema import schema
from reconciler.model.observed import ExitKind
from reconciler.model.status import ConditionType, Truth, VMState
from reconciler.model.vm import VNC_PORT_MAX, PowerState

Schema = dict[str, Any]  # a JSON Schema is free in its form


def ref(name: str) -> Schema:
    """A component of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def an_object(members: Mapping[str, Schema], optional: Collection[str] = ()) -> Schema:
    """An object with these members."""
    required = [name for name in members if name not in optional]
    return {"type": "object", "required": required, "properties": dict(members)}


def a_list(of: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": of}


def or_null(shape: Schema) -> Schema:
    """This, or null where there is none or it is not known."""
    if isinstance(kind := shape.get("type"), str) and "enum" not in shape and "const" not in shape:
        return shape | {"type": [kind, "null"]}
    return {"anyOf": [shape, {"type": "null"}]}


def said(shape: Schema, description: str) -> Schema:
    """The same, with a word of explanation."""
    return shape | {"description": description}


TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {
    "type": "string",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
    "format": "date-time",
}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": VNC_PORT_MAX}
TRUE: Schema = {"const": True}
NONE: Schema = {"enum": [None, ""]}
NONE_OR_ZERO: Schema = {"enum": [None, "", 0]}


def answer(members: Mapping[str, Schema]) -> Schema:
    """The answer of a read."""
    return an_object({"success": TRUE, **members})


def rehearsed(members: Mapping[str, Schema]) -> Schema:
    """The answer of a write, or of its rehearsal, that has no plan."""
    done = {"success": TRUE, "message": TEXT, **members}
    return an_object({**done, "dryRun": TRUE}, ("dryRun",))


def outcome(members: Mapping[str, Schema]) -> Schema:
    """The answer of a write: what came of it; or, of a rehearsal, what would come of it."""
    done = {"success": TRUE, "message": TEXT, **members}
    rehearsed = {"dryRun": TRUE, "manifest": or_null(TEXT), **_PLAN}
    return {"anyOf": [an_object(done), an_object(done | rehearsed)]}


_MEMORY = said(INTEGER, "MiB")
_DISK = said(INTEGER, "GiB")
_PID = said(INTEGER, "of QEMU's process")
_STATUS: Schema = {"enum": [state.value for state in VMState]}
_PENDING = an_object(
    {"field": TEXT, "running": TEXT, "wanted": TEXT, "why": said(or_null(TEXT), "why it cannot be live")}
)
_EXPLAINED = an_object(
    {
        "field": TEXT,
        "manifest": or_null(TEXT),
        "launched": said(or_null(TEXT), "what QEMU was started with"),
        "now": said(or_null(TEXT), "what QEMU says"),
        "reach": {"enum": [reach.value for reach in Reach]},
        "how": TEXT,
        "pending": said(or_null(TEXT), "what waits for a restart"),
    }
)
_FAULT = an_object({"reason": TEXT, "message": TEXT})
_SOURCE = an_object({"file": TEXT, "line": INTEGER, "column": INTEGER})
_PLAN: dict[str, Schema] = {
    "plan": said(TEXT, "the plan for people"),
    "actions": a_list(an_object({"action": TEXT, "text": TEXT, "cause": TEXT})),
    "pending": said(a_list(ref("Pending")), "fields whose change waits for a restart"),
    "blocked": or_null(ref("Fault")),
    "degraded": or_null(ref("Fault")),
    "waiting": or_null(ref("Fault")),
}
_CONFIG: dict[str, Schema] = {
    "memory": _MEMORY,
    "cpuCores": INTEGER,
    "diskSize": _DISK,
    "networkType": TEXT,
    "vncPort": PORT,
    "bootOrder": TEXT,
    "isoPath": TEXT,
}
_BRIEF: dict[str, Schema] = {"name": TEXT, "status": ref("Status"), "pid": or_null(_PID)}
_VM: dict[str, Schema] = {
    **_BRIEF,
    **{name: or_null(_CONFIG[name]) for name in ("memory", "cpuCores", "diskSize", "vncPort")},
    "startTime": or_null(TIME),
    "desiredState": or_null({"enum": [state.value for state in PowerState]}),
    **{name: or_null(_CONFIG[name]) for name in ("networkType", "bootOrder", "isoPath")},
    "isMountIso": said(BOOLEAN, "whether the ISO lies in the drive, or will"),
    "requiresRestart": said(BOOLEAN, "whether only a restart brings what the manifest says"),
    "labels": {"type": "object", "additionalProperties": TEXT},
    "conditions": a_list(ref("Condition")),
    "config": ref("Config"),
    "metadata": an_object({"lastPid": or_null(_PID), "isMountIso": BOOLEAN}),
}
_VM_IN_FULL: dict[str, Schema] = {
    **_VM,
    "uuid": or_null(TEXT),
    "generation": said(or_null(TEXT), "the version of the manifest"),
    "observedGeneration": said(or_null(TEXT), "the version that the agent has seen through"),
    "settled": said(BOOLEAN, "whether there is nothing left to do"),
    "pending": a_list(ref("Pending")),
    "lastExit": or_null(ref("LastExit")),
    "failures": INTEGER,
    "nextTryInSeconds": or_null(NUMBER),
    "plan": TEXT,
    "source": or_null(ref("Source")),
}
_CONDITION: dict[str, Schema] = {
    "type": {"enum": [kind.value for kind in ConditionType]},
    "status": {"enum": [truth.value for truth in Truth]},
    "reason": TEXT,
    "message": TEXT,
    "lastTransitionTime": TIME,
}
_LAST_EXIT: dict[str, Schema] = {
    "kind": {"enum": [kind.value for kind in ExitKind]},
    "message": TEXT,
    "time": TIME,
    "generation": or_null(TEXT),
    "crashBundle": said(
        or_null(TEXT), "what was left of it, as a directory below vms/<name> of the state directory"
    ),
}
_HOST: dict[str, Schema] = {
    "agentVersion": TEXT,
    "qemuBinary": TEXT,
    "qemuVersion": TEXT,
    "accelerator": said(
        {"enum": ["kvm", "tcg", None]}, "who executes guests; null while it is being found out"
    ),
    "acceleratorReason": said(TEXT, "why that is so"),
    "qemuUser": said(TEXT, "the user that QEMU runs as"),
    "isolated": said(BOOLEAN, "whether that is another user than the agent's"),
    "cpus": INTEGER,
    "memory": _MEMORY,
    "memoryAvailable": _MEMORY,
    "vms": INTEGER,
    "vmsRunning": INTEGER,
}
_LOG: dict[str, Schema] = {
    "name": TEXT,
    "qemu": said(TEXT, "the end of what QEMU wrote in this run"),
    "serial": said(TEXT, "the end of what the guest wrote to its serial console"),
    "qemuBefore": said(TEXT, "the end of what QEMU wrote in the run before"),
    "sizes": said(
        an_object({"qemu": INTEGER, "serial": INTEGER, "qemuBefore": INTEGER}), "of the whole logs, in bytes"
    ),
}
_CONSOLE: dict[str, Schema] = {
    "url": said(TEXT, "opens the console in a browser"),
    "vncPort": or_null(PORT),
    "webPort": PORT,
    "token": or_null(TEXT),
    "pid": said(INTEGER, "of the noVNC service"),
}
_ERROR: dict[str, Schema] = {
    "success": {"const": False},
    "error": said(TEXT, "for people, in the language asked for"),
    "code": {"enum": [code.name for code in Code]},
    "details": said(a_list(an_object({"field": TEXT, "message": TEXT})), "the fields that are wrong"),
    "settled": said(BOOLEAN, "whether this is the end of it; false: the agent goes on"),
    "vm": said(or_null(ref("Brief")), "the state as it is"),
    "generation": said(or_null(TEXT), "the version that the manifest has"),
}
_OPTIONAL_IN_ERRORS = ("details", "settled", "vm", "generation")

_COMPONENTS: dict[str, Schema] = {
    "Error": an_object(_ERROR, _OPTIONAL_IN_ERRORS),
    "Status": said(_STATUS, "running and stopped, and what is true where neither is"),
    "Brief": an_object(_BRIEF),
    "VM": an_object(_VM),
    "VMInFull": an_object(_VM_IN_FULL),
    "Config": an_object({name: or_null(shape) for name, shape in _CONFIG.items()}),
    "Condition": an_object(_CONDITION),
    "Pending": _PENDING,
    "Fault": _FAULT,
    "Source": _SOURCE,
    "LastExit": an_object(_LAST_EXIT),
    "Problem": an_object({"file": TEXT, "line": INTEGER, "column": INTEGER, "field": TEXT, "message": TEXT}),
    "VMList": answer({"vms": a_list(ref("VM")), "problems": a_list(ref("Problem")), "held": a_list(TEXT)}),
    "OneVM": answer({"vm": ref("VMInFull")}),
    "Created": outcome({"vm": or_null(ref("VM")), "ignoredFields": a_list(TEXT)}),
    "Started": outcome({"vm": ref("Brief")}),
    "Renamed": rehearsed({"name": TEXT}),
    "Recreated": outcome({"vm": ref("Brief")}),
    "Restarted": outcome({"vm": an_object({**_BRIEF, "startTime": or_null(TIME)})}),
    "Done": outcome({}),
    "Configured": outcome(
        {"ignoredFields": a_list(TEXT), "requiresRestart": BOOLEAN, "config": ref("Config")}
    ),
    "IsoToggled": outcome({"vm": an_object({"name": TEXT, "isMountIso": BOOLEAN})}),
    "Manifest": answer(
        {"source": ref("Source"), "generation": TEXT, "manifest": said(TEXT, "the file's own text")}
    ),
    "PendingChanges": answer({"requiresRestart": BOOLEAN, "pending": a_list(ref("Pending"))}),
    "Explanation": answer({"name": TEXT, "fields": a_list(ref("Explained"))}),
    "Explained": _EXPLAINED,
    "Plan": answer(_PLAN),
    "Log": answer(_LOG),
    "Host": answer({"host": an_object(_HOST)}),
    "Restored": rehearsed({}),
    "Imported": rehearsed(
        {
            "name": TEXT,
            "manifest": TEXT,
            "vm": or_null(ref("Brief")),
            "notes": said(a_list(ref("ImportNote")), "what does not carry over as it was"),
        }
    ),
    "ImportNote": an_object({"kind": {"enum": [kind.name for kind in Kind]}, "place": TEXT, "message": TEXT}),
    "Pruned": rehearsed({"released": a_list(TEXT)}),
    "Console": answer(_CONSOLE),
    "Probe": answer({"status": {"enum": ["alive", "ready"]}}),
}


@cache
def components() -> Mapping[str, Schema]:
    """Every named schema of the document; those of requests are made of the manifest's."""
    manifest = schema()
    fields: Schema = manifest["properties"]["spec"]["properties"]
    name: Schema = manifest["properties"]["metadata"]["properties"]["name"]
    bodies = {
        "Name": name,
        **{_field(key): shape for key, shape in fields.items()},
        **{_upper(key): shape for key, shape in manifest["definitions"].items()},
        "Create": _create(fields, name),
        "Configure": _configure(fields),
        "Forget": an_object({"metadata": or_null(_METADATA)}, ("metadata",)),
        "Stop": an_object({"force": said(or_null(BOOLEAN), "true is the power cut")}, ("force",)),
        "ToggleMountIso": an_object({"mountStatus": BOOLEAN}),
        "OpenConsole": an_object({"vncPort": _port(1), "webPort": _port(1024)}, ("vncPort", "webPort")),
        "Rename": an_object({"newName": name}),
        "Import": an_object(
            {"qmp": said(TEXT, "the whole path of its QMP socket"), "name": or_null(name)}, ("name",)
        ),
        "Prune": an_object({"names": a_list(name) | {"minItems": 1}}),
        "Nothing": said({"type": "object"}, "nothing is read"),
    }
    return _referring({**_COMPONENTS, **bodies})


_METADATA = an_object(
    {"lastPid": said(or_null(INTEGER), "a client's memory; it is not used for anything")}, ("lastPid",)
)


def _port(lowest: int) -> Schema:
    return {"anyOf": [{"type": "integer", "minimum": lowest, "maximum": VNC_PORT_MAX}, NONE_OR_ZERO]}


def _field(key: str) -> str:
    return f"spec.{key}"


def _upper(key: str) -> str:
    return key[0].upper() + key[1:]


def _or_none(key: str, shape: Schema) -> Schema:
    """A field of a manifest as requests have it: `""` and null are none, and so is 0 of `vncPort`."""
    return {"anyOf": [shape, NONE_OR_ZERO if key == "vncPort" else NONE]}


def _fields(fields: Schema) -> dict[str, Schema]:
    return {key: _or_none(key, ref(_field(key))) for key in fields}


def _create(fields: Schema, name: Schema) -> Schema:
    members = {"name": name, **_fields(fields), "start": said(or_null(BOOLEAN), "true starts it at once")}
    return an_object(members, [key for key in members if key != "name"])


def _configure(fields: Schema) -> Schema:
    members = {"name": said(or_null(TEXT), "as in the path, if at all"), **_fields(fields)}
    return an_object(members, tuple(members))


def _referring(named: Mapping[str, Schema]) -> Mapping[str, Schema]:
    """The manifest's own references, made to lead to the components."""
    found = copy.deepcopy(dict(named))
    stack: list[Any] = list(found.values())
    while stack:
        match stack.pop():
            case {"$ref": str(target)} as shape if target.startswith("#/definitions/"):
                shape["$ref"] = ref(_upper(target.removeprefix("#/definitions/")))["$ref"]
            case dict() as shape:
                stack.extend(shape.values())
            case list() as shapes:
                stack.extend(shapes)
    return found
