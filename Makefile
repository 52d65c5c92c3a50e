VENV ?= .venv
RUN = $(VENV)/bin

.PHONY: demo test check bench

demo: $(VENV)/.installed  ## train the candidates of studies/digits.toml, print the Pareto front, write runs/digits/report.html
	$(RUN)/nas-relucode run digits

test: $(VENV)/.installed  ## lint, types, and the tests that a push must pass
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/pytest -n 2 --dist worksteal

check: test  ## also the slow tests
	$(RUN)/pytest -m slow

bench: $(VENV)/.installed  ## every claim of speed against its peers, and the curve of docs/performance.md
	$(RUN)/pip install --quiet -e '.[bench]'
	failed=; for script in start pairs cells matrix tree components capture polyhedra embedding training workers capacity curve; do \
		$(RUN)/python benchmarks/$$script.py --check || failed=1; \
	done; test -z "$$failed"

$(VENV)/.installed: pyproject.toml
	python3 -m venv $(VENV)
	$(RUN)/pip install --quiet -e '.[test]'
	touch $@
