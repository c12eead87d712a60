"""The ``stompauth`` command of ``twistd`` and ``twist``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from twisted.application.reactors import getReactorTypes
from twisted.application.service import MultiService
from twisted.logger import FileLogObserver, ILogObserver, textFileLogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from stompauth.config import Config, Given, effective
from stompauth.errors import ConfigError
from stompauth.logs import json_file_log_observer, text_file_log_observer
from stompauth.workers.log import worker_log_observer
from stompauth.workers.start import Start

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.application.service import IService


class Options(usage.Options):
    """What the command line says.

    :ivar config: the configuration, once the options are parsed; None for the demo.
    :ivar log_observer: makes the observer that the service has to bring for twistd; None if it has
        to bring none.
    :ivar start: of a worker, what its parent has said.
    """

    synopsis = "[--config FILE | --demo] [options]"
    longdesc = (
        "Serve STOMP over WebSocket to clients that prove who they are: a JWT buys a one-time"
        " ticket, the ticket opens the WebSocket, and rules decide every frame."
        " docs/configuration.md describes the file; --demo needs none."
    )
    optFlags = [
        ["check", None, "Only say what the configuration comes to, or all that is wrong with it."],
        ["demo", None, "Serve a chat page with made-up users, on loopback only."],
        ["worker", None, "Be one of the processes of --workers, which starts them itself."],
    ]
    optParameters = [
        ["config", "c", None, "The configuration, a TOML file."],
        ["workers", None, None, "How many processes, in place of the file's number.", int],
    ]

    config: Config | None = None
    log_observer: Callable[[IO[Any]], FileLogObserver] | None = None
    start: Start | None = None

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """An endpoint to listen on, such as tcp:8080:interface=127.0.0.1, in place of those of the
        file; may be given several times."""
        self["listen"].append(endpoint)

    def postOptions(self) -> None:
        """Read the configuration.

        :raises usage.UsageError: the options do not go together, or the configuration has
            mistakes; all of them are told.
        :raises SystemExit: with ``--check``: 0, or 1 when there are mistakes.
        """
        if self["demo"]:
            for other in ("config", "workers", "worker", "check"):
                if self[other]:
                    raise usage.UsageError(f"--demo and --{other} do not go together.")
            return
        if self["config"] is None:
            raise usage.UsageError("Either --config or --demo is needed.")
        overrides = {"listen": self["listen"]} if self["listen"] else {}
        if self["workers"] is not None:
            overrides["workers"] = self["workers"]
        # twistd may go to another directory before it is read again.
        self._sources = (Path(self["config"]).absolute(), overrides, dict(os.environ))
        try:
            given = Given.gather(*self._sources)
            self.config = given.config()
        except ConfigError as error:
            if self["check"]:
                sys.stderr.write(f"{error}\n")
                raise SystemExit(1) from error
            raise usage.UsageError(f"there are mistakes in the configuration:\n{error}") from error
        if self["check"]:
            sys.stdout.write(effective(self.config, given.sources))
            raise SystemExit(0)
        if self["worker"]:
            self._be_worker()
        elif self.config.ops.log_format == "json":
            self._log_json()
        else:
            self._log_text()

    def _be_worker(self) -> None:
        """Do as the parent says, and log to it."""
        try:
            self.start = Start.read()
        except ValueError as error:
            raise usage.UsageError(str(error)) from error
        if self.parent is not None:
            self.parent["fileLogObserverFactory"] = worker_log_observer

    def worker_command(self, reactor: Any) -> list[str]:
        """What starts a worker with these options.

        :param reactor: the worker has one of its kind.
        """
        command = [sys.executable, "-m", "twisted", "--log-level=debug"]
        for kind in getReactorTypes():
            if getattr(kind, "moduleName", None) == type(reactor).__module__:
                command.append(f"--reactor={kind.shortName}")
                break
        path, overrides, _ = self._sources
        command += ["stompauth", "--worker", f"--config={path}"]
        command += [f"--listen={endpoint}" for endpoint in overrides.get("listen", ())]
        if "workers" in overrides:
            command.append(f"--workers={overrides['workers']}")
        return command

    def read_again(self, running: Config) -> Config:
        """Read the configuration once more, from the same sources.

        :raises ConfigError: there are mistakes; all of them.
        """
        return Given.gather(*self._sources).config(running)

    def _log_json(self) -> None:
        """Have twist, or twistd, log JSON to where it would log text."""
        runner = self.parent
        if runner is None:
            return
        if "fileLogObserverFactory" in runner:  # twist
            runner["fileLogObserverFactory"] = json_file_log_observer
        elif runner.get("syslog"):
            raise usage.UsageError('ops.log_format = "json" and --syslog do not go together.')
        elif runner["logfile"] == "-" and not runner.get("nodaemon"):
            raise usage.UsageError("A daemon cannot log to stdout.")
        else:
            self.log_observer = json_file_log_observer

    def _log_text(self) -> None:
        """Have twist, or twistd, write the same text by an observer that costs less."""
        runner = self.parent
        if runner is None:
            return
        if "fileLogObserverFactory" in runner:  # twist
            if runner["fileLogObserverFactory"] is textFileLogObserver:
                runner["fileLogObserverFactory"] = text_file_log_observer
        elif not runner.get("syslog") and (runner["logfile"] != "-" or runner.get("nodaemon")):
            self.log_observer = text_file_log_observer


def makeService(options: Options) -> IService:
    """Make the service that the options ask for; ``twistd`` calls this.

    :raises SystemExit: it cannot be made of these options.
    """
    from twisted.internet import reactor

    # Of the demo and the server only one is imported.
    try:
        if options.config is None:
            from stompauth.demo.demo import make_demo_service

            return make_demo_service(options["listen"] or None, reactor)
        from stompauth.service import make_service, make_workers
        from stompauth.workers.worker import Worker

        if options.start is None and options.config.workers > 1:
            service = make_workers(options.config, reactor, options.worker_command(reactor))
        else:
            worker = Worker(options.start, reactor) if options.start is not None else None
            service = make_service(options.config, reactor, options.read_again, worker)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    if options.log_observer is None:
        return service
    top = Logged(options.log_observer(_log_file(options.parent, reactor)))
    service.setServiceParent(top)
    return top


class Logged(MultiService):
    """Has the application that it becomes part of log by an observer; twistd asks that for one.

    :param observer: the observer.
    """

    def __init__(self, observer: FileLogObserver) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application."""
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)


def _log_file(runner: Any, reactor: Any) -> Any:
    """Open what twistd would log text to."""
    name = runner["logfile"]
    if name == "-" or (runner.get("nodaemon") and not name):
        return sys.stdout
    file = LogFile.fromFullPath(name or "twistd.log")
    # Without this the signal that rotates twistd's own log would end the process.
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return file
