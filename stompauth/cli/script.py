"""Where the console script begins."""

from __future__ import annotations


def main() -> None:
    """Run the command line.

    :raises SystemExit: when it is done, or cannot be done without ``click``.
    """
    try:
        from stompauth.cli.commands import stompauth
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        raise SystemExit(
            "stompauth: this command needs click, which is an extra:"
            " python -m pip install 'stompauth[cli]'"
        ) from None
    stompauth()
