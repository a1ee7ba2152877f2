# SPDX-License-Identifier: GPL-2.0
# Shared by the set-up scripts: where things are, and how they talk to people.
# shellcheck shell=bash

set -euo pipefail

SETUP=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
TOP=$(dirname "$(dirname "$SETUP")")

SUITE=trixie
KERNEL_SERIES=7.3
NEED_MB=10000

CACHE=${VMBUS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vmbus-rust}
case $CACHE in
/*) ;;
*) CACHE=$PWD/$CACHE ;;
esac

key() { # the first digits of the hash of files and words
	local a
	for a in "$@"; do
		if [ -f "$a" ]; then cat "$a"; else printf '%s\n' "$a"; fi
	done | sha256sum | cut -c1-12
}

# An entry of the cache is named after everything that went into it.
ROOT_KEY=$(key "$SETUP/packages" "$SETUP/make-root" "$SUITE")
KERNEL_KEY=$(key "$ROOT_KEY" "$SETUP/make-kernel" "$KERNEL_SERIES" "$CACHE")
ROOT=$CACHE/root-$ROOT_KEY
KERNEL=$CACHE/kernel-$KERNEL_KEY # a link, made when the folder behind it is complete
GUEST_TOOLS=$CACHE/guesttools-$(key "$ROOT_KEY" "$SETUP/guest-packages" "$SETUP/make-unpacked")
SELFTESTS=$CACHE/selftests-$(key "$KERNEL_KEY" "$SETUP/selftests-packages" "$SETUP/make-selftests" "$SETUP/make-unpacked")
FIRMWARE=$CACHE/firmware-$(key "$ROOT_KEY" "$SETUP/firmware-packages" "$SETUP/make-unpacked")
MACHINE=$CACHE/machine-$(key "$ROOT_KEY" "$SETUP/machine-packages" "$SETUP/make-machine")
LINTIAN=$CACHE/lintian-$(key "$ROOT_KEY" "$SETUP/lintian-packages" "$SETUP/make-unpacked")
DKMS_DEBS=$CACHE/dkmsdebs-$(key "$KERNEL_KEY" "$SETUP/dkms-packages" "$SETUP/make-dkms-debs")
# QEMU with the series of ../qemu: the binary, and the tree that later patches are built in.
QEMU_TREE=$CACHE/qemutree-$(key "$ROOT_KEY" "$SETUP/make-qemu" "$TOP/qemu-tests/qemu/build")
QEMU=$CACHE/qemu-$(key "$QEMU_TREE" "$TOP"/qemu-tests/qemu/{patches,plugins}/*)
# who works on that QEMU has it elsewhere (and shows it with VMBUS_BIND)
QEMU=${VMBUS_TEST_QEMU:-$QEMU}

ENTRY='(root|stock|testkernel|guesttools|selftests|firmware|machine|lintian|dkmsdebs|qemutree|qemu|build)-[0-9a-f]{12}(\..*)?|crates-bitflags-.*'

entries() { # tests and actions of find: the cache's folders with a key; VMBUS_CACHE may hold others
	find "$CACHE" -mindepth 1 -maxdepth 1 -regextype posix-extended -type d -regex ".*/($ENTRY)" "$@"
}

test_kernel() { # name: the folder of a kernel of ../kernels
	echo "$CACHE/testkernel-$(key "$KERNEL_KEY" "$SETUP/make-test-kernel" "$TOP/qemu-tests/kernels/base.config" "$TOP/qemu-tests/kernels/$1.config")"
}

built_in_kernel() { # the folder in which the kernels of ../kernels/built-in are built
	echo "$CACHE/testkernel-$(key "$KERNEL_KEY" "$TOP/qemu-tests/kernels/built-in/kernel.config")"
}

# What belongs to this checkout alone.
BUILD=$CACHE/build-$(key "$TOP")
LOGS=$BUILD/logs

# A command that this script waits for, and that does not outlive it.
TIED=(setpriv --pdeathsig KILL)

say() { printf '%s\n' "$*" >&2; }

