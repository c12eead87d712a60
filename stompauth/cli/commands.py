"""The commands. Tokens and secrets come from files, stdin or the environment: everybody on the
machine can read a command line."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click
import jwt
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react

from stompauth.authorization.destination import Destination
from stompauth.authorization.forms import needs_rule
from stompauth.authorization.rules import Rules
from stompauth.client.connector import Connector
from stompauth.client.endpoints import ClientEndpoints
from stompauth.client.settings import ClientSettings
from stompauth.config import load
from stompauth.errors import BadToken, ClientError, ConfigError, Refused
from stompauth.identity.keys import HMAC_ALGORITHMS, StaticKey
from stompauth.identity.principal import Principal
from stompauth.identity.verifier import authorities_of, is_user_name
from stompauth.tap import Options
from stompauth.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.web.iweb import IAgentEndpointFactory

    from stompauth.client.subscription import Message
    from stompauth.config import JwtConfig
    from stompauth.errors import Disconnected

    #: What a command does on the reactor, which it is given.
    Work: TypeAlias = Callable[[Any], Awaitable[None]]

#: Where a token may be instead of a file.
VARIABLE: Final = "STOMPAUTH_TOKEN"

#: The exit status of what Ctrl-C has ended.
_INTERRUPTED: Final = 130

_READABLE = click.Path(exists=True, dir_okay=False, allow_dash=True)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Machine:
    """What the commands run on.

    :ivar run: runs work to its end, and exits with 1 if it fails.
    :ivar endpoints: how a server is reached, for a file of CAs; None for the client's own way.
    """

    run: Callable[[Work], None]
    endpoints: Callable[[Any, Path | None], IAgentEndpointFactory | None]


def _run(work: Work) -> None:
    async def run(reactor: Any) -> None:
        try:
            await work(reactor)
        except CancelledError as interrupted:
            raise SystemExit(_INTERRUPTED) from interrupted

    def begin(reactor: Any) -> Deferred[None]:
        running = Deferred.fromCoroutine(run(reactor))
        reactor.addSystemEventTrigger("before", "shutdown", running.cancel)
        return running

    react(begin)


def _endpoints(reactor: Any, ca_file: Path | None) -> IAgentEndpointFactory | None:
    return ClientEndpoints(reactor, ca_file) if ca_file else None


#: The reactor and the network.
MACHINE: Final = Machine(_run, _endpoints)


@dataclass(frozen=True)
class Server:
    """A server that a command talks to, and as whom.

    :ivar machine: what the command runs on.
    :ivar token_file: where the token is; ``-`` for stdin, None for the environment.
    """

    machine: Machine
    url: str
    token_file: str | None
    origin: str | None
    ca_file: Path | None

    def run(self, work: Callable[[Connector], Awaitable[None]]) -> None:
        """Do the work with what connects to the server.

        :raises SystemExit: it could not be done; a line on stderr says why.
        :raises click.UsageError: there is no token.
        """
        read_token = self._token_reader()

        async def report(reactor: Any) -> None:
            try:
                endpoints = self.machine.endpoints(reactor, self.ca_file)
                settings = ClientSettings(origin=self.origin)
                await work(Connector(reactor, self.url, read_token, settings, endpoints))
            except (ClientError, OSError, ValueError) as error:
                click.echo(f"stompauth: {_described(error)}", err=True)
                raise SystemExit(1) from error

        self.machine.run(report)

    def _token_reader(self) -> Callable[[], str]:
        """What reads a file anew each time, so that a session goes on when it has a fresh token."""
        file = self.token_file
        if file is not None and file != "-":
            return lambda: Path(file).read_text("utf-8").strip()
        token = sys.stdin.read() if file == "-" else os.environ.get(VARIABLE)
        if token is None:
            raise click.UsageError(f"A token is needed: --token-file, or {VARIABLE}.")
        stripped = token.strip()
        return lambda: stripped


def _described(error: Exception) -> str:
    if isinstance(error, ClientError) and error.explanation:
        # The server's words: nothing in them is for a terminal to act upon.
        return f"{error}: {error.explanation!r}"
    return f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error)


def _with_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which server, and give the command a :class:`Server`."""

    @click.option(
        "--url",
        envvar="STOMPAUTH_URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        help="The server; or the variable STOMPAUTH_URL.",
    )
    @click.option(
        "--token-file",
        type=_READABLE,
        help=f"The JWT; - for stdin. Without it, the variable {VARIABLE}.",
    )
    @click.option("--origin", help="What goes out as Origin; the server may want one.")
    @click.option("--ca-file", type=_FILE, help="The only CAs to trust, as PEM.")
    @click.pass_obj
    @wraps(command)
    def with_server(
        machine: Machine,
        /,
        url: str,
        token_file: str | None,
        origin: str | None,
        ca_file: Path | None,
        **arguments: Any,
    ) -> None:
        command(Server(machine, url, token_file, origin, ca_file), **arguments)

    return with_server


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stompauth")
@click.pass_context
def stompauth(context: click.Context) -> None:
    """Work with a stompauth server, and with its configuration.

    The server itself is run by `twistd stompauth`.
    """
    if context.obj is None:
        context.obj = MACHINE


