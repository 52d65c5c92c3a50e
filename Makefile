VENV ?= .venv
RUN = $(VENV)/bin
DATA_ROOT = data
OLDEST = build/oldest
KEPT = torch torchvision  # large downloads: taken from $(VENV); `make oldest KEPT=` installs their oldest versions, too
USE_DEPENDENCIES = $(addprefix tests/,codes cells indices ranking report geometry/test_facets.py geometry/test_polyhedra.py \
	study/test_storage.py study/test_objective.py paper/test_paper_figures.py)

.PHONY: demo lint loops test check oldest bench figures docs evidence

demo: $(VENV)/.installed  ## train the candidates of studies/digits.toml, print the Pareto front, write runs/digits/report.html
	$(RUN)/nas-relucode run digits

test: $(VENV)/.installed  ## lint, types, and the tests that a push must pass, each property with few examples
	$(MAKE) --jobs 2 lint loops
	$(RUN)/pytest -n 2 --dist worksteal

lint: $(VENV)/.installed
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

loops: $(VENV)/.installed  ## compile the loops that both processes of pytest use, once, while the other core checks types
	$(RUN)/python tests/compile_loops.py

check: lint loops  ## lint, types, and all tests, each property with many examples
	$(RUN)/pytest -n 2 --dist worksteal --hypothesis-profile check
	$(RUN)/pytest -m slow --hypothesis-profile check
	$(RUN)/python -m tests.fuzz --seconds 60

oldest: $(if $(KEPT),$(VENV)/.installed)  ## a study and the tests of what uses the dependencies, with their oldest versions
	python3 -m venv --clear $(OLDEST)
	$(if $(KEPT),$(RUN)/python -c 'import site; print(*site.getsitepackages())' > $$(echo $(OLDEST)/lib/python*/site-packages)/kept.pth)
	python3 tests/oldest_versions.py $(KEPT) > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet -c $(OLDEST)/constraints.txt -e . pytest hypothesis
	$(OLDEST)/bin/nas-relucode run digits --quiet --output $(OLDEST)/runs
	$(OLDEST)/bin/python -m pytest -W default $(USE_DEPENDENCIES)

evidence: $(VENV)/.installed  ## the quick body of docs/evidence.md: 80 small networks on digits, in runs/evidence/digits
	$(RUN)/nas-relucode evidence --body digits --output runs/evidence/digits

bench: $(VENV)/.installed  ## every claim of speed against its peers, and the curve of docs/performance.md
	$(RUN)/pip install --quiet -c constraints.txt -e '.[bench]'
	failed=; for script in start pairs cells matrix tree components capture polyhedra embedding training workers capacity equality curve; do \
		$(RUN)/python benchmarks/$$script.py --check || failed=1; \
	done; test -z "$$failed"

figures: $(VENV)/.installed  ## the pictures of docs/paper.md from runs of half an hour; DATA_ROOT has MNIST and cifar10_subset.npz
	for figure in 1 2 3 4 5 6 "4 --released-code"; do \
		OMP_NUM_THREADS=1 $(RUN)/nas-relucode figure $$figure --small --data-root $(DATA_ROOT) || exit; done
	$(RUN)/python docs/_generate/pictures.py paper

docs: $(VENV)/.installed-docs  ## the documentation as build/site/index.html: draws its pictures, runs its notebook, checks its links
	OMP_NUM_THREADS=1 $(RUN)/python docs/_generate/pictures.py
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict
	$(RUN)/python docs/_generate/links.py build/site

$(VENV)/.installed-docs: $(VENV)/.installed
	$(RUN)/pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(RUN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@
