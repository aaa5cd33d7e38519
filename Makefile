# `make run` and `make test` are all that a newcomer needs; they install what is missing.

.DEFAULT_GOAL := help
.PHONY: help run test sdks demo bench fuzz chaos images fmt lint check services

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: ## Plimsoll on 127.0.0.1:3000, with its data in .plimsoll/
	@scripts/ensure-services run
	cargo build --locked --release -p plimsoll
	@exec "$${CARGO_TARGET_DIR:-target}/release/plimsoll"

test: services ## formatting, lints and every test
	@scripts/test

sdks: services ## clients for TypeScript, Python, Go and Rust, in target/sdks
	@scripts/sdks

demo: services ## watch, update and automatic rollback, to look at
	@cargo build --locked -p plimsoll -p plimsoll-tests --bin plimsoll --bin demo
	@"$${CARGO_TARGET_DIR:-target}/debug/demo"

bench: services ## what it costs, against floors of the same run; SECTIONS="reads watch" for some
	@cargo build --locked --release -p plimsoll -p plimsoll-api -p plimsoll-worker \
		-p plimsoll-tests --bin plimsoll --bin plimsoll-api --bin plimsoll-worker --bin bench
	@"$${CARGO_TARGET_DIR:-target}/release/bench" $(SECTIONS)

fuzz: services ## at least 15,000 generated requests, and the property tests a hundred times over
	cargo build --locked --workspace --bins
	PLIMSOLL_FUZZ_EXAMPLES=$${PLIMSOLL_FUZZ_EXAMPLES:-100} PLIMSOLL_FUZZ_CASES=10000 \
		PLIMSOLL_FUZZ_DOCKSMITH_CASES=5000 \
		cargo test --locked -p plimsoll-tests --test it fuzz:: -- --nocapture
	PROPTEST_CASES=$${PROPTEST_CASES:-25600} cargo test --locked --release -p plimsoll-domain

chaos: services ## workers that die three times at every point of every program; some minutes
	cargo build --locked --workspace --bins
	PLIMSOLL_CHAOS_DEATHS=$${PLIMSOLL_CHAOS_DEATHS:-3} cargo test --locked -p plimsoll-tests --test it crashes::
	PLIMSOLL_CHAOS_DEATHS=1 cargo test --locked -p plimsoll-tests --test it compose_projects::
	PLIMSOLL_CHAOS_DEATHS=1 cargo test --locked -p plimsoll-worker --test operations self_update:: -- --test-threads 2

images: ## plimsoll, plimsoll-api and plimsoll-worker, on a base made of Debian's packages
	@scripts/ensure-services images
	cargo build --locked --release -p plimsoll -p plimsoll-api -p plimsoll-worker
	@scripts/images release

fmt: ## format the source
	cargo fmt --all

lint: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

check: ## does it compile
	cargo check --workspace --all-targets

services: ## install what tests need, start Docker if no engine answers
	@scripts/ensure-services test
