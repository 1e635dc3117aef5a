"""What the API says to people, in the documented Chinese and in English, and its error codes.

The Chinese of the documented endpoints is the contract's, to the letter. Codes never change with the
language. Next: `reconciler.api.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class Language(StrEnum):
    """The languages that the API speaks."""

    ZH = "zh"
    EN = "en"


@dataclass(frozen=True)
class Text:
    """One message in every language."""

    zh: str
    en: str

    @staticmethod
    def same(text: str) -> Text:
        """Words that are not ours to translate: QEMU's, the kernel's."""
        return Text(text, text)

    def say(self, language: Language) -> str:
        """The message in one language."""
        return self.en if language is Language.EN else self.zh

    def __add__(self, other: Text) -> Text:
        return Text(self.zh + other.zh, self.en + other.en)


class Code(Enum):
    """Every error code, with its HTTP status and its message."""

    VM_NOT_FOUND = (404, "虚拟机不存在", "There is no VM of this name")
    VM_ALREADY_RUNNING = (400, "虚拟机已在运行", "The VM is already running")
    VM_ALREADY_STOPPED = (400, "虚拟机已停止", "The VM is already stopped")
    VM_NOT_RUNNING = (400, "虚拟机未运行", "The VM does not run")
    VM_START_FAILED = (400, "虚拟机启动失败", "The VM could not be started")
    VM_STOP_FAILED = (400, "虚拟机停止失败", "The VM could not be stopped")
    VM_CONFIG_FAILED = (400, "虚拟机配置更新失败", "The VM's configuration could not be updated")
    ISO_TOGGLE_FAILED = (400, "ISO 镜像挂载状态切换失败", "The ISO could not be mounted or unmounted")
    VM_PROTECTED = (
        400,
        "虚拟机受保护，不能删除（spec.protect 为 true）",
        "The VM is protected: spec.protect is true in its manifest",
    )
    VM_RESTORE_FAILED = (400, "虚拟机恢复失败", "The VM could not be restored")
    VM_RECREATE_FAILED = (400, "虚拟机重建失败", "The VM could not be recreated")
    VM_RENAME_FAILED = (400, "虚拟机重命名失败", "The VM could not be renamed")
    VM_IMPORT_FAILED = (400, "虚拟机导入失败", "The VM could not be imported")
    VM_SCREENSHOT_FAILED = (400, "虚拟机截图失败", "The VM's screen could not be read")
    NOVNC_START_FAILED = (400, "NoVNC 启动失败", "noVNC could not be started")
    MANIFEST_INVALID = (400, "虚拟机的清单文件无效", "The VM's manifest cannot be used")
    INVALID_REQUEST_PARAMS = (400, "无效的请求参数", "Invalid request parameters")
    UNAUTHORIZED = (401, "未授权", "This agent wants its token: Authorization: Bearer …")
    FORBIDDEN = (403, "禁止访问", "Forbidden")
    NOT_FOUND = (404, "路径不存在", "There is nothing at this path")
    METHOD_NOT_ALLOWED = (405, "不支持该请求方法", "This path does not know the method")
    PRECONDITION_FAILED = (
        412,
        "虚拟机的清单与 If-Match 不符，未作任何更改",
        "The VM's manifest is not the version that If-Match names; nothing was changed",
    )
    TOO_LARGE = (413, "请求体过大", "The request body is larger than 64 KiB")
    UNSUPPORTED_MEDIA_TYPE = (415, "请求体必须是 application/json", "A request body must be application/json")
    INTERNAL_SERVER_ERROR = (500, "服务器内部错误", "Internal server error")
    NOT_READY = (503, "尚未就绪", "Not ready: the manifests were not all read, or a VM was not looked at yet")

    def __init__(self, status: int, zh: str, en: str) -> None:
        self.status = status
        self.text = Text(zh, en)


STARTED = Text("虚拟机启动成功", "The VM was started")
STOPPED = Text("虚拟机停止成功", "The VM was stopped")
CREATED = Text("虚拟机创建成功", "The VM was created")
DELETED = Text("虚拟机已成功删除", "The VM was deleted")
RECREATED = Text(
    "虚拟机已重建：旧系统盘已移至 replaced 目录保留",
    "The VM has a new root disk; the old one is kept in its directory, below replaced/",
)
IMPORTED = Text("虚拟机已导入，未重启", "The VM was imported, and was not restarted")
RESTORED = Text("虚拟机已恢复", "The VM was restored")
NOTHING_HELD = Text("所列虚拟机没有等待确认的删除", "None of the VMs listed has a removal that waits")
PRUNED = Text("已确认删除所列虚拟机", "The removal of the VMs listed is confirmed")

UNSETTLED = Text("在期限内未见结果，代理会继续执行", "not seen to be done in time; the agent goes on with it")
UNREAD = Text(
    "清单已写入但尚未被读取（git 是否正在该目录中运行？），代理会继续执行",
    "the manifest is written and not read yet (is git at work there?); the agent goes on with it",
)
BUSY = Text(
    "等待中的写操作过多；清单已写入，代理会继续执行",
    "too many writes are being waited for; the manifest is written, and the agent goes on with it",
)
FULL = Text(
    "正在进行的写操作过多；未作任何更改，请稍后重试",
    "too many writes are under way; nothing was changed, please try again in a moment",
)
CONTESTED = Text(
    "清单同时被他人修改，已尝试三次，请重试",
    "somebody else edits the manifest at the same time; tried three times, please try again",
)
BEING_REMOVED = Text(
    "它的清单已被删除，磁盘将被移至回收处；可用 restore 恢复",
    "its manifest is gone and it is being set aside; `reconciler restore` brings it back",
)
NO_MANIFEST = Text("没有清单描述该虚拟机", "no manifest describes this VM")
REHEARSED = Text("演练（dryRun）：未作任何更改", "A rehearsal (dryRun): nothing was changed")
SUSPENDED = Text("清单中 spec.suspend 为 true", "spec.suspend is true in its manifest")
HELD = Text(
    "它的清单文件已不存在，删除操作等待确认；请恢复该文件，或运行 reconciler prune --confirm",
    "its manifest is gone and its removal is held; put the file back, or run `reconciler prune --confirm`",
)
SUPERSEDED = Text(
    "在此期间清单又被他人修改，以新的清单为准",
    "somebody else changed the manifest meanwhile, and the VM follows that",
)
GONE = Text("该虚拟机在此期间已被删除", "it was removed meanwhile")


def restarted(name: str) -> Text:
    """The documented message."""
    return Text(f"虚拟机 {name} 已成功重启", f"The VM {name} was restarted")


def renamed(name: str, new: str) -> Text:
    """That a VM has another name."""
    return Text(f"虚拟机 {name} 已更名为 {new}", f"The VM {name} is called {new} now")


def configured(name: str) -> Text:
    """The documented message."""
    return Text(f"虚拟机 {name} 配置已更新", f"The configuration of the VM {name} was updated")


def iso_toggled(name: str, *, mounted: bool) -> Text:
    """The documented message, which is English on the page."""
    words = "mounted to" if mounted else "unmounted from"
    return Text.same(f"ISO successfully {words} VM '{name}'")


def keeps_trying(next_try_in_s: float | None) -> Text:
    """That the agent goes on after a failed start, and when, where that is known."""
    if next_try_in_s is None:
        return Text(
            "；清单保持 running，代理会继续重试", "; the manifest keeps `running`, and the agent keeps trying"
        )
    seconds = max(1, round(next_try_in_s))
    return Text(
        f"；清单保持 running，代理将在 {seconds} 秒后重试",
        f"; the manifest keeps `running`, and the agent keeps trying, next in {seconds} s",
    )


def parse_language(text: str | None) -> Language | None:
    """The language of this name, or None: an unknown one is no reason to refuse a request."""
    return Language(text.lower()) if text and text.lower() in set(Language) else None
