# make study   set up .venv and run the default profile end to end
# make test    set up .venv and run all tests
# make lab     open JupyterLab
# make app     serve the image generator as a web page; ARGS='--port 8000 --visitors 3'
# make bench   measure speeds (minutes); tables in outputs/bench
# make blog    write the two posts on CIFAR-10 as web pages in outputs/cifar10-cpu/blog
# make export  write the profile's student as safetensors, ONNX and OpenVINO IR
# make sets    publish the image sets: safetensors, PNGs by class, a data card each; small ones in a file
# make weights publish the trained networks, in half precision with a card each, and their INT8 forms
# PROFILE=params/tiny.yaml make study   another profile; ARGS='--from 04' passes options on

PYTHON ?= python3.11
PROFILE ?= params/digits.yaml
ARGS ?=
BIN := .venv/bin
# Threads that wait give way: on a machine that does something else, too, training by OpenMP's
# default is several times slower.
export OMP_WAIT_POLICY ?= PASSIVE
READY := .venv/.ready

.PHONY: study test lint lab app bench blog export sets weights clean

study: $(READY)
	$(BIN)/python -m lib run $(PROFILE) $(ARGS)

test: $(READY) lint
	$(BIN)/python -m pytest -n 2 --dist loadscope tests
	$(BIN)/python -m lib run params/tiny.yaml
	$(BIN)/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env -W ignore outputs/tiny/notebooks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: $(READY)
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

app: $(READY)
	$(BIN)/python -m lib app $(PROFILE) $(ARGS)

bench: $(READY)
	$(BIN)/python -m lib bench

blog: $(READY)
	$(BIN)/python -m lib blog params/cifar10-cpu.yaml

export: $(READY)
	$(BIN)/python -m lib export $(PROFILE)

sets: $(READY)
	$(BIN)/python -m lib sets $(PROFILE)

weights: $(READY)
	$(BIN)/python -m lib weights $(PROFILE)

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "error: the study needs Python 3.11, and '$(PYTHON)' is not it." >&2; \
	  echo "Install Python 3.11 with its venv module, or name it: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf .venv outputs/*/work
