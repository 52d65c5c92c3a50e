VENV ?= .venv
RUN = $(VENV)/bin

.PHONY: demo test check

demo: $(VENV)/.installed  ## train the candidates of studies/digits.toml, print the Pareto front, write runs/digits/report.html
	$(RUN)/nas-relucode run digits

test: $(VENV)/.installed  ## lint, types, and the tests that a push must pass
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/pytest

check: test  ## also the slow tests
	$(RUN)/pytest -m slow

$(VENV)/.installed: pyproject.toml
	python3 -m venv $(VENV)
	$(RUN)/pip install --quiet -e '.[test]'
	touch $@
