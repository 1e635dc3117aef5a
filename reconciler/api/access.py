"""Who may talk to the API: host names, origins and the token. Pure decisions, and a thin middleware.

A web page elsewhere must not drive the API of somebody's loopback: `Host` must be a name that we go by (DNS
rebinding), `Origin` one that we trust (cross-site requests). A guest's web server that a port forward shows
on the loopback is not trusted. Next: `reconciler.api.resources`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import falcon

from reconciler.api.errors import ApiError
from reconciler.api.listen import Listen, is_loopback_address
from reconciler.api.messages import Code, Text
from reconciler.model.errors import SettingsError
from reconciler.settings import Settings

_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}

OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # they tell nothing, and who asks them has no token
PREFLIGHT_MAX_AGE_S = 600
ALLOWED_METHODS = "GET, POST, PUT, DELETE"
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match, X-Language, X-Request-Id"
EXPOSED_HEADERS = "ETag, X-Request-Id"

FOREIGN_HOST = Text(
    "请求的 Host 不是本代理的名字（可在设置 allowedHosts 中添加）",
    "this agent does not go by the Host of the request (the setting allowedHosts adds names)",
)
FOREIGN_ORIGIN = Text(
    "不信任该网页来源（可在设置 allowedOrigins 中添加）",
    "pages of this Origin are not trusted (the setting allowedOrigins adds some)",
)


@dataclass(frozen=True)
class Access:
    """What is let in. `forwarded_ports` gives the host's ports behind which guests answer, now."""

    names: frozenset[str]
    origins: frozenset[str]
    token: str | None
    forwarded_ports: Callable[[], Collection[int]]


@dataclass(frozen=True)
class Authority:
    """Host and port as they stand in `Host` and in origins."""

    host: str
    port: int | None


def access_of(settings: Settings, forwarded_ports: Callable[[], Collection[int]]) -> Access:
    """The access that the settings ask for. Raises SettingsError for a token that cannot be read."""
    return Access(
        names=Listen.parse(settings.listen).names() | {h.lower() for h in settings.allowed_hosts},
        origins=frozenset(o.lower().rstrip("/") for o in settings.allowed_origins),
        token=read_token(settings.token_file) if settings.token_file else None,
        forwarded_ports=forwarded_ports,
    )


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it. Raises SettingsError."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"tokenFile: {path} cannot be read: {error}") from error
    if not token:
        raise SettingsError(f"tokenFile: {path} is empty; `openssl rand -hex 32 > {path}` makes a token")
    return token


def parse_authority(text: str | None) -> Authority | None:
    """`host`, `host:port` or `[v6]:port`, or None for anything else."""
    form = _AUTHORITY.match((text or "").lower())
    if form is None:
        return None
    return Authority((form["v6"] or form["host"]).rstrip("."), int(form["port"]) if form["port"] else None)


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


def token_allowed(header: str | None, token: str | None) -> bool:
    """Whether `Authorization` bears the token, where there is one; compared in constant time."""
    if token is None:
        return True
    scheme, _, given = (header or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


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
        if req.path not in OPEN_PATHS and not token_allowed(
            req.get_header("Authorization"), self._access.token
        ):
            raise ApiError(Code.UNAUTHORIZED)


def _answer_preflight(resp: falcon.Response) -> None:
    """Browsers ask this without credentials, before the request itself."""
    resp.status = 204
    resp.set_header("Access-Control-Allow-Methods", ALLOWED_METHODS)
    resp.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
    resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S))
    resp.complete = True
