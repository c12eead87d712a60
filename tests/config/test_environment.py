"""Settings from environment variables."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.config import Given, load
from stompauth.config.environment import variable
from stompauth.config.values import keys
from stompauth.errors import ConfigError
from tests.test_config import MINIMAL, ConfigCase

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


class EnvironmentCase(ConfigCase):
    """Helps to look at mistakes in variables."""

    def mistaken(self, environment: dict[str, str], text: str = MINIMAL) -> dict[str, str]:
        """What is wrong with MINIMAL and these variables, text by path."""
        error = self.assertRaises(ConfigError, load, text, environment=environment)
        found = {mistake.path: mistake.text for mistake in error.mistakes}
        self.assertEqual(len(found), len(error.mistakes), f"one key, several mistakes: {error}")
        return found


class VariableTests(EnvironmentCase):
    """What a variable can say."""

    def test_types(self) -> None:
        """A value has the type of its key; lists are JSON."""
        config = load(
            MINIMAL,
            environment={
                "STOMPAUTH_WORKERS": "1",
                "STOMPAUTH_FAST_IO": "false",
                "STOMPAUTH_LISTEN": '["unix:/run/a", "unix:/run/b"]',
                "STOMPAUTH_TICKETS__TTL": "2.5",
                "STOMPAUTH_TICKETS__RATE": "3",
                "STOMPAUTH_LIMITS__HEARTBEAT": "[0, 1.5]",
                "STOMPAUTH_JWT__AUDIENCE": "true",
                "STOMPAUTH_WEBSOCKET__PATH": "/ws",
                "HOME": "/root",
            },
        )
        self.assertIs(config.fast_io, False)
        self.assertEqual(config.listen, ("unix:/run/a", "unix:/run/b"))
        self.assertEqual((config.tickets.ttl, config.tickets.rate), (2.5, 3))
        self.assertEqual(config.limits.heartbeat, (0, 1.5))
        self.assertEqual(config.jwt.audience, "true")
        self.assertEqual(config.websocket.path, "/ws")

    def test_every_key(self) -> None:
        """Every key but those of the arrays of tables has a variable of its own."""
        names = [variable(path) for path, _ in keys()]
        self.assertEqual(len(set(names)), len(names))
        for path, name in zip((path for path, _ in keys()), names, strict=True):
            sources = Given.gather(MINIMAL, None, {name: "x"}).sources
            self.assertEqual(sources[path], "environment")

    def test_strict(self) -> None:
        """What is not written as the type wants it is a mistake, with the variable as its path."""
        for name, text in {
            "STOMPAUTH_FAST_IO": "yes",
            "STOMPAUTH_BEHIND_TLS_PROXY": "True",
            "STOMPAUTH_WORKERS": "1.0",
            "STOMPAUTH_LIMITS__FRAME": "64k",
            "STOMPAUTH_LIMITS__SESSIONS": "",
            "STOMPAUTH_LIMITS__HEADERS": "9" * 10000,
            "STOMPAUTH_TICKETS__TTL": "nan",
            "STOMPAUTH_TICKETS__RATE": " 5",
            "STOMPAUTH_TICKETS__TIMEOUT": "1e1",
            "STOMPAUTH_ROLES": "tickets",
            "STOMPAUTH_LISTEN": "[" * 100_000,
            "STOMPAUTH_WEBSOCKET__ORIGINS": "['https://chat.example.com']",
        }.items():
            with self.subTest(name):
                self.assertIn("must be", self.mistaken({name: text})[name])

    def test_checked(self) -> None:
        """A value is checked as one of the file is; its mistake tells where it comes from."""
        found = self.mistaken(
            {
                "STOMPAUTH_TICKETS__TTL": "90",
                "STOMPAUTH_LISTEN": '["unix:/run/a", "tcp:x"]',
                "STOMPAUTH_JWT__ISSUER": "",
            }
        )
        self.assertEqual(
            set(found),
            {"STOMPAUTH_TICKETS__TTL", "STOMPAUTH_LISTEN[1]", "STOMPAUTH_JWT__ISSUER"},
        )

    def test_unknown(self) -> None:
        """A variable that begins as ours do, and sets nothing, is a mistake beside the others."""
        found = self.mistaken(
            {
                "STOMPAUTH_JWT__ISUER": "https://id.example.com/",
                "STOMPAUTH_JWT_ISSUER": "https://id.example.com/",
                "STOMPAUTH_RULES": "[]",
                "STOMPAUTH_jwt__issuer": "https://id.example.com/",
                "STOMPAUTH_PORT": "8080",
                "STOMPAUTH_\x1b[2J": "",
            },
            MINIMAL.replace("audience", "audiance"),
        )
        self.assertEqual(
            found,
            {
                "jwt.audience": "is required, and not empty",
                "jwt.audiance": "is no key; did you mean audience?",
                "STOMPAUTH_JWT__ISUER": "sets no key; did you mean STOMPAUTH_JWT__ISSUER?",
                "STOMPAUTH_JWT_ISSUER": "sets no key; did you mean STOMPAUTH_JWT__ISSUER?",
                "STOMPAUTH_RULES": "sets no key: rules and interceptors are in the file only",
                "STOMPAUTH_jwt__issuer": "sets no key",
                "STOMPAUTH_PORT": "sets no key",
                "STOMPAUTH_\\x1b[2J": "sets no key",
            },
        )

    def test_foreign(self) -> None:
        """What Kubernetes sets for a service called stompauth, and the console script's, is not."""
        load(
            MINIMAL,
            environment={
                "STOMPAUTH_URL": "https://chat.example.com",
                "STOMPAUTH_TOKEN": "abc",
                "STOMPAUTH_SERVICE_HOST": "10.0.0.1",
                "STOMPAUTH_SERVICE_PORT": "80",
                "STOMPAUTH_SERVICE_PORT_HTTP": "80",
                "STOMPAUTH_PORT": "tcp://10.0.0.1:80",
                "STOMPAUTH_PORT_80_TCP": "tcp://10.0.0.1:80",
                "STOMPAUTH_PORT_80_TCP_PROTO": "tcp",
                "STOMPAUTH_PORT_80_TCP_PORT": "80",
                "STOMPAUTH_PORT_80_TCP_ADDR": "10.0.0.1",
                "STOMPAUTH_CONTROL_SERVICE_HOST": "10.0.0.2",
            },
        )

    def test_not_utf_8(self) -> None:
        """Octets that are no text are a mistake."""
        self.assertEqual(
            self.mistaken({"STOMPAUTH_WEBSOCKET__PATH": "/\udcff"}),
            {"STOMPAUTH_WEBSOCKET__PATH": "is not UTF-8"},
        )

    @settings(deadline=None, max_examples=100)
    @given(st.sampled_from([path for path, _ in keys()]), st.text(max_size=20))
    def test_any_text(self, path: str, text: str) -> None:
        """Whatever a variable says, it is read or it is a mistake."""
        try:
            load(MINIMAL, environment={variable(path): text})
        except ConfigError as error:
            self.assertTrue(error.mistakes)


