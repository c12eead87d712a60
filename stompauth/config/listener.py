"""What an endpoint string says about who can reach what listens there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final


@dataclass(frozen=True, slots=True)
class Listener:
    """What a server endpoint string of Twisted's says about who can reach it.

    :ivar kind: the word at its beginning; that of what is inside, for ``haproxy:``.
    :ivar arguments: its parameters by name.
    :ivar is_haproxy: whether each connection begins with a PROXY line.
    """

    kind: str
    arguments: Mapping[str, str]
    is_haproxy: bool

    @classmethod
    def parse(cls, description: str) -> Listener:
        """Read an endpoint string.

        :raises ValueError: it is none, or none of the kinds that we know; the text says why.
        """
        positional: list[str] = []
        arguments: dict[str, str] = {}
        for parts in _split_endpoint(description):
            if len(parts) == 1:
                positional.append(parts[0])
            else:
                arguments[parts[0]] = parts[1]
        is_haproxy = positional[:1] == ["haproxy"]
        kind, *values = positional[is_haproxy:] or [""]
        names = _ENDPOINTS.get(kind)
        if names is None:
            raise ValueError(f"must begin with {':, '.join(_ENDPOINTS)}: or haproxy:")
        if len(values) > len(names):
            raise ValueError(f"has too many parameters for {kind}:")
        if unknown := arguments.keys() - set(names[len(values) :]):
            raise ValueError(f"{kind}: cannot take {', '.join(sorted(map(repr, unknown)))} here")
        arguments |= zip(names, values, strict=False)
        if names[0] not in arguments:
            raise ValueError(f"{kind}: needs its {names[0]}")
        if kind == "systemd" and ("index" in arguments) == ("name" in arguments):
            raise ValueError("systemd: needs its index, or its name")
        for name in ("port", "backlog"):
            number = arguments.get(name, "0")
            if not re.fullmatch("[0-9]{1,5}", number) or int(number) > 65535:
                raise ValueError(f"has no {name} from 0 to 65535")
        return cls(kind, arguments, is_haproxy)

    @property
    def is_loopback(self) -> bool:
        """Whether it is bound to an address of the loopback interface, for all that it says."""
        try:
            return ip_address(self.arguments.get("interface", "")).is_loopback
        except ValueError:
            return False

    @property
    def is_plain(self) -> bool:
        """Whether bytes that nobody encrypted may come to it over a network."""
        match self.kind:
            case "tcp" | "tcp6":
                return not self.is_loopback
            case "systemd":
                return self.arguments["domain"] != "UNIX"
        return False


#: Kinds of endpoints, with their parameters in the order in which they may go without a name.
_ENDPOINTS: Final = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "tls": ("path", "port", "backlog", "interface"),
    "ssl": (
        *("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
        *("extraCertChain", "dhParameters"),
    ),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}


def _split_endpoint(description: str) -> list[list[str]]:
    """Split at colons, and each part at its first equals sign; a backslash takes what follows."""
    parts = [[""]]
    characters = iter(description)
    for character in characters:
        if character == ":":
            parts.append([""])
        elif character == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        else:
            parts[-1][-1] += next(characters, "") if character == "\\" else character
    return parts