def _split(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint=option)
    return name, value


def _as_claim(text: str) -> tuple[str, object]:
    name, value = _split(text, "--claim")
    if value[:1] not in ("[", "{", '"'):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no JSON.", param_hint="--claim") from None


@stompauth.command()
@click.option(
    "--secret-file", type=_FILE, required=True, help="The HMAC secret that the server verifies by."
)
@click.option("--issuer", required=True, help="The claim iss.")
@click.option("--audience", required=True, help="The claim aud.")
@click.option("--user", required=True, help="The claim sub.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    help="A further claim; a VALUE that begins with [, { or a double quote is JSON.",
)
@click.option(
    "--lifetime", default=300, show_default=True, type=click.IntRange(1), help="In seconds."
)
@click.option(
    "--algorithm", default="HS256", show_default=True, type=click.Choice(sorted(HMAC_ALGORITHMS))
)
@click.pass_obj
def token(
    machine: Machine,
    secret_file: Path,
    issuer: str,
    audience: str,
    user: str,
    claims: tuple[str, ...],
    lifetime: int,
    algorithm: str,
) -> None:
    """Sign a token, for development.

    Who has the secret can be any user. In production, tokens come from your login.
    """
    try:
        StaticKey.from_secret_files(secret_file).check_algorithms([algorithm])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--secret-file") from error
    secret = secret_file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    more = dict(map(_as_claim, claims))

    async def sign(reactor: Any) -> None:
        now = int(reactor.seconds())
        own = {"iss": issuer, "aud": audience, "sub": user, "iat": now, "exp": now + lifetime}
        click.echo(jwt.encode({**own, **more}, secret, algorithm))

    machine.run(sign)


@stompauth.command()
@_with_server
def ticket(server: Server) -> None:
    """Trade a token for a ticket, and print that."""

    async def trade(connector: Connector) -> None:
        click.echo(await connector.fetch_ticket(await connector.ask_for_token()))

    server.run(trade)


@stompauth.command()
@_with_server
@click.option("--count", type=click.IntRange(1), help="End after so many messages.")
@click.argument("destination")
def tail(server: Server, destination: str, count: int | None) -> None:
    """Subscribe, and print what comes: one JSON object to a line.

    It has `destination`, `headers`, and `body`, or `body_base64` where that is no text.
    """

    async def follow(connector: Connector) -> None:
        over: Deferred[None] = Deferred()
        shown = 0

        def show(message: Message) -> None:
            nonlocal shown
            click.echo(json.dumps(_shown(message)))
            shown += 1
            if shown == count:
                over.callback(None)

        def ended(reason: Disconnected) -> None:
            if not over.called:
                over.errback(reason)

        client = await connector.connect(ended)
        try:
            await client.subscribe(destination, show)
            await over
        finally:
            # If it was the subscription that ended the session, nobody has asked this.
            over.addErrback(lambda _: None)
        await client.disconnect()

    server.run(follow)


def _shown(message: Message) -> dict[str, object]:
    # JSON has no control characters, which could tell a terminal to do things.
    shown: dict[str, object] = {
        "destination": message.destination,
        "headers": dict(message.headers),
    }
    try:
        shown["body"] = message.body.decode()
    except UnicodeDecodeError:
        shown["body_base64"] = b64encode(message.body).decode("ascii")
    return shown


@stompauth.command()
@_with_server
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated."
)
@click.argument("destination")
@click.argument("body")
def send(server: Server, destination: str, body: str, headers: tuple[str, ...]) -> None:
    """Send a message, and wait until the server has it.

    BODY is text; with - it is what comes from stdin, as it is.
    """
    pairs = dict(_split(header, "--header") for header in headers)
    if body == server.token_file == "-":
        raise click.UsageError("Token and body cannot both come from stdin.")
    octets = sys.stdin.buffer.read() if body == "-" else body.encode()

    async def hand_over(connector: Connector) -> None:
        client = await connector.connect()
        await client.send(destination, octets, pairs)
        await client.disconnect()

    server.run(hand_over)


@stompauth.command()
@click.option("--config", "-c", type=_FILE, required=True, help="The configuration, a TOML file.")
def check(config: Path) -> None:
    """Say what a configuration comes to, or all that is wrong with it."""
    Options().parseOptions(["--config", str(config), "--check"])


@stompauth.command()
@click.option("--config", "-c", type=_FILE, required=True, help="The configuration, a TOML file.")
@click.option("--claims", type=_READABLE, help="The claims of a token, as JSON; - for stdin.")
@click.option("--token-file", type=_READABLE, help="A JWT, of which nothing is checked.")
@click.argument("command", type=click.Choice(["SUBSCRIBE", "SEND"], case_sensitive=False))
@click.argument("destination")
def explain(
    config: Path, claims: str | None, token_file: str | None, command: str, destination: str
) -> None:
    """Say whether somebody may SUBSCRIBE or SEND, by which rule, and why.

    The exit status is 0 if so, and 1 if not.
    """
    if (claims is None) == (token_file is None):
        raise click.UsageError("One of --claims and --token-file is needed.")
    try:
        configuration = load(config, environment=os.environ)
    except ConfigError as error:
        raise click.UsageError(f"There are mistakes in the configuration:\n{error}") from error
    principal = _principal(configuration.jwt, _claims(claims, token_file))
    verb = command.lower()
    try:
        parsed = Destination.parse(destination, pattern=verb == "subscribe")
        if not needs_rule(verb, parsed):
            click.echo("allowed: no rule is needed for that")
            return
    except Refused as refused:
        click.echo(f"denied: {refused.code}; {refused.consequence.explanation}")
        raise SystemExit(1) from refused
    rules = Rules(configuration.rules, on_deny=configuration.authorization.on_deny)
    click.echo(rules.explain(principal, verb, parsed))
    if configuration.authorization.http:
        click.echo(f"{configuration.authorization.http} is asked too, and has to allow it")
    if not rules.check(principal, verb, parsed).allowed:
        raise SystemExit(1)


def _claims(claims: str | None, token_file: str | None) -> dict[str, object]:
    hint = "--claims" if token_file is None else "--token-file"
    with click.open_file(claims or token_file or "-", encoding="utf-8") as file:
        text = file.read().strip()
    try:
        if token_file is None:
            found = json.loads(text)
        else:
            found = jwt.decode(text, options={"verify_signature": False})
    except (ValueError, jwt.PyJWTError):
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("There are no claims in it.", param_hint=hint)
    return found


def _principal(settings: JwtConfig, claims: dict[str, object]) -> Principal:
    """Whom the claims speak for, as the configuration reads them, at whatever time."""
    name = claims.get(settings.user_claim)
    if not isinstance(name, str) or not is_user_name(name):
        raise click.UsageError(f"The claim {settings.user_claim} is not the name of a user.")
    try:
        authorities = authorities_of(claims.get(settings.authorities_claim, ""))
    except BadToken:
        raise click.UsageError(
            f"The claim {settings.authorities_claim} has no authorities."
        ) from None
    return Principal(name, settings.issuer, 0, 0, authorities, claims)
