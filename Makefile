# Two commands do everything on a machine with Python 3.11, make and git: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench clean

demo: $(VENV)/run.installed
	$(BIN)/python -m ov_film interpolate samples/first.png samples/last.png --times 4 \
	    --output demo/interpolated.webm --figure demo/figure.png
	@echo "Open demo/interpolated.webm (the clip) and demo/figure.png (first, interpolated, last, and how they differ)."

test: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: $(VENV)/bench.installed
	$(BIN)/python -m benchmarks.bench
	$(BIN)/python -m benchmarks.report

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.installed: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/dev.installed: requirements-dev.txt requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

$(VENV)/bench.installed: benchmarks/requirements.txt requirements-dev.txt requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) demo
