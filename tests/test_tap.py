"""The command of twistd and twist."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import twisted.internet
from twisted.application.service import Application, IService, IServiceMaker
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogLevel, jsonFileLogObserver, textFileLogObserver
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from stompauth.logs import json_file_log_observer, text_file_log_observer
from stompauth.tap import Options, makeService
from stompauth.workers.log import worker_log_observer
from stompauth.workers.parent import WorkersService
from stompauth.workers.start import Start

CONFIG = """
listen = ["tcp:8080:interface=127.0.0.1"]

[jwt]
algorithms = ["HS256"]
secret_file = "secret"
issuer = "https://id.example.com/"
audience = "chat"

[websocket]
origins = ["https://chat.example.com"]

[[rules]]
allow = ["subscribe"]
destination = "/topic/a"
"""


class TapCase(SynchronousTestCase):
    """Has a configuration file, and catches what is printed."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        (directory / "secret").write_bytes(b"hunter2." * 4)
        self.file = directory / "stompauth.toml"
        self.file.write_text(CONFIG, "utf-8")
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.stdout)
        self.patch(sys, "stderr", self.stderr)

    def parse(self, *arguments: str) -> Options:
        """Options of a command line."""
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def usage_error(self, *arguments: str) -> str:
        """What is wrong with a command line."""
        return str(self.assertRaises(UsageError, self.parse, *arguments))


class OptionsTests(TapCase):
    """The options are those of the contract."""

    def test_config(self) -> None:
        """The file is read while the options are parsed."""
        config = self.parse("--config", str(self.file)).config
        assert config is not None
        self.assertEqual(config.listen, ("tcp:8080:interface=127.0.0.1",))
        self.assertEqual(self.stdout.getvalue(), "")

    def test_listen(self) -> None:
        """``--listen`` replaces the list of the file, and may be repeated."""
        listen = ["tcp:0:interface=127.0.0.1", "unix:/run/stompauth.sock"]
        arguments = [part for endpoint in listen for part in ("--listen", endpoint)]
        config = self.parse("-c", str(self.file), *arguments).config
        assert config is not None
        self.assertEqual(config.listen, tuple(listen))

    def test_options_are_apart(self) -> None:
        """Two sets of options share nothing."""
        self.parse("-c", str(self.file), "--listen", "tcp:0:interface=127.0.0.1")
        self.assertEqual(Options()["listen"], [])

    def test_workers(self) -> None:
        """``--workers`` replaces the number of the file, and is checked like it."""
        config = self.parse("-c", str(self.file), "--workers", "1").config
        assert config is not None
        self.assertEqual(config.workers, 1)
        self.assertIn(
            "workers: must be at least 1", self.usage_error("-c", str(self.file), "--workers", "0")
        )
        self.usage_error("-c", str(self.file), "--workers", "many")

    def test_mistakes(self) -> None:
        """Every mistake of the file, and of the command line, is told, with its key's path."""
        self.file.write_text(CONFIG.replace("issuer", "isuer"), "utf-8")
        lines = self.usage_error("-c", str(self.file), "--listen", "tcp:80").splitlines()[1:]
        self.assertEqual(
            [line.partition(":")[0] for line in lines], ["listen[0]", "jwt.issuer", "jwt.isuer"]
        )

    def test_no_file(self) -> None:
        """A file that is not there is told without a traceback."""
        missing = str(self.file.with_name("missing.toml"))
        self.assertIn("No such file", self.usage_error("-c", missing))

    def test_neither(self) -> None:
        """Without a file and without the demo there is nothing to do."""
        self.assertIn("--config or --demo", self.usage_error())

    def test_demo_alone(self) -> None:
        """The demo takes no file and has nothing to check."""
        for more in (["--config", str(self.file)], ["--check"], ["--workers", "2"]):
            self.assertIn(more[0], self.usage_error("--demo", *more))

    def test_help(self) -> None:
        """The help names every option."""
        text = str(Options())
        for option in ("--config=", "--listen=", "--workers=", "--check", "--demo"):
            self.assertIn(option, text)


