# Every command works as the first one on a machine with Python >= 3.11 and make, and is quick the second time.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
OPENAPI := service/transports/rest/openapi.json
STUBS := service/transports/grpc/generated
PLAYGROUND := service/transports/rest/playground
PROMETHEUS_RULE := deploy/components/monitoring/prometheus-rule.yaml
PROTOC := $(BIN)/python -m grpc_tools.protoc -I $(STUBS)=protos/paligemma/v1 -I $(STUBS)=protos/inference \
    protos/paligemma/v1/paligemma.proto protos/inference/inference.proto
FUZZ_SECONDS ?= 300
SOAK_SECONDS ?= 600
LOAD_TEST_SECONDS ?= 15
LAST_TAG := $(shell git describe --tags --abbrev=0 2>/dev/null)

.PHONY: demo test test-cluster soak screenshots check lint scripts types imports protocols rules generated dockerfile generate manifests format image-check fuzz-rest fuzz-grpc fuzz-images fuzz-parsers amplification lock parity load-test bench bench-rivals bench-front-end bench-gpu bench-profile bench-strict bench-adapters bench-quantization bench-scaled-decoding bench-capacity bench-overload evaluate clean

demo: .venv/runtime ## serve the embedded model on 127.0.0.1:8000
	$(BIN)/paliserve serve

# Much of their time tests wait for servers to start: one more of them than two cores have is of use.
test: .venv/dev ## all tests, three files at a time
	$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile

test-cluster: .venv/dev ## three replicas behind a real HAProxy: restarted, killed and frozen under load; says its figures; needs apt-get install haproxy
	CI=1 $(BIN)/python -m pytest -q -s tests/cluster

soak: .venv/dev ## ten minutes at 80 % of the capacity with good, wrong and leaving clients: what grows, what leaks, what is lost
	$(BIN)/python -m load_tests.soak --seconds $(SOAK_SECONDS)

screenshots: .venv/dev ## the README's pictures of the playground, by a real browser; needs chromium
	$(BIN)/python -m tests.screenshots

check: lint types imports protocols rules generated dockerfile ## everything that needs no test run

lint: .venv/dev scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

