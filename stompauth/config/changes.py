"""What can change while a server runs."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from stompauth.config.values import keys

if TYPE_CHECKING:
    from stompauth.config.values import Config

#: The keys and the sections that can change while a server runs.
RELOADED: Final = (
    "rules",
    "authorization",
    "websocket.origins",
    "websocket.require_origin",
    "limits",
    "jwt.public_key_file",
    "jwt.secret_file",
)


def needs_restart(old: Config, new: Config) -> list[str]:
    """The paths of what differs and cannot change while a server runs."""
    paths = [path for path, _ in keys() if not path.startswith(_SECTIONS) and path not in RELOADED]
    return [
        path for path in [*paths, "interceptors"] if attrgetter(path)(old) != attrgetter(path)(new)
    ]


_SECTIONS: Final = tuple(f"{key}." for key in RELOADED)
