"""Run the benchmark: ``python -m tests.bench [ROW]... [--against COMMAND URL]...``."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.bench.load import COUNTED
from tests.bench.report import Results
from tests.bench.rows import ROWS
from tests.bench.servers import (
    ROOT,
    another,
    plain_autobahn,
    product,
    write_configuration,
    write_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.rows import Row
    from tests.bench.servers import Process, Server

#: The load of this project.
OWN_LOAD: Final = (sys.executable, "-m", "tests.bench.load")


class Bench:
    """Measures servers.

    :param load: the command of the load.
    :param seconds: for how long each of them works each time.
    :param scale: by what to divide numbers of subscribers and subscriptions.
    """

    def __init__(self, load: tuple[str, ...], seconds: float, scale: int) -> None:
        self._load = load
        self._seconds = seconds
        self._scale = scale

    def measure(self, row: Row, server: Server, directory: Path) -> float:
        """Start a server, give it the work of the row once, and give the figure."""
        write_configuration(directory, row.measures == "turn")
        with server.running(directory) as process:
            if row.measures == "memory":
                self._run("idle --subs 20 --hold 0.1", server, process, directory, lambda _: None)
            found: dict[str, float] = {}

            def look(phase: str) -> None:
                if row.measures == "cpu":
                    found[phase] = process.cpu()
                elif row.measures == "memory":
                    found[phase] = process.memory()
                elif phase == "start":
                    # Never cut: the server has it mapped.
                    with (directory / "turns").open("r+b") as turns:
                        turns.write(bytes(8))
                elif phase == "end":
                    (found["turn"],) = struct.unpack("d", (directory / "turns").read_bytes())

            done = self._run(row.scenario, server, process, directory, look)
        if row.measures == "cpu":
            return (found["end"] - found["start"]) / done * 1e6
        if row.measures == "memory":
            return (found["end"] - found["begin"]) / done / 1024
        return found["turn"] * 1000

    def _run(
        self,
        scenario: str,
        server: Server,
        process: Process,
        directory: Path,
        look: Callable[[str], None],
    ) -> int:
        """Run the load, look at the server in each phase, and give how many operations it did."""
        name, *options = scenario.split()
        options = [
            self._scaled(value) if option in ("--subs", "--others") else value
            for option, value in zip(["", *options], options, strict=False)
        ]
        command = [
            *(*self._load, name, *options, *server.load, "--port", str(process.port), "--sync"),
            *("--max-time", str(self._seconds), "--warmup-time", str(self._seconds / 4)),
            *("--messages", "100000000", "--warmup", "1000000"),
        ]
        if name == "idle":
            command.append("--idle-sub")
        with (
            (directory / "load.log").open("w+") as log,
            subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as load,
        ):
            assert load.stdin
            assert load.stdout
            result: dict[str, Any] = {}
            for line in load.stdout:
                word, _, phase = line.strip().partition(" ")
                if word == "PHASE":
                    look(phase)
                    load.stdin.write("\n")
                    load.stdin.flush()
                else:
                    result = json.loads(line)
            load.stdin.close()
            if load.wait() or not result.get("ok"):
                log.seek(0)
                raise RuntimeError(f"{shlex.join(command)}:\n{result} {log.read()}")
        done: int = result[COUNTED[name]]
        return done

    def _scaled(self, number: str) -> str:
        return str(max(int(number) // self._scale, min(int(number), 10)))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure what the server's work costs, beside a plain Autobahn server.",
        epilog="Rows: " + ", ".join(ROWS),
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="a row, or a pattern as fanout-*")
    parser.add_argument("--runs", type=int, default=5, help="of each; the median counts")
    parser.add_argument("--seconds", type=float, default=2, help="that each run works")
    parser.add_argument("--scale", type=int, default=1, help="divide the subscribers by this")
    parser.add_argument(
        "--against",
        nargs=2,
        action="append",
        default=[],
        metavar=("COMMAND", "URL"),
        help="another server: what starts it, with {port} for its port, and its WebSocket's URL",
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="of CONNECT to the other servers",
    )
    parser.add_argument(
        "--checkout",
        type=Path,
        action="append",
        default=[],
        help="another checkout of this project, to be measured as well",
    )
    parser.add_argument("--fast-io-off", action="store_true", help="measure this as well")
    parser.add_argument("--no-plain", action="store_true", help="leave out plain Autobahn")
    parser.add_argument("--load", default="", help="the command of another load")
    parser.add_argument("--into", type=Path, help="a directory for table, plot and all figures")
    parser.add_argument("--page", type=Path, help="a page whose table and plot to replace")
    arguments = parser.parse_args()
    patterns = arguments.rows or ["*"]
    unknown = [name for name in patterns if not fnmatch.filter(ROWS, name)]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    servers = [product()]
    servers += [product(checkout.resolve()) for checkout in arguments.checkout]
    if arguments.fast_io_off:
        servers.append(product(fast_io=False))
    if not arguments.no_plain:
        servers.append(plain_autobahn())
    servers += [another(command, url, arguments.header) for command, url in arguments.against]
    # Or the servers would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    load = tuple(shlex.split(arguments.load)) or OWN_LOAD
    bench = Bench(load, arguments.seconds, arguments.scale)
    results = Results([server.name for server in servers], arguments.runs, arguments.seconds)
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        write_secrets(parent)
        for row in ROWS.values():
            if not any(fnmatch.fnmatch(row.name, pattern) for pattern in patterns):
                continue
            if load != OWN_LOAD and ("--others" in row.scenario or "inbound" in row.scenario):
                continue
            for number in range(arguments.runs):
                for server in servers:
                    if row.measures == "turn" and not server.is_ours:
                        continue
                    directory = parent / f"{row.name}-{number}-{servers.index(server)}"
                    directory.mkdir()
                    results.add(row, server.name, bench.measure(row, server, directory))
            sys.stdout.write(results.line(row) + "\n")
            sys.stdout.flush()
            if arguments.into:
                results.write(arguments.into)
    if arguments.page:
        results.write_page(arguments.page)


if __name__ == "__main__":
    main()
