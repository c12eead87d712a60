"""The commands, in memory."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stompauth.cli.commands import Machine, stompauth
from stompauth.identity.keys import StaticKey
from stompauth.identity.verifier import JWTVerifier
from tests.applications import AUDIENCE, ISSUER, NOW, SECRET
from tests.client.servers import ClientCase

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

CONFIG = f"""
listen = ["tcp:8080:interface=127.0.0.1"]

[jwt]
algorithms = ["HS256"]
secret_file = "secret"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"

[websocket]
origins = ["https://chat.example.com"]

[[rules]]
name = "no cellar"
deny = ["subscribe"]
destination = "/topic/rooms/cellar"

[[rules]]
name = "room members"
allow = ["subscribe", "send"]
destination = "/topic/rooms/{{room}}"
authorities = ["chat"]
claims = {{ rooms = "{{room}}" }}
"""


class CommandCase(ClientCase):
    """Runs commands against a server in memory, in a directory of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.meanwhile: Callable[[], object] = lambda: None
        self.ca_files: list[Path | None] = []

    def file(self, name: str, content: str | bytes) -> str:
        """Make a file, and give its path."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def run_work(self, work: Any) -> None:
        """Run what a command does, and what the test does meanwhile."""

        async def run() -> None:
            await work(self.clock)

        results: list[Any] = []
        Deferred.fromCoroutine(run()).addBoth(results.append)
        self.server.flush()
        self.meanwhile()
        self.server.flush()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()

    def endpoints(self, reactor: Any, ca_file: Path | None) -> Any:
        """The server in memory, whatever the CAs."""
        self.ca_files.append(ca_file)
        return self.server

    def invoke(self, *arguments: str, **more: Any) -> Result:
        """Run a command line."""
        machine = Machine(self.run_work, self.endpoints)
        more = {"env": {"STOMPAUTH_TOKEN": None, "STOMPAUTH_URL": None}, **more}
        result = CliRunner().invoke(stompauth, list(arguments), obj=machine, **more)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def output(self, *arguments: str, **more: Any) -> str:
        """What a command line that succeeds prints."""
        result = self.invoke(*arguments, **more)
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def as_user(self, *rooms: str) -> list[str]:
        """Options that say as whom, and from where."""
        token_file = self.file("token", self.token("alice", *rooms) + "\n")
        return ["--token-file", token_file, "--origin", "https://client.example"]


class TokenTests(CommandCase):
    """``stompauth token``."""

    def sign(self, *arguments: str, secret: bytes = SECRET + b"\n") -> Result:
        """Sign for alice."""
        return self.invoke(
            *("token", "--secret-file", self.file("secret", secret)),
            *("--issuer", ISSUER, "--audience", AUDIENCE, "--user", "alice"),
            *arguments,
        )

    def test_token(self) -> None:
        """A server with that secret takes the token."""
        verifier = JWTVerifier(
            StaticKey.hmac(SECRET),
            algorithms=["HS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            clock=self.clock,
        )
        result = self.sign("--claim", 'rooms=["lobby"]', "--claim", "scope=chat", "--lifetime", "9")
        principal = self.successResultOf(verifier.verify(result.stdout.strip()))
        self.assertEqual(principal.name, "alice")
        self.assertEqual(principal.authorities, {"chat"})
        self.assertEqual(principal.claims["rooms"], ["lobby"])
        self.assertEqual((principal.issued_at, principal.expires_at), (NOW, NOW + 9))

    def test_claims(self) -> None:
        """A claim is text, unless it looks like JSON."""
        given = {"a": "1", "b": "true", "c": '"x"', "d": '{"e": 1}', "f": "x=y", "g": ""}
        options = [part for name, value in given.items() for part in ("--claim", f"{name}={value}")]
        claims = jwt.decode(self.sign(*options).stdout.strip(), options={"verify_signature": False})
        self.assertEqual(
            {name: claims[name] for name in given},
            {"a": "1", "b": "true", "c": "x", "d": {"e": 1}, "f": "x=y", "g": ""},
        )

    def test_bad_claims(self) -> None:
        """What is no claim is a mistake."""
        for claim in ("a", "=b", "a=[1"):
            result = self.sign("--claim", claim)
            self.assertEqual(result.exit_code, 2)
            self.assertIn(claim, result.stderr)

    def test_bad_secret(self) -> None:
        """A secret that no server takes signs nothing, and is not shown."""
        result = self.sign(secret=b"hunter2")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("--secret-file", result.stderr)
        self.assertNotIn("hunter2", result.output)
        self.assertEqual(self.sign("--algorithm", "HS512").exit_code, 2)
        self.assertEqual(self.sign("--algorithm", "none").exit_code, 2)


class TicketTests(CommandCase):
    """``stompauth ticket``, and how a server is named to all of them."""

    def test_ticket(self) -> None:
        """The ticket opens a WebSocket, for the token's user."""
        ticket = self.output("ticket", *self.as_user()).strip()
        grant = self.server.result_of(self.application._tickets.redeem(ticket))
        self.assertEqual(grant.user, "alice")

    def test_token_sources(self) -> None:
        """A token comes from a file, from stdin or from the environment."""
        self.output("ticket", *self.as_user())
        self.output("ticket", "--token-file", "-", input=self.token() + "\n")
        self.output("ticket", env={"STOMPAUTH_TOKEN": self.token()})
        result = self.invoke("ticket")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("STOMPAUTH_TOKEN", result.stderr)

    def test_no_secrets_in_arguments(self) -> None:
        """There is no option for a token or a secret itself."""
        for name, command in stompauth.commands.items():
            options = {option for parameter in command.params for option in parameter.opts}
            self.assertTrue(options.isdisjoint({"--token", "--secret", "--jwt"}), name)

    def test_refused(self) -> None:
        """What the server refuses is a line on stderr, and exit status 1."""
        result = self.invoke("ticket", "--token-file", self.file("token", "abc"))
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stderr, "stompauth: unauthorized, HTTP status 401\n")

    def test_bad_token(self) -> None:
        """What cannot be a token is not sent, and not shown."""
        result = self.invoke("ticket", "--token-file", self.file("token", "hunter 2"))
        self.assertEqual(result.exit_code, 1)
        self.assertNotIn("hunter", result.output)

    def test_bad_url(self) -> None:
        """So is a URL that is none."""
        result = self.invoke("ticket", *self.as_user(), "--url", "example.com")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("https://", result.stderr)

    def test_ca_file(self) -> None:
        """The CAs to trust can be named."""
        file = self.file("ca.pem", "")
        self.output("ticket", *self.as_user(), "--ca-file", file)
        self.assertEqual(self.ca_files, [Path(file)])


