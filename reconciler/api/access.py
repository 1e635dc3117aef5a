"""Who may talk to the API: host names, origins, tokens and their roles. Pure decisions, and a thin middleware.

A web page elsewhere must not drive the API of somebody's loopback: `Host` must be a name that we go by (DNS
rebinding), `Origin` one that we trust (cross-site requests). A guest's web server that a port forward shows
on the loopback is not trusted. Next: `reconciler.api.resources`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import falcon

from reconciler.api.docs import DOCS, DOCUMENT_PATH
from reconciler.api.errors import ApiError
from reconciler.api.listen import Listening, is_loopback_address
from reconciler.api.messages import Code, Text
from reconciler.api.pages import CONSOLES, HOME
from reconciler.api.unix_socket import BY_FILE
from reconciler.authority import parse_authority
from reconciler.model.errors import SettingsError
from reconciler.settings import Settings

_DEFAULT_PORTS = {"http": 80, "https": 443}

OPEN_PATHS = frozenset(
    {"/healthz", "/readyz", HOME, DOCUMENT_PATH, *DOCS, *CONSOLES}
)  # they tell nothing, and who asks them has no token
PREFLIGHT_MAX_AGE_S = 600
ALLOWED_METHODS = "GET, POST, PUT, DELETE"
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match, X-Language, X-Request-Id"
EXPOSED_HEADERS = "ETag, X-Request-Id"

READING = frozenset({"GET", "HEAD"})

MAY_ONLY_READ = Text(
    "该令牌的角色是 read，只能读取；修改操作需要 admin 令牌（设置 tokenFile）",
    "this token has the role `read`; what changes something wants the one of `admin` (the setting tokenFile)",
)
FOREIGN_HOST = Text(
    "请求的 Host 不是本代理的名字（可在设置 allowedHosts 中添加）",
    "this agent does not go by the Host of the request (the setting allowedHosts adds names)",
)
FOREIGN_ORIGIN = Text(
    "不信任该网页来源（可在设置 allowedOrigins 中添加）",
    "pages of this Origin are not trusted (the setting allowedOrigins adds some)",
)


class Role(Enum):
    """What one may do: everything, or look."""

    ADMIN = auto()
    READ = auto()


@dataclass(frozen=True)
class Access:
    """What is let in. `forwarded_ports` gives the host's ports behind which guests answer, now.

    `token` makes an admin, `read_token` a reader; without a token everybody is an admin.
    """

    names: frozenset[str]
    origins: frozenset[str]
    token: str | None
    forwarded_ports: Callable[[], Collection[int]]
    read_token: str | None = None


def access_of(settings: Settings, forwarded_ports: Callable[[], Collection[int]]) -> Access:
    """The access that the settings ask for. Raises SettingsError for a token that cannot be read."""
    return Access(
        names=Listening.parse(settings.listen).names() | {h.lower() for h in settings.allowed_hosts},
        origins=frozenset(o.lower().rstrip("/") for o in settings.allowed_origins),
        token=read_token(settings.token_file) if settings.token_file else None,
        forwarded_ports=forwarded_ports,
        read_token=_second_token(settings),
    )


def _second_token(settings: Settings) -> str | None:
    """The token that may only read. Raises SettingsError where it is no second one."""
    if settings.read_token_file is None:
        return None
    if settings.token_file is None:
        raise SettingsError(
            "readTokenFile: without a tokenFile beside it everybody may do everything; "
            "`openssl rand -hex 32` makes a token"
        )
    token = read_token(settings.read_token_file, "readTokenFile")
    if token == read_token(settings.token_file):
        raise SettingsError("readTokenFile: holds the token of tokenFile; let the two differ")
    return token


def read_token(path: Path, setting: str = "tokenFile") -> str:
    """The token in a file, without the white space around it. Raises SettingsError."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error}") from error
    if not token:
        raise SettingsError(f"{setting}: {path} is empty; `openssl rand -hex 32 > {path}` makes a token")
    return token


def host_allowed(header: str | None, access: Access) -> bool:
    """Whether `Host` is a name that we go by, on any port."""
    authority = parse_authority(header)
    return authority is not None and authority.host in access.names


def origin_allowed(origin: str, host: str | None, access: Access) -> bool:
    """Whether pages of this origin may call: our own, configured ones, the loopback's but for the guests'."""
    scheme, separator, rest = origin.lower().partition("://")
    authority = parse_authority(rest)
    if authority is None or not separator or scheme not in _DEFAULT_PORTS:
        return False
    if origin.lower() in access.origins or authority == parse_authority(host):
        return True
    if authority.host != "localhost" and not is_loopback_address(authority.host):
        return False
    return (authority.port or _DEFAULT_PORTS[scheme]) not in access.forwarded_ports()


def role_of(header: str | None, access: Access) -> Role | None:
    """Who comes with this `Authorization`; None for nobody whom we know. Tokens are compared in constant time."""
    if access.token is None:
        return Role.ADMIN
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = given.strip().encode()
    if hmac.compare_digest(token, access.token.encode()):
        return Role.ADMIN
    reads = access.read_token is not None and hmac.compare_digest(token, access.read_token.encode())
    return Role.READ if reads else None


class Gate:
    """Middleware: refuses, answers preflights, and adds the CORS headers to what is allowed."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Raises ApiError FORBIDDEN or UNAUTHORIZED."""
        resp.append_header("Vary", "Origin")
        host, origin = req.get_header("Host"), req.get_header("Origin")
        if not host_allowed(host, self._access):
            raise ApiError(Code.FORBIDDEN, FOREIGN_HOST)
        if origin is not None:
            if not origin_allowed(origin, host, self._access):
                raise ApiError(Code.FORBIDDEN, FOREIGN_ORIGIN)
            resp.set_header("Access-Control-Allow-Origin", origin)
            resp.set_header("Access-Control-Expose-Headers", EXPOSED_HEADERS)
            if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
                _answer_preflight(resp)
                return
        if req.path not in OPEN_PATHS and not req.env.get(BY_FILE):
            self._check_role(req)

    def _check_role(self, req: falcon.Request) -> None:
        role = role_of(req.get_header("Authorization"), self._access)
        if role is None:
            raise ApiError(Code.UNAUTHORIZED)
        if role is Role.READ and req.method not in READING:
            raise ApiError(Code.FORBIDDEN, MAY_ONLY_READ)


def _answer_preflight(resp: falcon.Response) -> None:
    """Browsers ask this without credentials, before the request itself."""
    resp.status = 204
    resp.set_header("Access-Control-Allow-Methods", ALLOWED_METHODS)
    resp.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
    resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S))
    resp.complete = True
