# SPDX-License-Identifier: GPL-2.0
# What a person types. Everything runs in a Debian 13 root that the set-up makes
# in the cache (VMBUS_CACHE, default ~/.cache/vmbus-rust). The kernel's build
# reads Kbuild, not this file.

SETUP := qemu-tests/setup
ENTER := $(SETUP)/enter
HARNESS := $(SETUP)/harness

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SILENT:
.PHONY: help run shell ssh test modules deb check fuzz bench budget intree intree-clean series clean distclean

help:
	printf '%s\n' \
	'make run             boot a stock Debian kernel under QEMU with the Rust modules, show what they do' \
	'make shell           the same guest, with an interactive shell' \
	'make ssh             a login to the guest of make shell, from another terminal' \
	'make test            every test; one line of counts at the end' \
	'                       SCENARIO="name name"  only these guest scenarios, or groups of them (storage)' \
	'                       CORE=c|rust|both  whose drivers the scenarios run (default: both, and a part of the next)' \
	'                       CORE=rust-on-c    the Rust drivers on the C core; all: each with everything' \
	'                       KERNEL=debug      the scenarios on a kernel that checks locks, DMA and memory' \
	'                       KERNEL=rt         the scenarios on a kernel with PREEMPT_RT' \
	'                       GUESTS=n          how many guests run at a time' \
	'                       SEED=n            races: this seed only, which is the same run each time' \
	'                       VERSION=4.0       hosts speak no newer version of the protocol (else 5.3)' \
	'                       AGAIN=1           also what the C drivers passed before with the same kernel, QEMU and harness' \
	'                       ROUNDS=n          reload, hot-add, storage-rescinds, ...: so often instead of 20 times' \
	'make modules         build the modules for the stock Debian kernel, into build/modules' \
	'                       KDIR=folder       for another kernel (7.3 or newer, CONFIG_RUST)' \
	'                       LLVM=1            with clang; without KDIR a check only, with debug options' \
	'make deb             the modules in Debian packages, and their sources in one for DKMS, into build/deb' \
	'                       KDIR=folder       for another kernel' \
	'                       KEY=file CERT=file  with the modules signed by this key' \
	'make check           format, clippy (host and kernel code), unit tests' \
	'make fuzz            fuzz the code that reads what a host sends, with libFuzzer' \
	'                       TARGET=name       only this one (see qemu-tests/fuzz); RUNS=n: so many inputs' \
	'                       INPUT=file        only this one, which made it fail' \
	'make bench           the ring beside a plain memcpy' \
	'                       BENCH=storage     what a disk read costs the guest: Rust, C, IDE, AHCI, virtio' \
	'                       BENCH=net         what a frame costs it: Rust, C, e1000e, virtio' \
	'                       BENCH=tcp         what a TCP stream costs it: the same' \
	'                       BENCH=balloon     what a page costs it that goes, comes or is added: Rust, C' \
	'                       QUICK=1           one boot of each, few reads or frames' \
	'                       ONLY=rust,c       only these; BOOTS=n: how often each' \
	'make budget          what the Rust drivers cost, compared with qemu-tests/budget.txt' \
	'                       WRITE=1           make that the budget' \
	'make intree KSRC=folder        put the drivers into a kernel source tree' \
	'make intree-clean KSRC=folder  take them out again' \
	'make series KSRC=folder        make patches for its mailing lists, in build/series' \
	'                       OUT=folder        there instead' \
	'make clean           remove what this checkout built' \
	'make distclean       remove the cache too (Debian root, kernel)' \
	'' \
	'LEVEL=direct|emulated|nested  how guests get Hyper-V: by KVM, by emulation, by KVM in an emulated' \
	'                     machine (default: direct where /dev/kvm can, else emulated)' \
	'VMBUS_CACHE=folder   where the set-up keeps its files'

run shell:
	$(HARNESS) $@ $(if $(LEVEL),--level $(LEVEL))

ssh:
	$(SETUP)/ssh

test:
	$(SETUP)/test $(if $(LEVEL),--level $(LEVEL)) $(addprefix --scenario ,$(SCENARIO)) \
		$(if $(CORE),--core $(CORE)) $(if $(KERNEL),--kernel $(KERNEL)) $(if $(GUESTS),--guests $(GUESTS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(VERSION),--bus-version $(VERSION)) $(if $(AGAIN),--again)

modules:
	$(SETUP)/modules $(if $(KDIR),--kdir $(KDIR)) $(if $(LLVM),--llvm)

deb:
	$(SETUP)/deb $(if $(KDIR),--kdir $(KDIR)) $(if $(KEY),--key $(KEY)) $(if $(CERT),--cert $(CERT))

check:
	$(SETUP)/check

fuzz:
	$(SETUP)/fuzz $(if $(TARGET),--target $(TARGET)) $(if $(RUNS),--runs $(RUNS)) $(if $(INPUT),--input $(INPUT))

bench:
	$(if $(filter-out ring storage net tcp balloon,$(BENCH)),$(error BENCH is ring, storage, net, tcp or balloon))
ifneq ($(filter storage net tcp balloon,$(BENCH)),)
	$(HARNESS) bench $(BENCH) $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(BOOTS),--boots $(BOOTS))
else
	$(SETUP)/ensure
	$(ENTER) cargo bench --locked -p vmbus_bench
endif

budget:
	$(HARNESS) budget $(if $(WRITE),--write)

intree intree-clean:
	$(if $(KSRC),,$(error KSRC=<kernel source folder> is missing))
	$(SETUP)/intree $(if $(filter intree,$@),add,remove) $(KSRC)

series:
	$(if $(KSRC),,$(error KSRC=<kernel source folder> is missing))
	$(SETUP)/series $(KSRC) $(OUT)

clean:
	$(SETUP)/clean

distclean:
	$(SETUP)/clean --all