class SendTests(CommandCase):
    """``stompauth send``."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.server.connect(self.token("bob"))
        self.listener.subscribe("/topic/rooms/lobby")

    def test_send(self) -> None:
        """The message is with the server when the command ends; and then the session has ended."""
        arguments = ["--header", "kind=a=b", "/topic/rooms/lobby", "grüß Gott"]
        self.assertEqual(self.output("send", *self.as_user(), *arguments), "")
        (message,) = self.listener.messages
        self.assertEqual(message.text, "grüß Gott")
        self.assertEqual(message.headers["kind"], "a=b")
        self.assertEqual(len(self.application.sessions), 1)

    def test_stdin(self) -> None:
        """Octets come from stdin as they are."""
        self.output("send", *self.as_user(), "/topic/rooms/lobby", "-", input=b"\xff\0\n")
        self.assertEqual([message.body for message in self.listener.messages], [b"\xff\0\n"])

    def test_two_from_stdin(self) -> None:
        """Token and body cannot both come from there."""
        result = self.invoke("send", "--token-file", "-", "/topic/rooms/lobby", "-", input="x")
        self.assertEqual(result.exit_code, 2)

    def test_refused(self) -> None:
        """A refusal is told, with the server's words."""
        result = self.invoke("send", *self.as_user(), "/topic/rooms/cellar", "x")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(
            result.stderr,
            "stompauth: access-denied, closed with 4403: 'No rule allows this.'\n",
        )

    def test_bad_header(self) -> None:
        """What is no header is a mistake."""
        result = self.invoke("send", *self.as_user(), "--header", "x", "/topic/rooms/lobby", "x")
        self.assertEqual(result.exit_code, 2)


class TailTests(CommandCase):
    """``stompauth tail``."""

    def test_tail(self) -> None:
        """Each message is a line of JSON, and no more come than were asked for."""
        bodies: list[str | bytes] = ["1\n\x1b[2J", b"\xff", "3", "4"]

        def publish() -> None:
            for body in bodies:
                self.application.publish("/topic/rooms/lobby", body, {"kind": "x"})

        self.meanwhile = publish
        lines = self.output("tail", *self.as_user(), "--count", "3", "/topic/rooms/lobby")
        self.assertNotIn("\x1b", lines)
        shown = [json.loads(line) for line in lines.splitlines()]
        self.assertEqual(
            [message.get("body", message.get("body_base64")) for message in shown],
            ["1\n\x1b[2J", "/w==", "3"],
        )
        self.assertEqual(shown[0]["destination"], "/topic/rooms/lobby")
        self.assertEqual(shown[0]["headers"]["kind"], "x")
        self.assertEqual(len(self.application.sessions), 0)

    def test_end(self) -> None:
        """When the session ends, that is told."""
        self.meanwhile = lambda: self.application.revoke(user="alice")
        result = self.invoke("tail", *self.as_user(), "/topic/rooms/lobby")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("stompauth: revoked, closed with 4403", result.stderr)

    def test_refused(self) -> None:
        """So is a refusal, once."""
        result = self.invoke("tail", *self.as_user(), "/topic/rooms/cellar")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stderr.count("access-denied"), 1)