class CheckTests(TapCase):
    """``--check`` prints, and exits."""

    def test_good(self) -> None:
        """What would be run with goes to stdout, and the exit status is 0."""
        arguments = ["-c", str(self.file), "--check", "--listen", "tcp:0:interface=127.0.0.1"]
        exit_ = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertEqual(exit_.code, 0)
        printed = tomllib.loads(self.stdout.getvalue())
        self.assertEqual(printed["listen"], ["tcp:0:interface=127.0.0.1"])
        self.assertEqual(
            printed["jwt"]["secret_file"], [str(self.file.absolute().parent / "secret")]
        )
        self.assertNotIn("hunter2", self.stdout.getvalue())
        self.assertEqual(self.stderr.getvalue(), "")

    def test_sources(self) -> None:
        """Each setting is printed with where its value comes from."""
        self.patch(os, "environ", {**os.environ, "STOMPAUTH_LIMITS__SESSIONS": "0"})
        arguments = ["-c", str(self.file), "--check", "--workers", "1"]
        self.assertRaises(SystemExit, self.parse, *arguments)
        lines = self.stdout.getvalue().splitlines()
        for line in (
            "workers = 1  # command line",
            "sessions = 0  # none, environment",
            'issuer = "https://id.example.com/"  # file',
            "leeway = 10  # default",
        ):
            self.assertIn(line, lines)

    def test_bad(self) -> None:
        """Every mistake has its line, and the exit status is 1."""
        self.file.write_text(CONFIG.replace("issuer", "isuer"), "utf-8")
        exit_ = self.assertRaises(SystemExit, self.parse, "-c", str(self.file), "--check")
        self.assertEqual(exit_.code, 1)
        self.assertEqual(len(self.stderr.getvalue().splitlines()), 2)
        self.assertEqual(self.stdout.getvalue(), "")


class MakeServiceCase(TapCase):
    """Has a reactor that twistd chose."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = MemoryReactorClock()
        # Where `from twisted.internet import reactor` looks first, whether one is installed or not.
        names = vars(twisted.internet)
        installed = {"reactor": names["reactor"]} if "reactor" in names else {}
        names["reactor"] = self.reactor
        self.addCleanup(lambda: (names.pop("reactor"), names.update(installed)))


class MakeServiceTests(MakeServiceCase):
    """The service is made of the options, for the reactor that twistd chose."""

    def ports(self, *arguments: str) -> list[tuple[int, str]]:
        """Port and interface of each listener of a command line's service."""
        service = makeService(self.parse(*arguments))
        self.assertTrue(IService.providedBy(service))
        self.assertEqual(self.reactor.tcpServers, [])
        service.privilegedStartService()
        return [(server[0], server[3]) for server in self.reactor.tcpServers]

    def test_config(self) -> None:
        """With a file, the service listens where the file says."""
        self.assertEqual(self.ports("-c", str(self.file)), [(8080, "127.0.0.1")])

    def test_workers(self) -> None:
        """With workers, this process is their parent."""
        service: Any = makeService(self.parse("-c", str(self.file), "--workers", "2"))
        self.assertIsInstance(service.services[0], WorkersService)

    def test_worker(self) -> None:
        """A worker is what its parent says; without a parent it is a mistake to ask for one."""
        listen = "tcp:0:interface=127.0.0.1"
        parent = self.parse("-c", str(self.file), "--workers=2", "--listen", listen)
        arguments = parent.worker_command(self.reactor)
        self.assertEqual(arguments[:3], [sys.executable, "-m", "twisted"])
        start = Start(0, 2, self.mktemp(), {"listen": ()})
        self.patch(Start, "read", lambda: start)
        options = Options()
        runner: dict[str, Any] = {"fileLogObserverFactory": None}
        options.parent = runner
        options.parseOptions(arguments[arguments.index("stompauth") + 1 :])
        assert options.config is not None
        self.assertEqual(options.config.listen, (listen,))
        self.assertEqual(options.start, start)
        self.assertIs(runner["fileLogObserverFactory"], worker_log_observer)
        self.assertTrue(IService.providedBy(makeService(options)))

        def nobody() -> Start:
            raise ValueError("no parent")

        self.patch(Start, "read", nobody)
        self.assertIn("no parent", self.usage_error("-c", str(self.file), "--worker"))

    def test_demo(self) -> None:
        """The demo listens on loopback, or where the command line says, if that is loopback."""
        self.assertEqual(self.ports("--demo"), [(8080, "127.0.0.1")])
        self.reactor.tcpServers.clear()
        listen = "tcp:0:interface=127.0.0.2"
        self.assertEqual(self.ports("--demo", "--listen", listen), [(0, "127.0.0.2")])

    def test_demo_off_loopback(self) -> None:
        """The demo, which signs in whoever asks, refuses to be reached from elsewhere."""
        for listen in ("tcp:8080", "tcp:8080:interface=0.0.0.0", "tls:certificates", "x"):
            options = self.parse("--demo", "--listen", listen)
            exit_ = self.assertRaises(SystemExit, makeService, options)
            self.assertIn(listen, str(exit_.code))
            self.assertEqual(self.reactor.tcpServers, [])


