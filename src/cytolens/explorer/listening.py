"""Where the server listens, and under which names it is reached."""

import ipaddress
import socket

from cytolens.errors import SettingError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PORTS_TRIED = 50


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_of(host: str) -> tuple[str, ...]:
    """Names under which a server that listens on ``host`` may be asked."""
    return LOOPBACK if is_loopback(host) else (*LOOPBACK, host.lower(), *_addresses(host))


def _addresses(host: str) -> tuple[str, ...]:
    """Names under which others reach a server that listens on ``host``."""
    if host not in ("0.0.0.0", "::"):
        return ()
    name = socket.gethostname().lower()
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    except OSError:
        found = set[str]()
    return (name, *(f"[{at}]" if ":" in at else at for at in sorted(found)))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the port, or on the next that is free. Raises SettingError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last: OSError | None = None
    for number in range(port, min(port + _PORTS_TRIED, 65_536)):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
            made.listen(128)
        except OSError as error:
            made.close()
            last = error
            continue
        return made
    reason = last.strerror if last else "no such port"
    raise SettingError(f"--host {host} --port {port}: the server cannot listen there ({reason})")