class ConfigTests(CommandCase):
    """``stompauth check`` and ``stompauth explain``."""

    def setUp(self) -> None:
        super().setUp()
        self.file("secret", SECRET)
        self.config = self.file("stompauth.toml", CONFIG)
        self.claims = {"sub": "alice", "scope": "chat", "rooms": ["lobby"]}

    def explain(self, *arguments: str, **more: Any) -> tuple[int, list[str]]:
        """The exit status, and the lines that are printed."""
        if "--claims" not in arguments and "--token-file" not in arguments:
            claims = self.file("claims", json.dumps(self.claims))
            arguments = ("--claims", claims, *arguments)
        result = self.invoke("explain", "--config", self.config, *arguments, **more)
        return result.exit_code, result.output.splitlines()

    def test_check(self) -> None:
        """A good configuration is shown as it is run with; a bad one with all that is wrong."""
        self.assertEqual(
            tomllib.loads(self.output("check", "-c", self.config))["jwt"]["issuer"], ISSUER
        )
        bad = self.file("bad.toml", CONFIG.replace("issuer", "isuer"))
        result = self.invoke("check", "--config", bad)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("jwt.isuer", result.stderr)

    def test_allowed(self) -> None:
        """The deciding rule is named, and why those before it do not decide."""
        status, lines = self.explain("SUBSCRIBE", "/topic/rooms/lobby")
        self.assertEqual(status, 0)
        self.assertEqual(
            lines,
            [
                "no cellar: is about other destinations",
                "room members: decides",
                "allowed: rule 'room members' allows it",
            ],
        )

    def test_denied(self) -> None:
        """A denial has exit status 1; whether by a rule, or by none."""
        status, lines = self.explain("subscribe", "/topic/rooms/cellar")
        self.assertEqual((status, lines[-1]), (1, "denied: rule 'no cellar' denies it"))
        status, lines = self.explain("SEND", "/topic/rooms/attic")
        self.assertEqual(status, 1)
        self.assertEqual(
            lines[1:],
            ["room members: claim rooms does not hold {room}", "denied: no rule matches"],
        )

    def test_by_form(self) -> None:
        """What the form of a destination decides needs no rule, or has none."""
        self.assertEqual(
            self.explain("SUBSCRIBE", "/user/queue/errors"),
            (0, ["allowed: no rule is needed for that"]),
        )
        for command, destination, code in (
            ("SUBSCRIBE", "/user/bob/queue/x", "access-denied"),
            ("SEND", "/topic/rooms/../x", "bad-destination"),
            ("SEND", "/topic/rooms/*", "bad-destination"),
            ("SUBSCRIBE", "/queue/*", "no-such-destination"),
        ):
            status, (line,) = self.explain(command, destination)
            self.assertEqual(status, 1)
            self.assertIn(f"denied: {code};", line)

    def test_token(self) -> None:
        """A token may stand for its claims, and be old; so may claims from stdin."""
        token = jwt.encode({**self.claims, "exp": 1}, bytes(32), "HS256")
        for arguments, more in (
            (("--token-file", self.file("token", token + "\n")), {}),
            (("--claims", "-"), {"input": json.dumps(self.claims)}),
        ):
            status, _ = self.explain(*arguments, "SEND", "/topic/rooms/lobby", **more)
            self.assertEqual(status, 0)

    def test_no_claims(self) -> None:
        """What has no claims is a mistake, and not shown."""
        for option in ("--token-file", "--claims"):
            for content in ("", "hunter2", "[]"):
                file = self.file("hunter", content)
                status, lines = self.explain(option, file, "SEND", "/topic/x")
                self.assertEqual(status, 2)
                self.assertIn(option, lines[-1])
                self.assertNotIn("hunter2", lines[-1])

    def test_either(self) -> None:
        """Claims or a token, and not both, or neither."""
        file = self.file("claims", "{}")
        both = ("--claims", file, "--token-file", file)
        self.assertEqual(self.explain(*both, "SEND", "/topic/x")[0], 2)
        result = self.invoke("explain", "-c", self.config, "SEND", "/topic/x")
        self.assertEqual(result.exit_code, 2)

    def test_nobody(self) -> None:
        """Claims that name nobody, or have no authorities, cannot be judged."""
        for wrong in ({"sub": "a/b"}, {"sub": 7}, {"scope": 7}):
            claims = self.file("claims", json.dumps({**self.claims, **wrong}))
            status, lines = self.explain("--claims", claims, "SEND", "/topic/x")
            self.assertEqual(status, 2)
            self.assertIn(next(iter(wrong)), lines[-1])

    def test_http(self) -> None:
        """An authorizer that would be asked as well is named."""
        self.config = self.file(
            "stompauth.toml",
            f'{CONFIG}\n[authorization]\nhttp = "https://rights.example.com/may"\n',
        )
        _, lines = self.explain("SEND", "/topic/rooms/lobby")
        self.assertIn("https://rights.example.com/may is asked too", lines[-1])

    def test_bad_config(self) -> None:
        """Mistakes in the configuration are told."""
        self.config = self.file("stompauth.toml", CONFIG.replace("issuer", "isuer"))
        status, lines = self.explain("SEND", "/topic/rooms/lobby")
        self.assertEqual(status, 2)
        self.assertIn("jwt.isuer", "\n".join(lines))
