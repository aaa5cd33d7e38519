.PHONY: check
check:
	cargo check --workspace --all-targets
