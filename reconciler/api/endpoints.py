"""Every endpoint of the API, as data: what it takes, what it answers, and the codes that it refuses with.

The tests hold the routes of the application to this table, and every answer to its schemas. A new endpoint is a new
entry. Next: `reconciler.api.openapi`, which makes the document of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.api.inspection import LOG_BYTES, LOG_BYTES_MAX, LOG_LINES_MAX
from reconciler.api.messages import Code, Text
from reconciler.api.shapes import Schema

JSON, PNG, YAML = "application/json", "image/png", "application/yaml"


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query, or a header. `schema` is None for any text."""

    name: str
    what: Text
    place: str = "query"
    schema: Schema = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Endpoint:
    """One method of one path. `answers` are the good ones: status, and the schema's name by media type."""

    method: str
    path: str
    what: Text
    answers: Mapping[int, Mapping[str, str]]
    codes: tuple[Code, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: str | None = None
    body_required: bool = False
    is_open: bool = False
    """Answered without a token."""

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"


BOOLEAN: Schema = {"type": "boolean"}
EVERYWHERE = (
    Parameter("lang", Text("消息的语言：zh 或 en", "the language of messages, zh or en")),
    Parameter("X-Language", Text("同 lang", "the same as lang"), "header"),
    Parameter(
        "X-Request-Id",
        Text(
            "请求的标识；缺省时由代理生成，并在响应中返回",
            "names the request; made where there is none, and returned",
        ),
        "header",
    ),
)
DRY_RUN = Parameter(
    "dryRun",
    Text("true：只说明会发生什么，不做任何更改", "true: say what would be done, and do nothing"),
    schema=BOOLEAN,
)
IF_MATCH = Parameter(
    "If-Match",
    Text(
        "仅当清单仍是此 ETag 的版本时才写入", "write only if the manifest is still the version of this ETag"
    ),
    "header",
)
PURGE = Parameter("purge", Text("true：同时删除磁盘", "true: delete the disks as well"), schema=BOOLEAN)
WRITE = (DRY_RUN, IF_MATCH)
TAIL = Parameter(
    "tail",
    Text("最多返回的行数", "so many lines at most"),
    schema={"type": "integer", "minimum": 1, "maximum": LOG_LINES_MAX, "default": LOG_LINES_MAX},
)
BYTES = Parameter(
    "bytes",
    Text("每个日志最多返回的字节数", "so many bytes at most, of each log"),
    schema={"type": "integer", "minimum": 1, "maximum": LOG_BYTES_MAX, "default": LOG_BYTES},
)

FINDING = (Code.VM_NOT_FOUND, Code.MANIFEST_INVALID)
EDITING = (*FINDING, Code.PRECONDITION_FAILED)


def ok(schema: str) -> Mapping[int, Mapping[str, str]]:
    """200 with JSON."""
    return {200: {JSON: schema}}


ENDPOINTS = (
    Endpoint("GET", "/api/vms", Text("获取所有虚拟机", "All VMs"), ok("VMList")),
    Endpoint(
        "POST",
        "/api/vms",
        Text("创建虚拟机", "Make a VM"),
        {201: {JSON: "Created"}, **ok("Created")},
        (Code.VM_START_FAILED, Code.VM_CONFIG_FAILED, Code.PRECONDITION_FAILED),
        WRITE,
        "Create",
        body_required=True,
    ),
    Endpoint("GET", "/api/vms/{name}", Text("获取单个虚拟机", "One VM, in full"), ok("OneVM"), FINDING),
    Endpoint(
        "DELETE",
        "/api/vms/{name}",
        Text("删除虚拟机", "Delete a VM; its disks are set aside"),
        ok("Done"),
        (*EDITING, Code.VM_STOP_FAILED, Code.VM_PROTECTED),
        (*WRITE, PURGE),
        "Forget",
    ),
    Endpoint(
        "POST",
        "/api/vms/{name}/start",
        Text("启动虚拟机", "Start a VM"),
        ok("Started"),
        (*EDITING, Code.VM_ALREADY_RUNNING, Code.VM_START_FAILED),
        WRITE,
        "Nothing",
    ),
    Endpoint(
        "POST",
        "/api/vms/{name}/stop",
        Text("停止虚拟机", "Stop a VM"),
        ok("Done"),
        (*EDITING, Code.VM_ALREADY_STOPPED, Code.VM_NOT_RUNNING, Code.VM_STOP_FAILED),
        WRITE,
        "Stop",
    ),
    Endpoint(
        "POST",
        "/api/vms/{name}/restart",
        Text("重启虚拟机", "Restart a VM"),
        ok("Restarted"),
        (*EDITING, Code.VM_NOT_RUNNING, Code.VM_START_FAILED),
        WRITE,
        "Forget",
    ),
    Endpoint(
        "POST",
        "/api/vms/{name}/recreate",
        Text("重建虚拟机：换上空白系统盘，旧盘保留", "Give a VM a blank root disk; the old one is set aside"),
        ok("Recreated"),
        (*EDITING, Code.VM_RECREATE_FAILED, Code.VM_PROTECTED),
        WRITE,
        "Nothing",
    ),
    Endpoint(
        "POST",
        "/api/vms/{name}/rename",
        Text("重命名已停止的虚拟机", "Give a VM that is off another name"),
        ok("Renamed"),
        (*EDITING, Code.VM_RENAME_FAILED),
        WRITE,
        "Rename",
        body_required=True,
    ),
    *(
        Endpoint(
            "PUT",
            path,
            Text("更新虚拟机配置", "Change a VM's configuration"),
            ok("Configured"),
            (*EDITING, Code.VM_CONFIG_FAILED),
            WRITE,
            "Configure",
        )
        for path in ("/vms/{name}/config", "/api/vms/{name}/config")
    ),
    Endpoint(
        "POST",
        "/api/vms/{name}/toggleMountIso",
        Text("切换 ISO 挂载状态", "Put the ISO into the drive, or take it out"),
        ok("IsoToggled"),
        (*EDITING, Code.ISO_TOGGLE_FAILED),
        WRITE,
        "ToggleMountIso",
        body_required=True,
    ),
    Endpoint(
        "GET",
        "/api/vms/{name}/manifest",
        Text("虚拟机的清单", "The VM's manifest"),
        {200: {JSON: "Manifest", YAML: "ManifestText"}},
        FINDING,
    ),
    Endpoint(
        "GET",
        "/api/vms/{name}/pending",
        Text("等待重启的更改", "What waits for a restart"),
        ok("PendingChanges"),
        FINDING,
    ),
    Endpoint(
        "GET",
        "/api/vms/{name}/explain",
        Text("每个字段：清单、启动时、QEMU 当前", "Every field: manifest, launch, and what QEMU says now"),
        ok("Explanation"),
        FINDING,
    ),
    Endpoint(
        "GET", "/api/vms/{name}/plan", Text("现在会做什么", "What would be done now"), ok("Plan"), FINDING
    ),
    Endpoint(
        "GET",
        "/api/vms/{name}/log",
        Text("QEMU 与串口日志的末尾", "The ends of QEMU's and the serial console's logs"),
        ok("Log"),
        FINDING,
        (BYTES, TAIL),
    ),
    Endpoint(
        "GET",
        "/api/vms/{name}/screenshot",
        Text("运行中虚拟机的屏幕", "What a running VM shows"),
        {200: {PNG: "Picture"}},
        (*FINDING, Code.VM_NOT_RUNNING, Code.VM_SCREENSHOT_FAILED),
    ),
    Endpoint(
        "POST",
        "/api/vms/{name}/restore",
        Text("恢复已删除的虚拟机", "Bring back a VM that was deleted"),
        ok("Restored"),
        (*FINDING, Code.VM_RESTORE_FAILED),
        (DRY_RUN,),
        "Nothing",
    ),
    Endpoint(
        "POST",
        "/api/import",
        Text("导入手动启动的 QEMU，不重启", "Take over a QEMU that was started by hand, without a restart"),
        ok("Imported"),
        (Code.VM_IMPORT_FAILED, Code.MANIFEST_INVALID),
        (DRY_RUN,),
        "Import",
        body_required=True,
    ),
    Endpoint(
        "POST",
        "/api/prune",
        Text("确认删除所列虚拟机", "Confirm removals that are held"),
        ok("Pruned"),
        (),
        (DRY_RUN,),
        "Prune",
        body_required=True,
    ),
    Endpoint(
        "POST",
        "/api/novnc",
        Text("启动 NoVNC 服务", "Start the noVNC service"),
        ok("Console"),
        (Code.NOVNC_START_FAILED, Code.VM_NOT_RUNNING),
        body="OpenConsole",
    ),
    Endpoint(
        "POST",
        "/api/novnc/{name}",
        Text("为虚拟机启动 NoVNC", "Open a VM's console"),
        ok("Console"),
        (*FINDING, Code.NOVNC_START_FAILED, Code.VM_NOT_RUNNING),
        body="OpenConsole",
    ),
    Endpoint("GET", "/api/host", Text("主机", "The host"), ok("Host")),
    Endpoint("GET", "/healthz", Text("代理有应答", "The agent answers"), ok("Probe"), is_open=True),
    Endpoint(
        "GET",
        "/readyz",
        Text("代理已看过所有虚拟机", "The agent has looked at every VM"),
        ok("Probe"),
        (Code.NOT_READY,),
        is_open=True,
    ),
    Endpoint("GET", "/openapi.json", Text("本文档", "This document"), ok("Document"), is_open=True),
)
