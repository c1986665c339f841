# Everything a fresh machine needs: `make demo` shows the main job, `make test` runs all tests.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
STAMPS := .venv/stamps

.PHONY: help setup demo check test test-console prove coverage mutants run stack bench bench-engine bench-emulator bench-lists bench-directory storm outages bench-doors bench-evidence bench-backup bench-reconciliation fuzz package sbom lint docs lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

setup: $(STAMPS)/python $(STAMPS)/node ## install what is missing (the others do it by themselves)

demo: setup ## run the main job from end to end, and check every step; ZONES=4: in four trust zones
	@$(PY) -m devstack.demo --zones $(or $(ZONES),1) $(ARGS)

check: setup ## in about a minute: lint, unit tests without the long ones, contracts of the adapters, infrastructure
	@$(PY) -m tests.side_by_side check

test: setup ## lint, and all tests, side by side; COVERAGE=1: and fail if they take too few branches of the app; ZONES=4: the end-to-end tests alone, in four trust zones
	@$(PY) -m tests.side_by_side test --zones $(or $(ZONES),1)

test-console: setup ## the console in a browser; needs Chromium, and make test does not
	@for name in chromium chromedriver; do command -v $$name >/dev/null || { echo \
		"$$name is missing: on Debian, apt-get install chromium chromium-driver" >&2; exit 1; }; done
	@$(PY) -m pytest -q tests/console

prove: setup ## every interleaving of acts on devices, groups and CAs, deeper than the tests go; long
	@$(PY) -m tests.side_by_side prove

coverage: setup ## the branches of the app that the last `make test COVERAGE=1` did not take, file by file
	@$(PY) -m coverage report --skip-covered --show-missing

mutants: setup ## change the workflows in small ways, and see whether the unit tests notice; hours, or ARGS="--sample 100"
	@$(PY) -m tests.mutants $(ARGS)

run: setup ## start the local stack and keep it running, until Ctrl-C; ZONES=4: in four trust zones
	@exec $(PY) -m devstack run --zones $(or $(ZONES),1) $(ARGS)

stack: setup ## the same without the functions host, for `func start`
	@exec $(PY) -m devstack stack $(ARGS)

bench: setup ## measure, and print ratios
	@$(PY) -m benchmarks $(ARGS)

bench-engine: setup ## measure the certificate engine against its floor and its peers
	@$(PY) -m benchmarks.engine $(ARGS)

bench-emulator: setup ## measure the emulated services: start-up, registrations, connections
	@$(PY) -m benchmarks.emulator $(ARGS)

bench-lists: setup ## measure long lists of devices: memory, and time against the standard library
	@$(PY) -m benchmarks.order_lists $(ARGS)

bench-directory: setup ## count what a page of each question about devices takes, with 1,000,000 of them
	@$(PY) -m benchmarks.directory $(ARGS)

bench-evidence: setup ## measure the log of certificates: appends, bytes, verification, what it adds to an order
	@$(PY) -m benchmarks.evidence $(ARGS)

bench-backup: setup ## measure how long it takes to export, verify and restore the ledger
	@$(PY) -m benchmarks.backup $(ARGS)

storm: setup ## kill hosts, fail services and put them back while devices are ordered and revoked; at rest the auditor looks
	@$(PY) -m benchmarks.storm $(ARGS)

outages: setup ## take each service away for ten minutes while devices are ordered and revoked; all has to end by itself
	@$(PY) -m benchmarks.outages $(ARGS)

bench-doors: setup ## measure how long the doors of a device that is revoked stay open, and what a group's revocation takes
	@$(PY) -m benchmarks.doors $(ARGS)

bench-reconciliation: setup ## walk 1,000,000 devices in virtual time: hours, and parts of the quotas
	@$(PY) -m benchmarks.reconciliation $(ARGS)

fuzz: setup ## feed the certificate engine generated input, for longer than the tests do
	@$(PY) -m benchmarks.fuzz $(ARGS)

package: setup ## write the package that is deployed to Azure
	@$(PY) -m devstack.package

sbom: setup ## write a bill of materials of what is deployed (CycloneDX)
	@test -x .venv/sbom/bin/cyclonedx-py || { $(PY) -m venv .venv/sbom && \
		.venv/sbom/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sbom.txt; }
	@mkdir -p .devstack
	@.venv/sbom/bin/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml --output-format JSON \
		--output-reproducible --output-file .devstack/sbom.json
	@echo "the bill of materials is in .devstack/sbom.json"

lint: setup ## formatting, linting, types, import rules, prose
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy --no-error-summary .
	@.venv/bin/lint-imports --no-logo >.venv/imports.log || { cat .venv/imports.log; exit 1; }
	@node_modules/.bin/textlint --config docs/.textlintrc.json --ignore-path docs/.textlintignore \
		*.md "docs/**/*.md" emulator/README.md

docs: setup ## write the pages of docs/ that are made from code
	@$(PY) -m devstack.settings_page
	@$(PY) -m devstack.telemetry_page
	@$(PY) -m devstack.deploy_page
	@$(PY) -m devstack.cost_page
	@$(PY) -m shared.domain.lifecycles >docs/lifecycles.md
	@$(PY) -m shared.domain.treatments >docs/findings.md
	@$(PY) -m devstack.zones_page
	@$(PY) -m devstack.roles_page
	@$(PY) -m devstack.events_page
	@$(PY) -m devstack.api_page
	@$(PY) -m devstack.rfc5280_page

lock: setup ## pin all dependencies anew
	@$(PY) -m pip install --quiet pip-tools
	@for pair in app:requirements.txt dev:requirements/dev.txt sbom:requirements/sbom.txt; do \
		.venv/bin/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host \
			--no-emit-find-links --strip-extras --allow-unsafe --no-header --annotation-style=line \
			-o $${pair#*:} requirements/$${pair%:*}.in; done

clean: ## remove what was installed and what the stack kept
	rm -rf .venv .devstack node_modules

# A stamp is newer than what it was made from, and is made anew when that changes: nothing is installed twice.

$(STAMPS)/python: requirements/dev.txt
	@python=$$(bash devstack/find-python.sh) || exit 1; \
	 test -x $(PY) || { echo "making .venv with $$python"; "$$python" -m venv .venv \
		|| { echo "this Python can't make virtual environments: on Debian install python3.13-venv" >&2; exit 1; }; }
	@echo "installing the Python packages (once; a minute or two) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/node: package-lock.json
	@command -v node >/dev/null || { echo "Node.js is missing, and Azurite needs it: install Node 20 or later" >&2; exit 1; }
	@command -v npm >/dev/null || { echo "npm is missing, and brings Azurite: install it beside Node" >&2; exit 1; }
	@test ! -L node_modules || { echo "node_modules is a link, and npm would empty what it points to: run make setup there" >&2; exit 1; }
	@echo "installing Azurite and textlint (once; half a minute) ..."
	@npm ci --silent --no-audit --no-fund --ignore-scripts
	@mkdir -p $(STAMPS) && touch $@
