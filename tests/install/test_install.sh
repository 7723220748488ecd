#!/bin/sh
# test_install.sh BUILD SOURCE WORK CMAKE CC LIBDIR BINDIR SANITIZERS
# The prefix has a space in its name, and is moved after the installation: a copy works wherever it lies.
set -eu
build=$1 source=$2 work=$3 cmake=$4 cc=$5 libdir=$6 bindir=$7 sanitizers=$8

if [ -n "$sanitizers" ]; then
	echo "skipped: built with -fsanitize=$sanitizers, which the installed program would need too"
	exit 77
fi

fail() {
	echo "failed: $1" >&2
	exit 1
}

example=$source/../../examples/tiny.c
[ -f "$example" ] || example=$source/version.c

rm -rf "$work/first" "$work/an install" "$work/by-cmake" "$work/by-pkg-config"
mkdir -p "$work"
"$cmake" --install "$build" --prefix "$work/first" >"$work/install.log" || fail "cmake --install (see $work/install.log)"
mv "$work/first" "$work/an install"
prefix="$work/an install"

for file in include/penstock/status.h "$libdir/libpenstock.so" "$libdir/pkgconfig/penstock.pc" \
	"$libdir/cmake/penstock/penstock-config.cmake" share/man/man1/penstock.1 \
	share/bash-completion/completions/penstock share/zsh/site-functions/_penstock \
	share/fish/vendor_completions.d/penstock.fish share/doc/penstock/LICENSE; do
	[ -s "$prefix/$file" ] || fail "not installed, or empty: $file"
done
readelf -d "$prefix/$libdir/libpenstock.so" | grep -q 'SONAME.*libpenstock\.so\.[0-9]' ||
	fail "libpenstock.so has no versioned soname"
if [ -e "$build/bin/penstock" ]; then
	"$prefix/$bindir/penstock" --help >/dev/null || fail "the installed penstock does not run"
fi

"$cmake" -S "$source/consumer" -B "$work/by-cmake" -G Ninja -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" \
	-DPS_EXAMPLE="$example" >"$work/by-cmake.log" 2>&1 || {
	cat "$work/by-cmake.log"
	fail "find_package(penstock) from the installed copy"
}
"$cmake" --build "$work/by-cmake"
"$work/by-cmake/example" || fail "the program built with find_package ends with $?"

# Quoting for the shell is pkg-config's own, hence eval.
flags=$(PKG_CONFIG_PATH="$prefix/$libdir/pkgconfig" pkg-config --cflags --libs penstock) || fail "pkg-config penstock"
mkdir "$work/by-pkg-config"
eval "\"\$cc\" -std=c11 -Wall -Werror -D_POSIX_C_SOURCE=200809L \"\$example\" -o \"\$work/by-pkg-config/example\" $flags -lm"
LD_LIBRARY_PATH="$prefix/$libdir" "$work/by-pkg-config/example" ||
	fail "the program built with pkg-config ends with $?"
