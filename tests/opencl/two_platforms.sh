#!/bin/sh
# Runs a program with the platforms that are installed and Oclgrind beside them.
if ! command -v "${PS_OCLGRIND:-oclgrind}" >/dev/null; then
	echo "skip: oclgrind is not installed"
	exit 77
fi
if [ -n "${PS_SANITIZE:-}" ]; then
	echo "skip: a sanitizer's runtime and Oclgrind do not go together"
	exit 77
fi
library=$(dirname -- "$(command -v "${PS_OCLGRIND:-oclgrind}")")/../lib/oclgrind/liboclgrind-rt-icd.so
vendors=${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}
if [ ! -f "$library" ] || [ -z "$(find "$vendors" -maxdepth 1 -name '*.icd' 2>/dev/null)" ]; then
	echo "skip: there are no two platforms"
	exit 77
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cp "$vendors"/*.icd "$folder" || exit 1
realpath "$library" >"$folder/oclgrind.icd" || exit 1
OCL_ICD_VENDORS=$folder "$@"