scripts: ## the playground's, as node reads them
	@if command -v node >/dev/null; then for script in $(PLAYGROUND)/static/*.js; do node --check $$script || exit 1; done; \
	else echo "node is not installed: the playground's scripts are not checked"; test -z "$$CI"; fi

types: .venv/dev
	$(BIN)/mypy

imports: .venv/dev
	$(BIN)/lint-imports

protocols: .venv/dev ## lint; and against the last tag, where there is one that has them: nothing that clients rely on may change
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos
	@if [ -z "$(LAST_TAG)" ] || ! git cat-file -e "$(LAST_TAG):protos/buf.yaml" 2>/dev/null; then echo "no tag to compare the protocols with"; \
	else set -x; $(BIN)/buf breaking protos --against ".git#tag=$(LAST_TAG),subdir=protos"; fi

rules: ## Prometheus' configuration, rules, and the tests of the alerts; promtool is in Debian's package prometheus
	@if command -v promtool >/dev/null; then set -ex; \
	    promtool check config --lint=all --lint-fatal deploy/observability/prometheus.yaml; promtool test rules deploy/observability/rules_test.yaml; \
	else echo "promtool is not installed: the rules are not checked"; test -z "$$CI"; fi

generated: .venv/dev ## what is generated must be what the code and the protocols make
	$(BIN)/python -m service.transports.rest.openapi | diff - $(OPENAPI)
	rm -rf build/stubs && mkdir -p build/stubs
	$(PROTOC) --python_out=build/stubs --pyi_out=build/stubs --grpc_python_out=build/stubs
	diff -r --exclude=__init__.py --exclude=__pycache__ build/stubs/$(STUBS) $(STUBS)
	$(BIN)/python -m tests.deploy.prometheus_rule | diff - $(PROMETHEUS_RULE)
	$(BIN)/python -m tests.security_table | diff - SECURITY.md

dockerfile: .venv/dev
	$(BIN)/hadolint docker/Dockerfile

generate: .venv/dev ## write what is generated
	mkdir -p build
	$(BIN)/python -m service.transports.rest.openapi > $(OPENAPI)
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=.
	$(BIN)/python -m tests.deploy.prometheus_rule > $(PROMETHEUS_RULE)
	$(BIN)/python -m tests.security_table > build/SECURITY.md && mv build/SECURITY.md SECURITY.md

manifests: .venv/dev ## render deploy/ in every combination with kubectl, and check each object against its schema and against the service
	CI=1 $(BIN)/python -m pytest -q $(addprefix tests/deploy/test_,schemas.py pods.py references.py settings_files.py scaling_and_metrics.py)

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz-rest: .venv/dev ## five minutes of requests made of the OpenAPI document, good and bad ones, with all of schemathesis' checks
	$(BIN)/python -m tests.rest_fuzz --seconds $(FUZZ_SECONDS)

fuzz-grpc: .venv/dev ## five minutes of random and spoilt messages for every method of gRPC
	$(BIN)/python -m tests.grpc_fuzz --seconds $(FUZZ_SECONDS)

amplification: .venv/dev ## what each of some sixty hostile requests costs the server in memory and time, the worst last
	$(BIN)/python -m tests.amplification

lock: ## what the images install, with the hashes of its files, out of pyproject.toml and constraints.txt; needs uv
	uv pip compile -q pyproject.toml --extra quantization --extra tracing --generate-hashes --no-header --no-annotate --python-version 3.11 \
	    -c constraints.txt -o docker/requirements.lock

fuzz-images: .venv/dev ## 25,000 mutated pictures against the reader, and 2,500 against the image workers too: 2 minutes on 2 cores, 5 at most
	$(BIN)/python -m tests.fuzz.images

fuzz-parsers: .venv/dev ## a million answers, masks and grammars against second opinions: 3 minutes on 2 cores, 5 at most
	$(BIN)/python -m tests.fuzz.parsers

image-check: ## the cpu image, really built and run, without a registry: needs root and apt-get install buildah debootstrap iproute2
	$(PYTHON) docker/check.py

parity: .venv/dev ## tokens against generate(), a thousand random requests for each kind of model; counted
	PARITY_REQUESTS=1000 $(BIN)/python -m pytest -q -s --timeout 3600 tests/model/test_runner_parity.py tests/model/test_embedded_parity.py \
	    tests/model/test_strict.py tests/model/test_runner.py | grep -o 'parity .*'

load-test: .venv/dev ## locust's users over REST and gRPC against the embedded models, each scenario 15 seconds, with thresholds: 3 minutes
	$(BIN)/python -m load_tests.locust --seconds $(LOAD_TEST_SECONDS)

bench: .venv/dev ## latency and answers of the embedded model against load, by paliserve bench: less than 3 minutes
	$(BIN)/python -m load_tests.bench

bench-rivals: .venv/bench ## the server beside FastAPI with a lock, LitServe and fixed batches: about 15 minutes on 4 cores
	$(BIN)/python -m load_tests.rivals

bench-front-end: .venv/bench ## processor time of a REST request and of a step, around a model that does nothing
	$(BIN)/python -m load_tests.front_end

bench-gpu: .venv/bench ## full-size PaliGemma on a CUDA device against its limits and generate(): less than 9 minutes
	$(BIN)/python -m load_tests.accelerator

bench-profile: .venv/bench ## where the time of a request goes
	$(BIN)/python -m load_tests.where_time_goes

bench-adapters: .venv/bench ## throughput with eight adapters in a batch against none
	$(BIN)/python -m load_tests.adapters

bench-strict: .venv/bench ## what constrained decoding costs a step
	$(BIN)/python -m load_tests.strict_cost

bench-quantization: .venv/bench ## error, speed and size of smaller weights against whole ones
	$(BIN)/python -m load_tests.quantization

bench-scaled-decoding: .venv/bench ## whether JPEGs may be decoded at a fraction of their size
	$(BIN)/python -m load_tests.scaled_decoding

bench-capacity: .venv/bench ## the simulation of capacity beside the real server, then its answers: about 20 minutes on 2 cores
	$(BIN)/python -m load_tests.capacity check
	$(BIN)/python -m load_tests.capacity answer

bench-overload: .venv/bench ## the server at 1, 2, 5 and 10 times what it can carry: about 7 minutes
	$(BIN)/python -m load_tests.overload

evaluate: .venv/dev ## the embedded models' table of figures, written to service/demo: half an hour on a core
	$(BIN)/python -m service.demo.evaluate --threads 4 --output service/demo

.venv/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found as python3."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/runtime: .venv/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ .venv/runtime

.venv/bench: .venv/dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,rivals]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