die() { # message, then lines with the remedy
	printf 'error: %s\n' "$1" >&2
	shift
	[ $# -eq 0 ] || printf '       %s\n' "$@" >&2
	exit 1
}

# Entering the Debian root takes mount and process namespaces. Who is not root makes them, and is
# root, in a user namespace; to the machine all files stay this user's.
SPACES=(--mount --pid --fork --kill-child --propagation private)
[ "$(id -u)" -eq 0 ] || SPACES+=(--user --map-root-user)

can_enter() { # dies if there are no such namespaces
	local said rule name is wanted
	said=$(unshare "${SPACES[@]}" mount -t tmpfs tmpfs /tmp 2>&1) && return
	[ "$(id -u)" -ne 0 ] || die "the Debian root needs mounts, and they are not possible here: $said" \
		"in a container, the container needs CAP_SYS_ADMIN (docker: --privileged)"
	for rule in user.max_user_namespaces:0:15000 kernel.unprivileged_userns_clone:0:1 \
		kernel.apparmor_restrict_unprivileged_userns:1:0; do
		IFS=: read -r name is wanted <<<"$rule"
		[ "$(cat "/proc/sys/${name//.//}" 2>/dev/null)" = "$is" ] || continue
		die "the Debian root needs user namespaces, and this machine forbids them: $name is $is" \
			"let an administrator run: sysctl -w $name=$wanted" "or run make as root"
	done
	die "the Debian root needs user namespaces, and they are not possible here: $said" \
		"a container has to allow them (docker: --privileged), a chroot cannot; or run make as root"
}

stranger() { # file: whose it is
	stat -c '%U (user %u)' "$1"
}

own_cache() { # dies if another user made the cache or a part of it: each would leave files that the other cannot change
	local other
	[ -d "$CACHE" ] || return 0
	other=$(find "$CACHE" -mindepth 1 -maxdepth 1 -regextype posix-extended \
		-regex ".*/($ENTRY|kernel-[0-9a-f]{12}|cargo|logs|lock|tmp\.......)" ! -uid "$(id -u)" -print -quit)
	[ -z "$other" ] || die "the cache $CACHE is not this user's: ${other##*/} belongs to $(stranger "$other")" \
		"a cache serves one user: set VMBUS_CACHE to a folder of your own, or leave it unset"
	[ -w "$CACHE" ] || die "cannot write to the cache $CACHE, which belongs to $(stranger "$CACHE")" \
		"set VMBUS_CACHE to a folder of your own, or leave it unset"
}

own_build() { # dies if this user cannot change what the checkout built
	local other=''
	[ "$(id -u)" -ne 0 ] || return 0
	[ ! -d "$TOP/build" ] || other=$(find "$TOP/build" -maxdepth 2 ! -uid "$(id -u)" -print -quit)
	[ -z "$other" ] || die "$other belongs to $(stranger "$other"), and this user cannot change it" \
		"everything in it can be made again; let its owner run: rm -r $TOP/build"
}

lay() { # folder, folder for what changes: a private, writable view of the first
	local upper=$2/${1##*/}
	mkdir -p "$upper/up" "$upper/work"
	mount -t overlay overlay -o "lowerdir=$1,upperdir=$upper/up,workdir=$upper/work" "$1" 2>/dev/null && return
	# no overlays on this machine: a copy in the same place
	[ -d "$upper/copy" ] || cp -a --reflink=auto "$1" "$upper/copy"
	mount --bind "$upper/copy" "$1"
}

step() { # text, log file, command...: one line a step, with its time
	local text=$1 log=$2 start=$SECONDS rc=0
	shift 2
	mkdir -p "$(dirname "$log")"
	printf '  %-58s' "$text" >&2
	# not for a function of the script
	[ "$(type -t "$1")" != file ] || set -- "${TIED[@]}" "$@"
	"$@" >"$log" 2>&1 || rc=$?
	if [ "$rc" -ne 0 ]; then
		printf 'failed after %d s\n' $((SECONDS - start)) >&2
		say "  last lines of $log:"
		tail -n 15 "$log" | sed 's/^/    /' >&2
		if grep -qi 'no space left on device' "$log"; then
			die "the disk is full" "make room under $CACHE, or set VMBUS_CACHE to a folder on a larger disk"
		fi
		return "$rc"
	fi
	printf '%4d s\n' $((SECONDS - start)) >&2
}

crate_version() { # name, major version: what Cargo.lock says, "version checksum"
	awk -v name="$1" -v major="$2" '
		/^\[\[package\]\]/ { n = v = "" }
		$1 == "name" { gsub(/"/, "", $3); n = $3 }
		$1 == "version" { gsub(/"/, "", $3); v = $3 }
		$1 == "checksum" && n == name && index(v, major ".") == 1 {
			gsub(/"/, "", $3); print v, $3; exit
		}' "$TOP/Cargo.lock" 2>/dev/null
}

# External crates that the modules link: a folder named by their versions.
read -r BITFLAGS BITFLAGS_SUM < <(crate_version bitflags 2) || true
read -r STATIC_ASSERTIONS STATIC_ASSERTIONS_SUM < <(crate_version static_assertions 1) || true
BITFLAGS=${BITFLAGS:-} STATIC_ASSERTIONS=${STATIC_ASSERTIONS:-}
CRATES=$CACHE/crates-bitflags-$BITFLAGS-static_assertions-$STATIC_ASSERTIONS

kernel_sources() { # what the kernel's build reads, and nothing of cargo's
	(cd "$TOP" && find Kbuild vmbus drivers \
		\( -name '*.rs' -o -name '*.c' -o -name '*.h' -o -name Kconfig -o -name Kbuild \) \
		-not -path '*/tests/*' -not -path '*/benches/*' | sort)
}

kernel_sources_to() { # folder: a copy of them, and the external crates
	local crate f
	# with their times, so that make compiles again only what has changed
	kernel_sources | while IFS= read -r f; do
		install -D -p -m 644 "$TOP/$f" "$1/$f"
	done
	for crate in bitflags static_assertions; do
		mkdir -p "$1/crates/$crate"
		cp -rp "$CRATES/$crate"/{src,Cargo.toml,LICENSE-*} "$1/crates/$crate/"
	done
}

is_kernel_tree() { # folder: or an error
	[ -f "$1/drivers/hv/Kconfig" ] && [ -f "$1/drivers/hv/Makefile" ] || die "$1 is not a kernel source tree (no drivers/hv)"
	local version
	version=$(awk -F '[ \t]*=[ \t]*' '$1 == "VERSION" { v = $2 } $1 == "PATCHLEVEL" { p = $2 } END { print v "." p }' "$1/Makefile")
	[ "$(printf '%s\n' "$KERNEL_SERIES" "$version" | sort -V | head -n 1)" = "$KERNEL_SERIES" ] ||
		die "$1 is Linux $version; $KERNEL_SERIES or newer is needed"
	[ "$version" = "$KERNEL_SERIES" ] || say "$1 is Linux $version; what is here was built and tried with $KERNEL_SERIES"
}

# The two lines that make the build of a kernel tree see the drivers in drivers/hv/rust.
HOOK_KCONFIG='source "drivers/hv/rust/vmbus/Kconfig"'
HOOK_MAKEFILE='obj-$(CONFIG_HYPERV_VMBUS_RUST) += rust/'

edit_file() { # file, awk program: changed in place, and only if it changes
	local new
	new=$(mktemp)
	awk -v kconfig="$HOOK_KCONFIG" -v makefile="$HOOK_MAKEFILE" "$2" "$1" >"$new"
	cmp -s "$new" "$1" || cat "$new" >"$1"
	rm -f "$new"
}

unhook() { # the tree's drivers/hv
	edit_file "$1/Makefile" '$0 != makefile'
	edit_file "$1/Kconfig" '$0 != kconfig'
}

hook() { # the tree's drivers/hv
	unhook "$1"
	# before the end of the Hyper-V menu
	edit_file "$1/Kconfig" '{ text[NR] = $0; if ($0 == "endmenu") last = NR }
		END { for (i = 1; i <= NR; i++) { if (i == last) print kconfig; print text[i] } if (!last) print kconfig }'
	edit_file "$1/Makefile" '{ print } END { print makefile }'
}

kbuild_modules() { # from Kbuild, the one list of modules: "OPTION module crate-root pure-crate..." a line each
	awk '{ gsub(/\$\(on-c\)/, ""); gsub(/\$\(core\)/, "vmbus") }
		{ while (sub(/\\$/, "")) { getline more; $0 = $0 more } }
		/^obj-\$\(CONFIG_/ { option = $1; gsub(/^obj-\$\(CONFIG_|\)$/, "", option); module = $3; sub(/\.o$/, "", module) }
		$1 == module "-y" {
			line = option " " module " " $3
			for (i = 4; i <= NF; i++) if ($i ~ /_(protocol|ring)\.o$/) line = line " " $i
			print line
		}' "$TOP/Kbuild"
}

# Crates that cargo tests too, as the modules link them.
read -r -d '' -a PURE_OBJECTS < <(kbuild_modules | awk '{ for (i = 4; i <= NF; i++) print $i }') || true
PURE_OBJECTS=("${PURE_OBJECTS[@]/#/$BUILD/modules-stock/}")