class LogFormatTests(MakeServiceCase):
    """``ops.log_format``, for whichever program runs the command."""

    def setUp(self) -> None:
        super().setUp()
        self.file.write_text(CONFIG + '[ops]\nlog_format = "json"\n', "utf-8")

    def run_by(self, runner: Any) -> Options:
        """Options, parsed as those of a command of the runner."""
        options = Options()
        options.parent = runner
        options.parseOptions(["-c", str(self.file)])
        return options

    def observer(self, **runner: object) -> object:
        """The observer that twistd, with such options, would find in its application."""
        options = self.run_by({"logfile": None, "nodaemon": 1, "syslog": 0, **runner})
        application = Application("stompauth")
        makeService(options).setServiceParent(application)
        return application.getComponent(ILogObserver, None)

    def test_stdout(self) -> None:
        """Under twistd -n, JSON goes to stdout."""
        for name in (None, "-"):
            observer: Any = self.observer(logfile=name)
            observer({"log_format": "hello", "log_namespace": "here"})
            line = self.stdout.getvalue().splitlines()[-1]
            self.assertEqual(json.loads(line)["message"], "hello")

    def test_file(self) -> None:
        """With a log file it goes there; the signal that rotates such a file is taken."""
        previous = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.addCleanup(signal.signal, signal.SIGUSR1, previous)
        name = self.file.with_name("server.log")
        observer: Any = self.observer(logfile=str(name))
        observer({"log_format": "hello"})
        self.assertEqual(json.loads(name.read_text("utf-8"))["message"], "hello")
        vars(self.reactor)["callFromThread"] = lambda call: call()
        signal.raise_signal(signal.SIGUSR1)
        self.assertIn('"hello"', name.with_name("server.log.1").read_text("utf-8"))

    def test_text(self) -> None:
        """Without it twistd logs text, as it always does."""
        self.file.write_text(CONFIG, "utf-8")
        observer: Any = self.observer()
        observer({"log_format": "hello", "log_namespace": "here", "log_level": LogLevel.info})
        self.assertEqual(self.stdout.getvalue().splitlines()[-1], "- [here#info] hello")

    def test_text_elsewhere(self) -> None:
        """What is not to be text in a file, or cannot be, is left to twistd."""
        self.file.write_text(CONFIG, "utf-8")
        self.assertIsNone(self.observer(syslog=1))
        self.assertIsNone(self.observer(logfile="-", nodaemon=0))

    def test_twist_text(self) -> None:
        """Under twist text is written by our observer, and what else was chosen is left."""
        self.file.write_text(CONFIG, "utf-8")
        for chosen, used in (
            (textFileLogObserver, text_file_log_observer),
            (jsonFileLogObserver, jsonFileLogObserver),
        ):
            runner: dict[str, object] = {"fileLogObserverFactory": chosen}
            self.assertIsNone(self.run_by(runner).log_observer)
            self.assertIs(runner["fileLogObserverFactory"], used)

    def test_refused(self) -> None:
        """What would be text, or nowhere, is refused."""
        for runner in (
            {"logfile": None, "nodaemon": 1, "syslog": 1},
            {"logfile": "-", "nodaemon": 0, "syslog": 0},
        ):
            self.assertRaises(UsageError, self.run_by, runner)

    def test_twist(self) -> None:
        """Under twist, its choice of a format is replaced."""
        runner: dict[str, object] = {"fileLogObserverFactory": None}
        self.assertIsNone(self.run_by(runner).log_observer)
        self.assertIs(runner["fileLogObserverFactory"], json_file_log_observer)


class PluginTests(SynchronousTestCase):
    """twistd and twist find the command."""

    def test_plugin(self) -> None:
        """The plugin is there, and leads to these options."""
        (maker,) = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "stompauth"]
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)