class OrderTests(EnvironmentCase):
    """Defaults, then the file, then the environment, then the command line."""

    def test_order(self) -> None:
        """Each source replaces what those before it say, and it is known whose value counts."""
        text = 'listen = ["unix:/file"]\nworkers = 2\nfast_io = false\n' + MINIMAL
        given_ = Given.gather(
            text,
            {"listen": ["unix:/command-line"]},
            {"STOMPAUTH_LISTEN": '["unix:/environment"]', "STOMPAUTH_WORKERS": "1"},
        )
        config = given_.config()
        self.assertEqual(config.listen, ("unix:/command-line",))
        self.assertEqual(config.workers, 1)
        self.assertEqual(
            {path: given_.sources.get(path) for path in ("listen", "workers", "fast_io", "roles")},
            {
                "listen": "command line",
                "workers": "environment",
                "fast_io": "file",
                "roles": None,
            },
        )

    def test_new_section(self) -> None:
        """A section that the file does not have can be set."""
        config = load(MINIMAL, environment={"STOMPAUTH_LOGOUT__PATH": "/logout"})
        self.assertEqual(config.logout.path, "/logout")

    def test_no_section(self) -> None:
        """A variable of what is no section in the file does not hide that."""
        text = "logout = 3\n" + MINIMAL
        self.assertEqual(
            self.mistaken({"STOMPAUTH_LOGOUT__PATH": "/logout"}, text),
            {"logout": "must be a table"},
        )

    def test_required(self) -> None:
        """A required key may come by the environment alone, and a key file by its path."""
        directory = self.directory()
        (directory / "secret").write_bytes(b"hunter2." * 4)
        file = directory / "stompauth.toml"
        file.write_text(MINIMAL[MINIMAL.index("[[rules]]") :], "utf-8")
        config = load(
            file,
            environment={
                "STOMPAUTH_JWT__ALGORITHMS": '["HS256"]',
                "STOMPAUTH_JWT__SECRET_FILE": "secret",
                "STOMPAUTH_JWT__ISSUER": "https://id.example.com/",
                "STOMPAUTH_JWT__AUDIENCE": "chat",
                "STOMPAUTH_WEBSOCKET__ORIGINS": '["https://chat.example.com"]',
            },
        )
        self.assertEqual(config.jwt.secret_file, (str(directory / "secret"),))


class PageTests(SynchronousTestCase):
    """docs/configuration.md."""

    def test_example(self) -> None:
        """Its variables are good ones."""
        section = PAGE.read_text("utf-8").split("\n## The environment\n")[1].split("\n## ")[0]
        block = section.split("```sh\n")[1].split("```")[0]
        environment = dict(re.findall(r"^(STOMPAUTH_\w+)='?([^'\n]*)'?$", block, re.M))
        self.assertEqual(len(environment), len(block.splitlines()))
        config = load(MINIMAL, environment=environment)
        self.assertNotEqual(config, load(MINIMAL))
