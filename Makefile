# Front door: every target is one verb of `python -m exporter`. `make` alone prints help.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
PRECISION ?= fp16
WORKERS ?= auto
EXTRAS := $(if $(filter tensorrt,$(BACKEND)),tensorrt)
RUN := .venv/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
READY := .venv/.installed$(addprefix -,$(EXTRAS))

# Values reach the shell through the environment, so that a path may hold any character.
export MODEL PRECISION TARGET BATCH WEIGHTS IMAGE IO IMAGES OUT BACKEND WITHOUT FORM ONNX CALIB CALIB_IMAGES OBSERVER DATA MAX_DROP MAX_ERROR MIN_TOP1_AGREEMENT CACHE_LIMIT CACHE
export HTTP GRPC COUNT KILLS SEEDS RUNS REPO SERVER INTO PRICE VS DURATION THREADS SWEEP JOBS
REQUEST = "$$MODEL" --precision "$$PRECISION" \
	$(if $(TARGET),--target "$$TARGET") $(if $(BATCH),--batch "$$BATCH") $(if $(WEIGHTS),--weights "$$WEIGHTS") \
	$(if $(IMAGE),--image "$$IMAGE") $(if $(IO),--io "$$IO") $(if $(IMAGES),--images "$$IMAGES") \
	$(if $(OUT),--out "$$OUT") $(if $(BACKEND),--backend "$$BACKEND") $(if $(WITHOUT),--without "$$WITHOUT") \
	$(if $(FORM),--form "$$FORM") $(if $(CALIB),--calib "$$CALIB") \
	$(if $(CALIB_IMAGES),--calib-images "$$CALIB_IMAGES") $(if $(OBSERVER),--observer "$$OBSERVER") \
	$(if $(CACHE),--cache "$$CACHE") \
	$(if $(ALLOW_UNFUSED),--allow-unfused) $(if $(REQUIRE_GAIN),--require-gain) $(if $(CACHE_LIMIT),--cache-limit "$$CACHE_LIMIT") $(if $(MAX_DROP),--max-drop "$$MAX_DROP") \
	$(if $(MAX_ERROR),--max-error "$$MAX_ERROR") $(if $(MIN_TOP1_AGREEMENT),--min-top1-agreement "$$MIN_TOP1_AGREEMENT") \
	$(if $(QUIET),--quiet) $(if $(JSON),--json)

# Every precision that was built, unless PRECISION was given.
REPORT = "$$MODEL" --precision $(if $(filter file,$(origin PRECISION)),all,"$$PRECISION") \
	$(if $(OUT),--out "$$OUT") $(if $(WEIGHTS),--weights "$$WEIGHTS") $(if $(IMAGES),--images "$$IMAGES") \
	$(if $(DEPTH),--depth) $(if $(QUIET),--quiet) $(if $(JSON),--json)

.PHONY: help engine parity kernels tune explain blame accuracy report train why clean-cache list test lint clean doctor lock fuzz model
.PHONY: bench-blame bench-pipeline bench-accuracy bench-kernels bench-runtime bench-twin bench-equivalence bench-kills bench-mutants bench-faults bench-serve bench-requests
.PHONY: crosscheck cpp zoo triton tritonserver serve roofline bench sweep sweepfile modelopt

