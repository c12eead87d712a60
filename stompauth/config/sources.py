"""Where settings come from: defaults, then a file, the environment and the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stompauth.config.environment import from_environment, variable
from stompauth.config.reader import from_mapping
from stompauth.config.values import Config, keys
from stompauth.errors import ConfigError, Mistake


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody gave, from whatever source; all else is default.

    :ivar data: all of it, as a TOML parser would make it.
    :ivar directory: what paths in it are relative to.
    :ivar sources: of each key that was given, by its path, the source that counts: ``"file"``,
        ``"environment"`` or ``"command line"``.
    :ivar mistakes: variables of the environment that set no key.
    """

    data: Mapping[str, object]
    directory: Path
    sources: Mapping[str, str]
    mistakes: tuple[Mistake, ...] = ()

    @classmethod
    def gather(
        cls,
        source: str | Path,
        overrides: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Given:
        """Read all sources; see :func:`load` for them.

        :raises ConfigError: the file cannot be read, or is not TOML.
        """
        data = _parse(source)
        variables, mistakes = from_environment(environment or {})
        sources = {path: "file" for path, _ in keys() if _has(data, path)}
        for path, value in variables.items():
            section, _, key = path.rpartition(".")
            table = data.setdefault(section, {}) if section else data
            if isinstance(table, dict):
                table[key] = value
                sources[path] = "environment"
        overrides = overrides or {}
        sources |= dict.fromkeys(overrides, "command line")
        directory = source.parent if isinstance(source, Path) else Path()
        return cls(data | dict(overrides), directory, sources, tuple(mistakes))

    def config(self, running: Config | None = None) -> Config:
        """Make the configuration.

        :param running: the one in use, if there is one; see :func:`.from_mapping`.
        :raises ConfigError: there are mistakes; all of them. One in the value of a variable has
            the variable's name as its path.
        """
        try:
            config = from_mapping(self.data, self.directory, running or Config())
        except ConfigError as error:
            found = [*map(self._renamed, error.mistakes), *self.mistakes]
            raise ConfigError(found) from None
        if self.mistakes:
            raise ConfigError(list(self.mistakes))
        return config

    def _renamed(self, mistake: Mistake) -> Mistake:
        key = re.sub(r"\[[0-9]+\]$", "", mistake.path)
        if self.sources.get(key) != "environment":
            return mistake
        return Mistake(variable(key) + mistake.path.removeprefix(key), mistake.text)


def load(
    source: str | Path,
    overrides: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Read a configuration.

    :param source: TOML as a string, or the path of a file of it. Paths in it are relative to the
        file's directory, or to the current one.
    :param overrides: values which replace those of the keys at the top, as the command line does.
    :param environment: variables, of which ``STOMPAUTH_SECTION__KEY`` replaces what the file says;
        none if it is left out.
    :raises ConfigError: there are mistakes; all of them.
    """
    return Given.gather(source, overrides, environment).config()


def _parse(source: str | Path) -> dict[str, Any]:
    try:
        text = source.read_text("utf-8") if isinstance(source, Path) else source
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError([Mistake("", f"{source} cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Mistake("", f"{source} is not UTF-8")]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError([Mistake("", f"this is not TOML: {error}")]) from error


def _has(data: Mapping[str, Any], path: str) -> bool:
    section, _, key = path.rpartition(".")
    table = data.get(section) if section else data
    return isinstance(table, dict) and key in table
