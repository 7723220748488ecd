#!/bin/sh
# The command, where OpenCL is missing or goes away: one line that says so, the right exit status, and an end.
program=$1 library=$2
if [ -n "${PS_SANITIZE:-}" ]; then
	echo "skip: a sanitizer's runtime wants to be loaded first"
	exit 77
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
"$program" devices >"$folder/out" || exit 1
if ! grep -q '^opencl:0' "$folder/out"; then
	echo "skip: there is no OpenCL device"
	exit 77
fi

# expect STATUS TEXT ARGUMENT…: the command ends with the status and, to standard error, one line with the text.
expect() {
	wanted=$1 text=$2
	shift 2
	timeout 120 "$program" "$@" >"$folder/out" 2>"$folder/err"
	status=$?
	if [ "$status" -ne "$wanted" ] || ! grep -q -- "$text" "$folder/err" ||
		[ "$(grep -c '^penstock' "$folder/err")" -ne 1 ]; then
		echo "penstock $*: exit status $status instead of $wanted, or not one line with \"$text\":"
		cat "$folder/err"
		exit 1
	fi
}

# lists TEXT ARGUMENT…: the list of devices comes to its end, and has the text.
lists() {
	text=$1
	shift
	if ! timeout 120 "$program" devices "$@" >"$folder/out" 2>&1 || ! grep -q -- "$text" "$folder/out"; then
		echo "penstock devices $*: no \"$text\":"
		cat "$folder/out"
		exit 1
	fi
}

# What a device that goes away leaves behind is not for the user's cache; PoCL's own may stay where it is.
cache=${XDG_CACHE_HOME:-$HOME/.cache}
export POCL_CACHE_DIR="${POCL_CACHE_DIR:-$cache/pocl/kcache}" XDG_CACHE_HOME="$folder/cache"
mkdir -p "$folder/cache"
[ ! -d "$cache/penstock" ] || cp -R "$cache/penstock" "$folder/cache"

small='--emsize 16 --nhead 2 --nhid 16 --nlayers 2 --epochs 1 --steps-per-epoch 2 --eval-steps 1'
mkdir "$folder/none"
export OCL_ICD_VENDORS="$folder/none"
expect 2 "no OpenCL platform is installed here.*no .*icd in $folder/none" train --stages opencl:0,cpu
lists 'no OpenCL platform'
unset OCL_ICD_VENDORS

# Whatever is found out about a device once is found out here.
# shellcheck disable=SC2086
"$program" train --stages opencl:0,cpu $small >"$folder/out" 2>&1 || {
	cat "$folder/out"
	exit 1
}

# In the middle of training, of making the pipeline, and at the first question.
# The loader takes a blank for the end of a name.
ln -s "$library" "$folder/failing.so"
export LD_PRELOAD="$folder/failing.so"
for from in 4000 3000; do
	# shellcheck disable=SC2086
	PS_TEST_FAIL_FROM=$from expect 1 'opencl:0.*CL_DEVICE_NOT_AVAILABLE' train --stages opencl:0,cpu $small
done
# shellcheck disable=SC2086
PS_TEST_FAIL_FROM=60 expect 1 'CL_DEVICE_NOT_AVAILABLE' train --stages opencl:0,cpu $small
PS_TEST_FAIL_FROM=1 expect 2 'CL_DEVICE_NOT_AVAILABLE' train --stages opencl:0,cpu
PS_TEST_FAIL_FROM=2 lists 'has no devices: CL_DEVICE_NOT_AVAILABLE'
PS_TEST_FAIL_FROM=1 lists '"reason":"no OpenCL platform is installed here (CL_DEVICE_NOT_AVAILABLE)' --measure-links --json
for from in 3 5 10 50 100; do
	PS_TEST_FAIL_FROM=$from lists 'opencl:0.*CL_DEVICE_NOT_AVAILABLE' --measure-links
done