help:  ## this text
	@echo 'Vision transformers from PyTorch to TensorRT engines.'
	@echo
	@echo 'Targets'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Knobs of engine, parity, kernels, tune and explain, and their defaults'
	@echo '  MODEL=swin_b      a name of `make list`  (required)'
	@echo '  PRECISION=fp16    fp32 tf32 fp16 bf16 int8 int8-bf16 fp8              fp16'
	@echo '  TARGET=sm80,sm89  compute capabilities   sm80,sm86,sm89,sm120'
	@echo '  BATCH=1:8:32      MIN:OPT:MAX, or N      the recipe'"'"'s, mostly 1:8:32'
	@echo '  WEIGHTS=auto      pretrained, random, or a .safetensors / .pt file    auto'
	@echo '  IMAGE=224         pixels, N or HxW       the recipe'"'"'s'
	@echo '  IO=fp16           type at the boundary   fp32'
	@echo '  IMAGES=folder     photographs for parity six that scikit-image ships'
	@echo '  OUT=folder        bundles and cache      build'
	@echo '  BACKEND=tensorrt  tensorrt-rtx (no GPU), tensorrt (this GPU)          tensorrt-rtx'
	@echo '  WITHOUT=a,b       rewrites to leave out  none'
	@echo '  FORM=windows      form of attention      the tuned one'
	@echo '  CALIB=folder      images for int8 and fp8, or .npy, .npz              the recipe'"'"'s, IMAGES'
	@echo '  CALIB_IMAGES=512  how many of them       512'
	@echo '  OBSERVER=entropy  minmax percentile entropy mse                       mse'
	@echo '  DATA=folder       labelled images for accuracy, a folder a class      the recipe'"'"'s own'
	@echo '  MAX_DROP=0.5      points of top-1 that may be lost: blocks stay wider until it holds          any'
	@echo '  MIN_TOP1_AGREEMENT=0.995   the same budget as a share of images'
	@echo '  MAX_ERROR=0.001   the largest error of an output, as a share of its largest value             any'
	@echo '  ONNX=model.onnx   a graph for blame to judge                          the model'"'"'s own'
	@echo '  CACHE_LIMIT=20G   how much the cache may hold; the least recently used goes                   50G'
	@echo '  PRICE=a100-80=1.8 dollars a GPU-hour for roofline, for all chips or by chip'
	@echo '  GRAPH=1           roofline from the graph alone, nothing is compiled'
	@echo '  VS=torch,openvino contenders of bench: torch torch.compile onnx-plain onnxsim onnxslim ort-transformers openvino'
	@echo '  DURATION=10       seconds that bench measures each, at least    3'
	@echo '  THREADS=2         of bench on the CPU    all cores'
	@echo '  SWEEP=file JOBS=2 the file of a sweep and how many of its cells are built at a time'
	@echo '  REPO=models       the model repository of triton and serve              models'
	@echo '  SERVER=python     of triton: python, tensorrt_plan, onnxruntime         what serves the engine'
	@echo '  ALLOW_RANDOM=1    of triton and cpp: a bundle with random weights, too'
	@echo '  REQUIRE_GAIN=1    fail where int8 or fp8 is no faster than the 16-bit engine'
	@echo '  DEPTH=1           report: measure the error of each block, half a minute or more a build'
	@echo '  CACHE=folder      a cache to share, a folder or s3://bucket/folder    OUT/.cache'
	@echo '  INTO=folder       where cpp writes model_info.hpp                     cpp/MODEL_PRECISION'
	@echo '  ALLOW_UNFUSED=1   pass where the compiler fused less than the recipe promises'
	@echo '  QUIET=1 JSON=1    only the verdict; the result as JSON'
	@echo
	@echo 'Exit codes of python -m exporter: 0 done, 1 a check failed, 2 the request cannot be served.'

# Every package is the one of requirements.lock, by its hash; TensorRT itself is NVIDIA's to install.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'error: Python 3.10 or newer is needed, $(PYTHON) is older; next: make PYTHON=python3.11' >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv .venv
	@echo 'installing into .venv: about 6 GB, two minutes from a warm pip cache' >&2
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(if $(EXTRAS),$(PIP) -e '.[$(EXTRAS)]')
	@touch $@

model:
	@test -n "$$MODEL" || { echo 'error: MODEL is missing; next: make list, then make engine MODEL=swin_b' >&2; exit 2; }

sweepfile:
	@test -n "$$SWEEP" || { echo 'error: SWEEP is missing; next: make sweep SWEEP=benchmarks/sweep.yaml' >&2; exit 2; }

engine: model $(READY)  ## build an engine, prove its parity, leave a bundle in OUT/MODEL/PRECISION
	@$(RUN) -m exporter engine $(REQUEST)

parity: model $(READY)  ## the parity ladder: torch, raw, rewritten, typed, engine
	@$(RUN) -m exporter parity $(REQUEST)

kernels: model $(READY)  ## the kernels that the compiler emitted, biggest first, and each block's share
	@$(RUN) -m exporter kernels $(REQUEST)

tune: model $(READY)  ## every form of attention through the compiler; the winner is what make engine uses
	@$(RUN) -m exporter tune $(REQUEST)

explain: model $(READY)  ## what each rewrite did to the graph and to the kernels, and what each block became
	@$(RUN) -m exporter explain $(REQUEST)

blame: model $(READY)  ## which block a graph computes differently, and why; ONNX=file judges a file from elsewhere
	@$(RUN) -m exporter blame $(REQUEST) $(if $(ONNX),--onnx "$$ONNX")

accuracy: model $(READY)  ## how often torch, the rewritten and the typed graph name the right class, on DATA
	@$(RUN) -m exporter accuracy $(REQUEST) $(if $(DATA),--data "$$DATA")

train: model $(READY)  ## train a small model on handwritten digits: vit_digits, swin_digits, mixer_digits, detr_digits
	@$(RUN) -m recipes.trained.train "$$MODEL"

