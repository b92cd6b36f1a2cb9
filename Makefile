# Building, checking and showing pg_trickle. `make help` lists what there is; the work is done by
# the scripts in .ci/ and regress/bin/, whose first lines say how.

SHELL = /bin/sh
.DEFAULT_GOAL = all
.PHONY: all help install demo check fuzz soak bench accept clean \
	check-style check-lint check-unit check-pgrx check-regress check-isolation check-tap check-generated check-soak

# The variables that the scripts read.
export PG_CONFIG TESTS N SEED MINUTES KEEP DESTDIR

all: ## compile the extension
	@.ci/extension release

install: ## install it into the server of PG_CONFIG=path (or the one `make demo` finds)
	@.ci/install

demo: ## show views maintaining themselves on a private server; KEEP=1 leaves it running
	@regress/bin/demo

check: ## run every test suite
	@regress/bin/check

check-style check-lint check-unit check-pgrx check-regress check-isolation check-tap check-generated check-soak: ## one suite; TESTS="a b" some tests of it
	@regress/bin/check $(@:check-%=%)

accept: ## take the last results of TESTS="a b" (regress or isolation) as the expected ones
	@regress/bin/accept $(TESTS)

fuzz: ## N=500000 generated checks from a new seed, or from SEED=
	@N=$${N:-500000} SEED=$${SEED:-$$(date +%s)} regress/bin/check generated

soak: ## MINUTES=60 of views that refresh themselves while everything happens at once; SEED=
	@MINUTES=$${MINUTES:-60} regress/bin/check soak

bench: ## measure
	@regress/bin/bench

clean: ## remove what building left in this tree (not the cached server)
	rm -rf target regress/generated/target docs/book

help: ## this list
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { print "make " $$1; print "        " $$2 }' Makefile
