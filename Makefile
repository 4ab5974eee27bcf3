# `make demo` and `make test` need nothing but python3 and a C++ compiler: they set up .venv first.
# PYTHON=/path/of/a/python uses that environment instead, with the torch it has. The second run touches no network.
ifdef PYTHON
  PREFIX := $(shell $(PYTHON) -c "import sys; print(sys.prefix)")
  ENVIRONMENT := $(wildcard $(PREFIX)/pyvenv.cfg)
else
  PREFIX := $(CURDIR)/.venv
  PYTHON := $(PREFIX)/bin/python
  ENVIRONMENT := $(PREFIX)/pyvenv.cfg
endif

PIP := $(PYTHON) -m pip --disable-pip-version-check install -q
# What is installed in that environment, one file a step: older than what it was made from, the step is taken again.
DONE := build/set-up$(subst /,-,$(PREFIX))
TORCH := torch==2.13.0
LINTERS := $(shell grep -oE '(ruff|clang-format)==[0-9.]+' pyproject.toml)
CXX_SOURCES = $(shell git ls-files '*.h' '*.cpp' '*.inl' '*.cu' '*.cuh')

# All that kernels are written for; ARCHS= takes setup.py's default.
ARCHS := 75;80;86;89;90a;100;120
# A warning is an error, and so is a spilled register.
NVCC_STRICT := -Werror all-warnings -Xptxas --warn-on-spills,--warning-as-error

.NOTPARALLEL:
.PHONY: help demo test build lint bench cuda-check clean
.SECONDARY:

help:
	@echo "make demo         set up, then the demonstration: convkit demo"
	@echo "make test         set up, then the whole test suite"
	@echo "make bench        set up, then the benchmarks"
	@echo "make build        compile what has changed, in place"
	@echo "make lint         ruff and clang-format, as CI runs them"
	@echo "make cuda-check   compile every CUDA kernel for every architecture, and look at the code; needs nvcc, no GPU"
	@echo "make clean        remove what was built, but not .venv"

demo: $(DONE)/train build
	$(PYTHON) -m convkit demo

test: $(DONE)/test build
	$(PYTHON) -m pytest -q -n auto

bench: $(DONE)/bench build
	$(PYTHON) -m pytest -q bench

build: $(DONE)/torch
	$(PYTHON) setup.py -q build_ext --inplace

lint: $(DONE)/lint
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PREFIX)/bin/clang-format --dry-run -Werror $(CXX_SOURCES)

# A build of its own, beside the one in place. nvcc speaks only when it compiles, so its objects go first.
CHECKED := build/cuda-check
cuda-check: $(DONE)/cuda-check
	rm -rf $(CHECKED) build/ninja-*-cuda/csrc.cuda.*.cu.o
	CONVKIT_CUDA=1 CONVKIT_CUDA_ARCHS="$(ARCHS)" NVCC_APPEND_FLAGS="$(NVCC_STRICT)" \
	  $(PYTHON) setup.py -q build --build-lib $(CHECKED)
	cd $(CHECKED) && $(PYTHON) -c "from convkit._library import _C; assert _C.build_info()['cuda_archs']"
	cd $(CHECKED) && PYTHONPATH=$(CURDIR) $(PYTHON) -m pytest -q --import-mode=importlib \
	  --rootdir=$(CURDIR) -c $(CURDIR)/pyproject.toml $(addprefix $(CURDIR)/tests/,test_build.py test_dispatch.py test_sass.py)

clean:
	rm -rf build dist convkit/*.so *.egg-info

$(CURDIR)/.venv/pyvenv.cfg:
	python3 -m venv $(CURDIR)/.venv

$(DONE)/lint: pyproject.toml $(ENVIRONMENT)
	$(PIP) $(LINTERS)
	@mkdir -p $(@D) && touch $@

# torch first: whatever else is installed then finds it there. The build tools stay: a rebuild needs no download.
$(DONE)/torch: $(ENVIRONMENT)
	$(PYTHON) -c "import torch" 2>/dev/null || $(PIP) $(TORCH)
	$(PIP) "setuptools>=77" "pybind11>=3" ninja
	@mkdir -p $(@D) && touch $@

$(DONE)/%: pyproject.toml $(DONE)/torch
	$(PIP) --no-build-isolation --editable ".[$*]"
	@touch $@