report: $(if $(SWEEP),,model) $(READY)  ## one HTML file of all that was built, OUT/MODEL/report.html; DEPTH=1 measures block by block; of a SWEEP=file
	@$(RUN) -m exporter report $(if $(SWEEP),--sweep "$$SWEEP" $(if $(OUT),--out "$$OUT"),$(REPORT))

triton: model $(READY)  ## a bundle as a model repository of Triton Inference Server, in REPO (models by default)
	@$(RUN) -m exporter triton "$$MODEL" --precision "$$PRECISION" $(if $(OUT),--out "$$OUT") \
		$(if $(REPO),--repository "$$REPO") $(if $(SERVER),--server "$$SERVER") $(if $(ALLOW_RANDOM),--allow-random) \
		$(if $(JSON),--json)

tritonserver: $(READY)  ## download the server (55 MB) into .venv/tritonserver
	@$(RUN) -m exporter serve --install

serve: $(READY)  ## serve MODEL's bundle, or REPO, on loopback until Ctrl-C
	@$(RUN) -m exporter serve $(if $(MODEL),"$$MODEL" --precision "$$PRECISION") $(if $(OUT),--out "$$OUT") \
		$(if $(ALLOW_RANDOM),--allow-random) $(if $(REPO),--repository "$$REPO") \
		$(if $(HTTP),--http "$$HTTP") $(if $(GRPC),--grpc "$$GRPC")

why: model $(READY)  ## which stages a build would reuse, which it would make again, and what changed
	@$(RUN) -m exporter why $(REQUEST)

clean-cache: $(READY)  ## delete the cached stages of OUT; bundles stay
	@$(RUN) -m exporter clean-cache $(if $(OUT),--out "$$OUT") $(if $(CACHE),--cache "$$CACHE")

roofline: model $(READY)  ## floors on GPUs that are not here, images per second and (PRICE=) per dollar, growth, memory
	@$(RUN) -m exporter roofline $(REQUEST) $(if $(PRICE),--price "$$PRICE") $(if $(GRAPH),--graph-only)

bench: model $(READY)  ## time a bundle's engine, or its graph on the CPU, BATCH=1,8,32, in turns with VS=torch,openvino,...
	@$(RUN) -m exporter bench "$$MODEL" --precision "$$PRECISION" $(if $(BATCH),--batch "$$BATCH") \
		$(if $(OUT),--out "$$OUT") $(if $(BACKEND),--backend "$$BACKEND") $(if $(VS),--vs "$$VS") \
		$(if $(WEIGHTS),--weights "$$WEIGHTS") $(if $(DURATION),--duration "$$DURATION") \
		$(if $(THREADS),--threads "$$THREADS") $(if $(QUIET),--quiet) $(if $(JSON),--json)

sweep: sweepfile $(READY)  ## every cell of SWEEP=file.yaml, JOBS=2 at a time: engine, roofline, bench; one table at the end
	@$(RUN) -m exporter sweep "$$SWEEP" $(if $(OUT),--out "$$OUT") $(if $(JOBS),--jobs "$$JOBS") \
		$(if $(QUIET),--quiet) $(if $(JSON),--json)

zoo: $(READY)  ## every recipe in four precisions (benchmarks/zoo.yaml), resumable; the table of it in README.md
	@$(RUN) -m exporter sweep benchmarks/zoo.yaml $(if $(OUT),--out "$$OUT") $(if $(JOBS),--jobs "$$JOBS"); \
		swept=$$?; $(RUN) benchmarks/zoo.py $(if $(OUT),"$$OUT") && exit $$swept

cpp: model $(READY)  ## a bundle's facts as INTO/model_info.hpp, for the C++ programs of deploy/cpp
	@$(RUN) -m exporter cpp "$$MODEL" --precision "$$PRECISION" $(if $(OUT),--out "$$OUT") \
		$(if $(INTO),--into "$$INTO") $(if $(ALLOW_RANDOM),--allow-random) $(if $(JSON),--json)

crosscheck: model $(READY)  ## the same photographs through torch, ONNX Runtime, tritonserver and the C++ preprocessing
	@$(RUN) -m exporter crosscheck "$$MODEL" --precision "$$PRECISION" $(if $(OUT),--out "$$OUT") \
		$(if $(WEIGHTS),--weights "$$WEIGHTS") $(if $(IMAGES),--images "$$IMAGES") $(if $(QUIET),--quiet) $(if $(JSON),--json)

list: $(READY)  ## the models: family, parameters, GFLOPs, input, precisions
	@$(RUN) -m exporter list $(if $(JSON),--json)

