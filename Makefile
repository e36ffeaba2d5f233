# make mnist   train and apply the Keras MNIST CNN in a local Spark cluster
# make packages, make flights    two more models: strings, and two inputs
# make tfos    the files of TensorFlowOnSpark's examples in both of its input modes
# make servers its 1.4 model, trained asynchronously through parameter servers
# make pipeline a transformer in stages, each in an executor of its own
# make search  hyper-parameters by cross validation, several fits at once
# make test    every check and test
# make matrix  a small job with every version of Spark that is promised
# make drill   ranks and executors killed, frozen, cut off and lied to, hundreds of times
# make fuzz    damaged files and configs, for FLAMBEAU_FUZZ_SECONDS (300) each
# make check-gpu  layers, fits and a benchmark on the machine's GPU; says what it skipped without one
# make parity  every layer and operation with every option, against TensorFlow
# See README.md. cargo and Maven decide what is out of date inside native/ and jvm/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.PHONY: setup build mnist packages flights tfos servers pipeline search check test test-native test-jvm test-python fuzz parity matrix wheel bench bench-keras bench-feed bench-memory bench-steps bench-async bench-wide bench-strategies bench-gpu check-gpu bench-collective simulate drill clean FORCE

# Where rustup puts cargo, for shells that have not read its profile.
export PATH := $(PATH):$(HOME)/.cargo/bin
export FLAMBEAU_BUILD := $(shell scripts/build-hash.sh)

VENV := build/venv/bin
NATIVE := target/release/libflambeau.so
JAR := jvm/target/flambeau-spark4.0_2.13-0.1.0.jar
MVN := mvn --batch-mode --no-transfer-progress --file jvm/pom.xml -Dflambeau.build=$(FLAMBEAU_BUILD)
PYTHON_FILES := python examples tests

build: $(JAR)

setup:
	@scripts/setup.sh

# All of the workspace, here and elsewhere: for one package cargo would choose other features of what it
# depends on, and build libtorch's bindings anew.
$(NATIVE): FORCE | setup
	@cargo build --locked --release --workspace --lib

$(JAR): $(NATIVE) jvm/pom.xml $(shell find jvm/src -type f)
	@$(MVN) --quiet -Dmaven.test.skip=true -DskipTests package
	@touch $@

mnist packages flights tfos servers pipeline search: $(JAR)
	@examples/$@/run.sh

check: | setup
	cargo fmt --all --check
	cargo clippy --locked --release --workspace --all-targets -- -D warnings
	$(VENV)/ruff check $(PYTHON_FILES)
	$(VENV)/ruff format --check $(PYTHON_FILES)
	cd python && ../$(VENV)/mypy
	$(VENV)/shellcheck .ci/run scripts/*.sh examples/*.sh examples/*/*.sh tests/bench/*.sh tests/bench/*/*.sh tests/device/*.sh

test: test-native test-jvm test-python

# Readers are given damaged files for a minute, each kind half of it.
test-native: export FLAMBEAU_FUZZ_SECONDS ?= 30
test-native: check
	cargo test --locked --release --workspace

test-jvm: $(NATIVE) test-native
	$(MVN) verify
	@touch $(JAR)

# Two processes, as the second starts driver JVMs of its own kind.
test-python: test-jvm
	$(VENV)/pytest python/tests
	$(VENV)/pytest tests

# What cargo test does for seconds; from a new seed each time unless FLAMBEAU_FUZZ_SEED is set.
fuzz: export FLAMBEAU_FUZZ_SECONDS ?= 300
fuzz: export FLAMBEAU_FUZZ_SEED ?= $(shell date +%s)
fuzz: | setup
	cargo test --locked --release --package flambeau-formats --test mutations -- --nocapture
	cargo test --locked --release --package flambeau-keras --test mutations -- --nocapture

# Every layer and operation with every option and every architecture of keras.applications
# against TensorFlow; writes docs/layers.md. One test runs all cases of its module. Those in
# tests/parity have a TensorFlow without oneDNN, which has no convolution with channels first.
PARITY := FLAMBEAU_PARITY=all $(VENV)/pytest -o faulthandler_timeout=3600
parity: | setup
	rm -rf target/parity
	$(PARITY) tests/layers
	$(PARITY) tests/parity
	ulimit -v 18000000; $(PARITY) tests/applications
	$(VENV)/python tests/layers/table.py

# A small job with every version of Spark that is promised: 450 MB each, kept in build/spark.
matrix: $(JAR)
	FLAMBEAU_MATRIX=all $(VENV)/pytest tests/matrix

# Every fault, many times, in minutes: a table, and build/bench/drill.json. DRILL="--short" or names of
# drills choose; partitions between network namespaces need root and are skipped without it.
drill: $(JAR)
	cargo build --locked --release --package flambeau-collective --example drill
	$(VENV)/python tests/drill/run.py $(DRILL)

wheel: $(JAR)
	cd python && ../$(VENV)/python -m hatchling build --target wheel

bench: $(JAR)
	tests/bench/run.sh

# Training and prediction of six models beside Keras, PyTorch and onnxruntime, on one core.
bench-keras: | setup
	tests/bench/keras/run.sh

# What an executor takes for ten times the rows of its budget.
bench-memory: $(JAR)
	tests/bench/memory/run.sh

# What two ranks take beside their forward and backward passes.
bench-steps: | setup
	tests/bench/steps/run.sh

# Accuracy of a model that is trained through parameter servers beside that of workers in step.
bench-async: $(JAR)
	tests/bench/async/run.sh

# Rows per second, bytes on the wire and memory of a click model with ten million embeddings.
bench-wide: | setup
	tests/bench/wide/run.sh

# What each way to train costs, in one table, and a model too large for one process, under a memory limit.
bench-strategies: | setup
	tests/bench/strategies/run.sh

# Training on the machine's GPU beside plain PyTorch.
bench-gpu: | setup
	tests/bench/gpu/run.sh

# What a GPU can be checked for, and on a stand-in what needs none.
check-gpu: | setup
	tests/device/check.sh

# Feeding rows and reading TFRecords beside Spark's and TensorFlow's own ways, on one core.
bench-feed: $(JAR)
	tests/bench/feed/run.sh

# Allreduce between processes of this host beside gloo and Open MPI.
bench-collective: | setup
	tests/bench/collective/run.sh

# What an allreduce would take among 8 to 1,024 executors, as docs/scaling.md has it; and 1,024 ranks
# that meet on this host.
simulate:
	cargo test --quiet --locked --release --package flambeau-collective --lib a_table -- --ignored --nocapture
	cargo test --quiet --locked --release --package flambeau-collective --test crowd a_thousand -- --ignored --nocapture

clean:
	cargo clean
	rm -rf jvm/target python/dist build/mnist
