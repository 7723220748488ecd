# shellcheck shell=bash
# What scripts/train and scripts/test share: the Debian packages, and how a preset is configured and built.
# Sourced, never run. Sets `root` to the top of the source tree, wherever the caller stands.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# To build the library, the program and the tests (names in Debian 12 and 13). The release preset configures the tests
# too, so that scripts/train and scripts/test share one build folder; hence `check` is here.
# shellcheck disable=SC2034
build_packages=(
	gcc libc6-dev cmake ninja-build pkg-config
	libhwloc-dev libjansson-dev libcurl4-openssl-dev libarchive-dev libunistring-dev libdnnl-dev librandom123-dev
	libssl-dev ocl-icd-opencl-dev libclblast-dev ca-certificates check
)

# What scripts/test needs beside those: the second compiler, the linters, the shells and the manual
# formatter that check completions and manual page, and an OpenCL implementation.
# shellcheck disable=SC2034
test_packages=(
	g++ clang libomp-dev clang-format clang-tidy shellcheck mandoc zsh fish
	pocl-opencl-icd
)

# What scripts/test takes where the system has it: Debian 13 has no oclgrind, and its tests are skipped there.
# shellcheck disable=SC2034
optional_packages=(oclgrind)

die() {
	printf '%s: %s\n' "${0##*/}" "$1" >&2
	exit "${2:-1}"
}

# need_packages PACKAGE…: installs what is missing and says so; silent and offline when nothing is.
need_packages() {
	local missing=() sudo=() have
	if ! command -v dpkg-query >/dev/null; then
		echo "${0##*/}: not a Debian system; going on with what is here (docs/building.md lists what is needed)" >&2
		return
	fi
	have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' || true)
	for package; do
		case $'\n'$have$'\n' in
		*$'\n'"$package"$'\n'*) ;;
		*) missing+=("$package") ;;
		esac
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "run as root, or first: apt-get install ${missing[*]}"
		sudo=(sudo)
	fi
	echo "${0##*/}: installing ${missing[*]}" >&2
	# shellcheck disable=SC2024 # The log belongs to the caller.
	{
		"${sudo[@]}" apt-get update -qq &&
			"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -qq --no-install-recommends "${missing[@]}"
	} >"$log_dir/packages.log" 2>&1 || {
		tail -n 20 "$log_dir/packages.log" >&2
		die "apt-get could not install: ${missing[*]}"
	}
}

# want_packages PACKAGE…: the same for those that apt knows.
want_packages() {
	local package
	for package; do
		! apt-cache show "$package" >/dev/null 2>&1 || need_packages "$package"
	done
}

# configured PRESET: false when there is nothing yet, the presets changed, or the tree was moved since.
configured() {
	local dir="$root/build/$1"
	[ -f "$dir/build.ninja" ] && [ "$dir/.configured" -nt "$root/CMakePresets.json" ] &&
		[ ! "$log_dir/packages.log" -nt "$dir/.configured" ] && # what was installed since is looked for again
		grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$dir/CMakeCache.txt"
}

# build PRESET [TARGET…]: ninja rebuilds what changed, and reconfigures itself when a CMakeLists.txt did.
build() {
	local preset=$1
	shift
	if ! configured "$preset"; then
		(cd "$root" && cmake --fresh --preset "$preset") || return
		touch "$root/build/$preset/.configured"
	fi
	ninja -C "$root/build/$preset" ${PS_JOBS:+-j "$PS_JOBS"} "$@"
}

log_dir="$root/build/log"
mkdir -p "$log_dir"