# A worker a core, a file to a worker; the dear files come first by name.
test: $(READY)  ## the whole test suite; ARGS=tests/test_moves.py for a part of it, WORKERS=1 one by one, EVERY=1 all recipes
	@$(RUN) -m exporter serve --install >/dev/null || echo 'the tests of the server are skipped' >&2
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lock: $(READY)  ## resolve pyproject.toml into requirements.lock again, what it holds kept; UPGRADE=1 takes the newest
	@$(PIP) uv==0.13.9
	@.venv/bin/uv --no-python-downloads pip compile pyproject.toml --extra dev --extra bench --universal --generate-hashes \
		--python-version 3.10 --no-annotate --no-header --quiet $(if $(UPGRADE),--upgrade) -o requirements.lock

lint: $(READY)  ## ruff
	@$(RUN) -m ruff check .

bench-pipeline: $(READY)  ## time and memory of a cold build, a second precision, an unchanged repeat
	@$(RUN) benchmarks/pipeline.py $(if $(MODEL),"$$MODEL")

bench-runtime: $(READY)  ## time on the CPU in turns: ours, torch, torch.compile, ONNX Runtime, onnxsim, onnxslim, OpenVINO; INT8
	@$(RUN) benchmarks/runtime.py $(if $(MODEL),"$$MODEL")

bench-accuracy: $(READY)  ## accuracy of the trained models by precision, beside onnxruntime's quantisation and Model Optimizer's
	@$(RUN) benchmarks/accuracy.py $(if $(MODEL),"$$MODEL")

modelopt:  ## NVIDIA Model Optimizer into .modelopt (6.5 GB), for its rows in bench-accuracy
	@test -x .modelopt/bin/python || $(PYTHON) -m venv .modelopt
	@.modelopt/bin/python -m pip install --quiet --disable-pip-version-check 'nvidia-modelopt[onnx]==0.47.0'

bench-twin: $(READY)  ## the numerics twin's time beside the FP32 graph's, in turns
	@$(RUN) benchmarks/twin.py $(if $(MODEL),"$$MODEL")

bench-kernels: $(READY)  ## kernels and bytes as exported and rewritten, side by side in one run
	@$(RUN) benchmarks/kernels.py $(if $(MODEL),"$$MODEL")

bench-serve: model $(READY)  ## MODEL behind tritonserver with 1 to 16 clients, beside the bare runtime, in turns
	@$(RUN) benchmarks/serve.py "$$MODEL" --precision "$$PRECISION" $(if $(OUT),--out "$$OUT") \
		$(if $(ALLOW_RANDOM),--allow-random)

bench-requests: model $(READY)  ## 10,000 requests to MODEL across a new version, a killed worker and a killed server
	@$(RUN) benchmarks/endurance.py "$$MODEL" --precision "$$PRECISION" $(if $(OUT),--out "$$OUT")

bench-faults: $(READY)  ## a process that builds and publishes, killed at 200 random instants
	@$(RUN) benchmarks/faults.py

bench-kills: $(READY)  ## KILLS=200 whole builds of a small model, each killed at a random instant
	@$(RUN) benchmarks/kills.py $(if $(KILLS),"$$KILLS")

bench-equivalence: $(READY)  ## COUNT=10000 random networks through every rewrite and precision, beside what they were
	@$(RUN) benchmarks/equivalence.py $(if $(COUNT),"$$COUNT")

bench-blame: $(READY)  ## faults planted into small models of SEEDS=20 weights each: is every one named, and nobody else?
	@$(RUN) benchmarks/blame.py $(if $(SEEDS),"$$SEEDS")

bench-mutants: $(READY)  ## mutants of the rewrites and the calibration that their own tests do not kill: tests/survivors.txt
	@$(PIP) mutmut==3.8.1
	@OMP_NUM_THREADS=1 .venv/bin/mutmut run
	@.venv/bin/mutmut results | sed -n 's/^ *\(.*\): \(survived\|no tests\)$$/\1/p' | sort > tests/survivors.txt
	@wc -l < tests/survivors.txt

fuzz: $(READY)  ## RUNS=1000000 damaged files for every reader, guided by coverage
	@$(RUN) benchmarks/fuzz.py $(if $(RUNS),--runs "$$RUNS")

doctor: $(READY)  ## what works on this machine and what does not, and what to type about it
	@$(RUN) -m exporter doctor $(if $(OUT),--out "$$OUT") $(if $(JSON),--json)

clean:  ## remove OUT (build by default): bundles and cache
	rm -rf "$${OUT:-build}"
