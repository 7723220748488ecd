#!/bin/sh
# Runs a conformance program on Oclgrind with its checks; whatever Oclgrind has to say is a failure.
program=$1
if ! command -v "${PS_OCLGRIND:-oclgrind}" >/dev/null; then
	echo "skip: oclgrind is not installed"
	exit 77
fi
if [ -n "${PS_SANITIZE:-}" ]; then
	echo "skip: a sanitizer's runtime and Oclgrind's preloaded library do not go together"
	exit 77
fi
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
PS_TEST_DEVICES=opencl:0 PS_TEST_ELEMENTS=${PS_TEST_ELEMENTS:-1000} \
	"${PS_OCLGRIND:-oclgrind}" --data-races --uninitialized "$program" >"$log" 2>&1
status=$?
cat "$log"
if [ "$status" -ne 0 ]; then
	grep -q 'the backend opencl did not load\|no device or backend "opencl"' "$log" && exit 77
	exit 1
fi
if grep -qi 'race\|uninitialized\|invalid\|fatal error\|out of bounds' "$log"; then
	echo "Oclgrind found something"
	exit 1
fi
