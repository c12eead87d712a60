"""Fuzz a target, or all of them: ``python -m tests.fuzz [TARGET] --seconds 60``.

With Atheris installed, its libFuzzer looks for octets that reach new code; otherwise, or with
``--engine random``, they are random. The seed is printed, and written down with what came of it in
``_fuzz/runs.log``; octets that a run failed with are kept there, for ``--replay``.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from twisted.logger import globalLogBeginner

from tests.fuzz.driver import MOST, TARGETS, fuzz, load

KEPT = Path("_fuzz")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a target.")
    parser.add_argument("target", choices=TARGETS, nargs="?", help="all of them if it is left out")
    parser.add_argument("--seconds", type=int, default=0, help="for how long; 0: until it fails")
    parser.add_argument("--runs", type=int, default=0, help="how many runs; 0: any number")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--engine", choices=("atheris", "random"))
    parser.add_argument("--replay", type=Path, metavar="FILE", help="only the octets in a file")
    return parser.parse_args()


def _write_down(line: str) -> None:
    KEPT.mkdir(exist_ok=True)
    (KEPT / ".gitignore").write_text("*\n")
    with (KEPT / "runs.log").open("a") as log:
        log.write(f"{line}\n")
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _run_atheris(target: str, seed: int, runs: int, seconds: int) -> None:
    """Run a target under libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["stompauth"]):
        run = load(target)
    corpus = KEPT / f"corpus-{target}"
    corpus.mkdir(exist_ok=True)
    options = {
        "seed": seed,
        "runs": runs or -1,
        "max_total_time": seconds,
        "max_len": MOST,
        "len_control": 0,
        "timeout": 20,
        "artifact_prefix": f"{KEPT}/{target}-",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], run)
    atheris.Fuzz()


def main() -> None:
    """Do what the command line says."""
    arguments = _arguments()
    target, seed = arguments.target, arguments.seed
    if target is None:
        for name in TARGETS:
            command = [sys.executable, "-m", "tests.fuzz", name, *sys.argv[1:]]
            subprocess.run(command, check=True)
        return
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    if arguments.replay is not None:
        load(target)(arguments.replay.read_bytes())
        return
    engine = arguments.engine or ("atheris" if find_spec("atheris") else "random")
    _write_down(f"{target}: {engine}, seed {seed}")
    if engine == "atheris":
        _run_atheris(target, seed, arguments.runs, arguments.seconds)
        return
    runs = fuzz(target, seed, KEPT, arguments.runs, arguments.seconds)
    _write_down(f"{target}: seed {seed}, {runs} runs, none failed")


if __name__ == "__main__":
    main()
