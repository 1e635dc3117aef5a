"""Whether the other end of an accepted TCP connection is one of our guests, who must not drive the host.

A guest on user networking reaches the host's loopback at 10.0.2.2, and what it says there (`Host`, `Origin`) is its
own to choose. What it cannot choose is who opens its sockets on the host: its QEMU. So the client's socket is looked
up in the kernel (sock_diag: one exact question, some ten microseconds, however many sockets there are), and its owner
judged: by uid where QEMU has a user of its own, else by searching the descriptors of our user's QEMUs for it.

Fails closed, for peers on this host alone. A client there has a socket that is open while it waits for its answer;
where none is found it hung up already, and a guest could do that on purpose, between its request and our look. So
nobody who still listens is refused. A peer with the address of another machine has no socket here, and is no guest:
those leave this host by its own addresses, never under a foreign one.

Needs no state of the agent: `reconciler.api.server` asks once for each connection, so does the noVNC gateway.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

LOG_EVERY_S = 60.0  # a guest that tries again and again must not fill the log
PROC = Path("/proc")

Address = tuple[str, int]
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NO_COOKIE = 0xFFFFFFFF
_ALL_STATES = 0xFFFFFFFF
_TCP_LISTEN = 10
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_QUESTION = struct.Struct("=BBBxI")  # inet_diag_req_v2, its head: family, protocol, extensions, states
_PORTS = struct.Struct(">HH")  # inet_diag_sockid, its head: source, destination
_REST = struct.Struct("=III")  # inet_diag_sockid, its end: interface, cookie
_ANSWER = struct.Struct("=BBBB4s16s16s12xIIIII")  # inet_diag_msg: family, state, …, uid, inode
_ANSWER_MAX_BYTES = 4096
_TIMEOUT_S = 1.0  # the kernel answers within the call; this is for one that does not


@dataclass(frozen=True)
class SocketOwner:
    """Who holds a TCP socket: the uid that made it, and its inode, by which descriptors name it."""

    uid: int
    inode: int


@dataclass(frozen=True)
class GuestPeers:
    """Knows our QEMUs among the programs that connect.

    `qemu_uid` is QEMU's own user, None where QEMU runs as ours; then its processes are known by their executable,
    which is called qemu-… or as `qemu_binary` says. Safe for any thread, and over a fork.
    """

    qemu_uid: int | None
    qemu_binary: str = "qemu-system-x86_64"

    def refusal(self, peer: Address, local: Address) -> str | None:
        """Why this peer is not to be talked to, or None. Both are the addresses of one accepted connection."""
        peer_ip, local_ip = _ip(peer[0]), _ip(local[0])
        here = peer_ip.is_loopback or peer_ip == local_ip
        try:
            owner = socket_owner((peer_ip, peer[1]), (local_ip, local[1]))
        except OSError as error:
            remedy = "`modprobe tcp_diag` may help, and a UNIX socket needs no such question"
            return f"the kernel does not tell whose socket it is ({error}); {remedy}" if here else None
        if owner is None:
            return "it hung up before it could be told from a guest" if here else None
        return "it is a guest: its socket belongs to a QEMU" if self._is_qemu(owner) else None

    def _is_qemu(self, owner: SocketOwner) -> bool:
        if self.qemu_uid is not None:
            return owner.uid == self.qemu_uid
        return owner.uid == os.geteuid() and any(_holds(pid, owner.inode) for pid in self._qemus())

    def _qemus(self) -> Iterator[int]:
        """The processes of our user that run a QEMU; another's cannot be looked into, and are not ours."""
        name = os.path.basename(os.path.realpath(shutil.which(self.qemu_binary) or self.qemu_binary))
        uid = os.geteuid()
        for entry in os.scandir(PROC):
            with suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == uid:
                    program = os.path.basename(os.readlink(f"{entry.path}/exe"))
                    if program.startswith("qemu-") or program.removesuffix(" (deleted)") == name:
                        yield int(entry.name)


class Doorkeeper:
    """Lets connections in, or says in the log why not: at once, then at most once a minute.

    `what` is what is being connected to, for the log.
    """

    def __init__(self, peers: GuestPeers, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._peers = peers
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._silent_until_s = float("-inf")
        self._unsaid = 0

    def admits(self, connection: socket.socket) -> bool:
        """Whether to talk on this accepted connection; the caller closes one that is refused."""
        if connection.family == socket.AF_UNIX:
            return True
        try:
            peer, local = connection.getpeername()[:2], connection.getsockname()[:2]
            reason = self._peers.refusal(peer, local)
        except OSError:
            return False  # reset meanwhile: nobody is there to be answered
        if reason:
            self._say(f"{peer[0]} port {peer[1]}: {reason}")
        return reason is None

    def _say(self, text: str) -> None:
        with self._lock:
            now_s = self._clock()
            if now_s < self._silent_until_s:
                self._unsaid += 1
                return
            more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
            self._silent_until_s, self._unsaid = now_s + LOG_EVERY_S, 0
        log.warning("%s: refused a connection from %s%s", self._what, text, more)


def socket_owner(own_end: tuple[IpAddress, int], other_end: tuple[IpAddress, int]) -> SocketOwner | None:
    """Who holds the TCP socket of this host that is connected so; None for none, or one that nobody holds any more.

    Raises OSError where the kernel cannot be asked.
    """
    try:
        answer = _ask(_NLM_F_REQUEST, _question(own_end, other_end))
    except FileNotFoundError:  # said of a socket, and of a kernel that has no sock_diag for TCP
        _ask(_NLM_F_REQUEST | _NLM_F_DUMP, _question(own_end, other_end, states=0))
        return None
    _, state, _, _, ports, *_, uid, inode = _ANSWER.unpack_from(answer)
    # Where no socket is connected so, the kernel names one that listens.
    found = state != _TCP_LISTEN and ports == _PORTS.pack(own_end[1], other_end[1])
    return SocketOwner(uid, inode) if found and inode else None


def _ask(flags: int, question: bytes) -> bytes:
    """The body of the kernel's answer. Raises OSError as the kernel says."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT_S)
        kernel.send(_HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, flags, 0, 0) + question)
        answer = kernel.recv(_ANSWER_MAX_BYTES)
    body = answer[_HEADER.size :]
    if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", body)[0]
        raise OSError(number, os.strerror(number))
    return body


def _question(
    own_end: tuple[IpAddress, int], other_end: tuple[IpAddress, int], states: int = _ALL_STATES
) -> bytes:
    family = socket.AF_INET if own_end[0].version == 4 else socket.AF_INET6
    return b"".join(
        (
            _QUESTION.pack(family, socket.IPPROTO_TCP, 0, states),
            _PORTS.pack(own_end[1], other_end[1]),
            own_end[0].packed.ljust(16, b"\0"),
            other_end[0].packed.ljust(16, b"\0"),
            _REST.pack(0, _NO_COOKIE, _NO_COOKIE),
        )
    )


def _ip(host: str) -> IpAddress:
    """An address; IPv4 in the clothes of IPv6 is IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _holds(pid: int, inode: int) -> bool:
    """Whether a process holds this socket; False for a process that ended meanwhile."""
    wanted = f"socket:[{inode}]"
    with suppress(OSError):
        for entry in os.scandir(f"{PROC}/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(entry.path) == wanted:
                    return True
    return False
