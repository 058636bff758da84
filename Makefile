# make demo: see it work.  make test: all tests.  Both prepare the machine first (as root, on Debian 12 or Ubuntu 24.04).
.PHONY: help setup demo test lint format bench bench-quick faults kernels clean

help:
	@sed -n 's/^#: *//p' Makefile

#: make setup   install the Debian packages and the virtual environment that everything here uses
setup:
	@tools/setup

#: make demo    a 4-node cluster in namespaces, deployed to over SSH; a node is cut; the takeover is shown
demo: setup
	@tools/demo

#: make test    lint, types and the whole test suite
test: setup lint
	.venv/bin/pytest -n 2

#: make lint    ruff and mypy
lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

#: make format  let ruff lay the code out
format: setup
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

#: make bench   measure everything anew and write docs/benchmarks.md: some three hours on a machine that does nothing else
bench: setup
	.venv/bin/python -m bench

#: make bench-quick  less of the same in two minutes, into build/
bench-quick: setup
	.venv/bin/python -m bench --quick --output build

#: make faults  random faults against a cluster under probes, SEED=1 TIME=60 NODES=4; or SCHEDULE=FILE again
faults: setup
	@cd tests && ../.venv/bin/python -m faults --seed $(or $(SEED),1) --time $(or $(TIME),60) --nodes $(or $(NODES),4) \
		$(if $(KINDS),--kinds "$(KINDS)") $(if $(SCHEDULE),--schedule "$(abspath $(SCHEDULE))")

#: make kernels the end-to-end scenario on Debian's own kernel, in an emulated machine, on wires, VLANs and bonds (LINKS="vlan bond")
kernels: setup
	@tools/kernels $(LINKS)

#: make man     write the manual page to build/trscaler-gen.1
man: setup
	@mkdir -p build
	.venv/bin/trscaler-gen man >build/trscaler-gen.1

#: make clean   remove the virtual environment and the caches
clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
