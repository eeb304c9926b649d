# PYTHON= names the Python that .venv is made with; by default the first >= 3.11 that works.
PORT ?= 5000
ARGS ?=

.PHONY: help demo test soak fuzz sanitize lint bench wheels clean

help:
	@echo "make demo    serve the demo on http://127.0.0.1:$(PORT)  (PORT=, SESSION_TYPE=, SESSION_URI=)"
	@echo "make test    run every test on the compiled and on the pure-Python arm  (ARGS=)"
	@echo "make soak    the long forms of the tests of concurrency, an hour or more  (SOAK_SECONDS=)"
	@echo "make fuzz    compare both arms and Flask on millions of random values  (CASES=)"
	@echo "make sanitize  run the hot path's tests and mutated input under ASan and UBSan  (CASES=)"
	@echo "make lint    check style and types"
	@echo "make bench   measure the codec beside others; writes docs/benchmarks.md"
	@echo "make wheels  build sdist and wheels, and test each from a clean environment"
	@echo "make clean   remove everything that these made"

demo: .venv/installed-redis
	@PORT=$(PORT) exec .venv/bin/python examples/demo/app.py

test: .venv/installed-test,servers
	@sh .ci/servers
	env -u QUART_SESSION_PURE_PYTHON sh .ci/pytest .venv/bin/python $(ARGS)
	@echo "The same on the pure-Python arm, but for what has run on both or knows no codec:"
	QUART_SESSION_PURE_PYTHON=1 sh .ci/pytest .venv/bin/python $(ARGS) \
		--ignore=tests/hotpath --ignore=tests/stores --ignore=tests/failover

soak: .venv/installed-test,servers
	@sh .ci/servers
	SOAK=1 .venv/bin/python -m pytest tests/soak tests/concurrency tests/failover -q -s

fuzz: .venv/installed-test
	.venv/bin/python tests/hotpath/fuzz.py --cases $(or $(CASES),5000000) encode decode
	.venv/bin/python tests/hotpath/fuzz.py --cases $(or $(CASES),1000000) flask-encode flask-decode

sanitize: .venv/installed-test
	PYTHON=.venv/bin/python tests/hotpath/sanitize.sh

lint: .venv/installed-dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy --strict
	.venv/bin/mypy --strict examples/demo
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

bench: .venv/installed-bench
	.venv/bin/python benchmarks/table.py --write

wheels: .venv/installed-dev
	sh .ci/wheels

clean:
	rm -rf .venv build dist wheelhouse *.egg-info examples/demo/instance
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f quart_session/_speedups*.so quart_session/_speedups*.pyd _speedups/*.c _speedups/*.html
	find benchmarks examples quart_session tests -name __pycache__ -prune -exec rm -rf {} +

# .venv/installed-EXTRA: the project with that extra, and the extension compiled in place.
.venv/installed-%: pyproject.toml setup.py $(wildcard _speedups/*.p* _speedups/*.h) | .venv/bin/pip
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

.venv/bin/pip:
	@python=$$(PYTHON="$(PYTHON)" sh .ci/python) && "$$python" -m venv .venv
