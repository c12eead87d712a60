"""docs/howto/deployment.md, and docs/deploy/Dockerfile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench.rows import ROWS
from tests.integration.configured import configured, free_port
from tests.integration.processes import ROOT
from tests.integration.proxies import DEPLOY, fill, program
from tests.integration.test_installed import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (ROOT / "docs" / "howto" / "deployment.md").read_text("utf-8")

DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")

#: Ports of the page, and of haproxy.cfg.
PORTS = ("6380", "8081", "8082", "8443", "9091", "9092")


#: Between the outputs of two blocks.
BREAK = "----"


def steps(places: dict[str, object]) -> str:
    """The page as one script: its commands, and its file where it comes."""
    script = []
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S):
        if language == "toml":
            script.append(f"cat > chat.toml <<'END'\n{code}END\n")
        elif language == "sh":
            script.append(code)
    return fill(f"echo {BREAK}\n".join(script), places)


def end(pidfile: Path) -> None:
    """End what the page's commands have left."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(pidfile.read_text()), signal.SIGKILL)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of the checkout, beside what the page makes of it."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=IGNORED)
    yield copy
    for pidfile in (tmp_path / "deployment").glob("*.pid"):
        end(pidfile)


def test_page(checkout: Path) -> None:
    """Each command of the page does what the page says of it, one after the other."""
    for name in ("redis-server", "haproxy", "openssl", "curl"):
        program(name)
    places: dict[str, object] = {port: free_port() for port in PORTS}
    cfg = checkout / "docs" / "deploy" / "haproxy.cfg"
    nodes = {port: places[port] for port in PORTS if port in cfg.read_text()}
    assert len(nodes) == 4
    cfg.write_text(fill(cfg.read_text(), nodes))
    script = steps(places)
    # What pip would fetch is here already, but for Twisted's script. The checkout is installed.
    scripts = checkout.parent / "scripts"
    scripts.mkdir()
    twistd = scripts / "twistd"
    run_twistd = "import twisted.scripts.twistd as twistd; twistd.run()"
    twistd.write_text(f"#!/bin/sh\nexec python -c '{run_twistd}' \"$@\"\n")
    twistd.chmod(0o755)
    site = Path(pytest.__file__).parents[1]
    environment = {
        "PATH": f"{scripts}:{os.environ['PATH']}:/usr/sbin",
        "PYTHONPATH": str(site),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_DEPS": "1",
        "PIP_IGNORE_INSTALLED": "1",
        "no_proxy": "*",
    }
    script = script.replace("python3 -m venv", f"{sys.executable} -m venv")
    run = subprocess.run(
        ["sh", "-eu"],
        input=script,
        cwd=checkout,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    home = checkout.parent / "deployment"
    logs = [home / "node-1.log", home / "node-2.log"]
    assert run.returncode == 0, (run.stdout, run.stderr, [log.read_text() for log in logs])
    outputs = [output.strip() for output in run.stdout.split(f"{BREAK}\n")]
    ready = '{"ready": true}'
    assert [output.split("\n") for output in outputs if ready in output] == [[ready] * 2, [ready]]
    (received,) = (json.loads(output) for output in outputs if "hello" in output)
    assert received["body"] == "hello over two nodes"
    (metrics,) = (output for output in outputs if "stompauth_connects_total" in output)
    # One session at each node.
    assert re.findall(r"^stompauth_connects_total (\S+)$", metrics, re.M) == ["1.0", "1.0"]
    # The last command ends everything.
    limit = time.monotonic() + 20
    while list(home.glob("node-?.pid")):
        assert time.monotonic() < limit
        time.sleep(0.05)
    texts = [log.read_text("utf-8") for log in logs]
    assert [text.count("Server Shut Down") for text in texts] == [2, 1]
    for user in ("alice", "bob"):
        assert sum(f"of {user} at 127.0.0.1 connected" in text for text in texts) == 1
    for text in texts:
        assert "Traceback" not in text
        for secret in ("jwt.secret", "redis-password", "metrics.token", "alice.token"):
            assert (home / secret).read_text().strip() not in text


def test_sizing() -> None:
    """The rows of the benchmark that it takes its figures from are there."""
    words = " ".join(PAGE.split())
    assert f"*{ROWS['connect'].title}*" in words
    assert "`python -m tests.bench idle`" in words
    assert (ROWS["idle"].measures, ROWS["idle"].unit) == ("memory", "KiB per session")


def instruction(name: str) -> str:
    """What follows the last instruction of that name, with its lines put together."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return str(re.findall(rf"^{name} (.*)$", joined, re.M)[-1])


def test_dockerfile() -> None:
    """hadolint has nothing against it."""
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("there is no hadolint")
    run = subprocess.run(
        [hadolint, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=30
    )
    assert (run.returncode, run.stdout) == (0, "")


def test_image(tmp_path: Path) -> None:
    """What it copies is enough to build from, and it ends, and runs, as it should."""
    for sources, target in re.findall(r"^COPY (?!--from)(.*) /src(\S*)$", DOCKERFILE, re.M):
        for source in sources.split():
            path = tmp_path / "src" / target.strip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, path, ignore=IGNORED)
            else:
                path.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, path)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--wheel-dir", tmp_path, tmp_path / "src"], check=True
    )
    assert list(tmp_path.glob("*.whl"))
    assert instruction("USER") == "10001"
    assert instruction("STOPSIGNAL") == "SIGTERM"
    command = json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD"))
    assert command[:4] == ["twistd", "-n", "--pidfile=", "stompauth"]
    assert command[4] == "--config"


def test_container(tmp_path: Path) -> None:
    """Its environment makes a server that runs, and that its health check finds up, or not."""
    variables = {
        name: value.strip("'")
        for name, value in re.findall(r"(STOMPAUTH_\w+)=('[^']*'|\S+)", instruction("ENV"))
    }
    port = free_port()
    environment = variables | {
        "STOMPAUTH_TRUSTED_PROXIES": '["172.17.0.1"]',
        "STOMPAUTH_LISTEN": fill(variables["STOMPAUTH_LISTEN"], {"8080": 0}),
        "STOMPAUTH_OPS__LISTEN": fill(variables["STOMPAUTH_OPS__LISTEN"], {"9090": port}),
    }
    _, _, check = instruction("HEALTHCHECK").partition("CMD ")
    python, *arguments = json.loads(fill(check, {"9090": port}))
    assert python == "python"

    def is_healthy() -> bool:
        return not subprocess.run([sys.executable, *arguments], capture_output=True).returncode

    assert not is_healthy()
    with configured(tmp_path, environment=environment) as server:
        assert is_healthy()
        server.ticket(server.token("alice"))
        assert server.log.read_text("utf-8").startswith("{")
