# make demo      a phantom kidney, its mask and its score, with the engine alone (no torch)
# make test      everything that development needs, then lint, types, import contracts and tests
# make test-all  the slow tests too
# make experiment  what pseudo-labels are worth, on phantoms and, with TWO_PHOTON=FOLDER, on real stacks; under an hour
# make networks  the four networks of the third place and small trained ones, exported with engines; about an hour
# make gpu-check  on a machine with a GPU: does it there what it promises; a page to send back, in ten minutes
# make peers     the rest of the extra `bench`: nnU-Net, for `sennet-bench compare`
# make builtin   train the built-in model anew, from its phantoms to its bundle
PYTHON ?= python3
DEMO := demo
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format experiment networks gpu-check peers builtin clean

help:
	@sed -n 's/^# make/make/p' Makefile

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu]'
	touch $@

.venv-dev/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,dev]'
	touch $@

demo: .venv/installed
	.venv/bin/sennet-bench phantom $(DEMO)/phantom --shape 32,512,512 --kidney 1 --seed 7 --overwrite
	.venv/bin/sennet-infer $(DEMO)/phantom/image.tif --out $(DEMO)/image.sennet --overwrite
	.venv/bin/sennet-score $(DEMO)/image.sennet/mask.tif $(DEMO)/phantom/labels.tif
	.venv/bin/sennet-score $(DEMO)/image.sennet/mask.tif $(DEMO)/phantom/labels.tif --json > $(DEMO)/score.json
	@echo "score    $(DEMO)/score.json"
	@echo "truth    $(DEMO)/phantom/labels.tif"
	@echo "Look at $(DEMO)/image.sennet/preview.png"

test: lint
	.venv-dev/bin/python -m pytest

test-all: lint
	.venv-dev/bin/python -m pytest -m 'not gpu'

# mypy does not follow the mapping from folders to package names, so it is shown the packages through links.
lint: .venv-dev/installed
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	mkdir -p build/types
	for name in engine trainer export bench; do ln -sfn ../../$$name build/types/sennet_$$name; done
	MYPYPATH=build/types .venv-dev/bin/mypy -p sennet_engine -p sennet_trainer -p sennet_export -p sennet_bench
	.venv-dev/bin/lint-imports

format: .venv-dev/installed
	.venv-dev/bin/ruff check --fix .
	.venv-dev/bin/ruff format .

experiment: .venv-dev/installed
	.venv-dev/bin/sennet-bench experiment runs/experiment --jobs 2 $(if $(TWO_PHOTON),--two-photon-data $(TWO_PHOTON))

# Masks of random weights mean nothing, so their gate stands open; the trained ones have to pass theirs.
NETWORKS := runs/networks
EXPORT := sennet-export --overwrite --fp16 --int8 --target rtx
networks: export PATH := $(CURDIR)/.venv-dev/bin:$(PATH)
networks: .venv-dev/installed
	sennet-bench seed-networks $(NETWORKS) --overwrite
	$(EXPORT) --gate 1 $(NETWORKS)/random_efficientnet_s --tile 448 --tile 832
	$(EXPORT) --gate 1 $(NETWORKS)/random_seresnext --tile 384 --tile 512
	$(EXPORT) --gate 1 $(NETWORKS)/random_efficientnet_l $(NETWORKS)/random_maxvit --tile 512
	sennet-bench seed-networks $(NETWORKS) --small
	for name in maxvit seresnext efficientnet unetplusplus; do \
	  $(EXPORT) --target openvino $(NETWORKS)/small_$$name && sennet-bench int8 $(NETWORKS)/small_$$name.model || exit; done

# TensorRT for RTX comes beside and not by its extra, which brings the onnxruntime that overwrites the one for GPUs.
.venv-gpu/installed: pyproject.toml constraints.txt
	@echo "installing TensorRT, onnxruntime and CUDA into .venv-gpu: several GB, minutes in which nothing is told"
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gpu,gpu-check]' tensorrt-rtx
	touch $@

GPU_CHECK := gpu-check
gpu-check: .venv-gpu/installed
	.venv-gpu/bin/sennet-bench gpu-check --out $(GPU_CHECK)

peers: .venv-dev/installed
	.venv-dev/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,dev,bench]'

runs/phantoms/made: export PATH := $(CURDIR)/.venv-dev/bin:$(PATH)
runs/phantoms/made: recipes/builtin_phantoms.sh $(wildcard trainer/phantom/*.py) | .venv-dev/installed
	recipes/builtin_phantoms.sh runs/phantoms
	touch $@

builtin: export PATH := $(CURDIR)/.venv-dev/bin:$(PATH)
builtin: runs/phantoms/made
	sennet-train fit recipes/builtin.toml --out runs/builtin
	sennet-export runs/builtin --out engine/models/builtin.model --overwrite \
	  --fp16 --int8 --target openvino --halo-tolerance 2 \
	  --description 'A small U-Net for arteries in HiP-CT kidneys at 50 µm, trained on phantoms alone.'

clean:
	rm -rf build $(DEMO) $(GPU_CHECK) .venv .venv-dev .venv-gpu
