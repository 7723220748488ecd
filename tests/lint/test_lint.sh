#!/bin/sh
# test_lint.sh SOURCE TREE: puts one fault at a time into a clean tree; scripts/lint must find each, and only it.
set -eu
lint=$1/scripts/lint
tree=$2

fresh() {
	rm -rf "$tree"
	mkdir -p "$tree/core" "$tree/pipeline" "$tree/backends/cpu" "$tree/model"
	printf '#include "core/backend.h"\n\nint a_number;\n' >"$tree/backends/cpu/a.c"
	printf '#include "core/device.h"\n\ntypedef struct thing thing;\n' >"$tree/pipeline/b.c"
	printf '#include "backends/cpu/backend.h"\n' >"$tree/core/registry.c"
	printf 'text\n' >"$tree/README.md"
	# A repository of its own, so that the one around the build folder does not ignore it.
	git -C "$tree" init -q 2>/dev/null || true
}

# refused WORDS: the tree is refused with one line that has these words.
refused() {
	if out=$("$lint" --root "$tree" tree 2>/dev/null); then
		echo "failed: not found: $1" >&2
		exit 1
	fi
	if [ "$(printf '%s\n' "$out" | wc -l)" -ne 1 ] || ! printf '%s\n' "$out" | grep -qF -- "$1"; then
		printf 'failed: wanted one line with "%s", got:\n%s\n' "$1" "$out" >&2
		exit 1
	fi
	fresh
}

fresh
"$lint" --root "$tree" tree || {
	echo "failed: a clean tree is refused" >&2
	exit 1
}

printf 'text  \n' >"$tree/README.md"
refused 'README.md:1: blanks at the end'
printf 'one\ntwo' >"$tree/README.md"
refused 'README.md:2: no line feed'
printf 'text\r\n' >"$tree/README.md"
refused 'README.md:1: a carriage return'
printf 'a\342\200\213b\n' >"$tree/README.md"
refused 'README.md:1: an invisible character'
printf 'see /%s/me/penstock\n' home >"$tree/README.md"
refused 'README.md:1: a folder of one machine'
awk 'BEGIN { for (i = 0; i < 801; i++) print "/* line */" }' >"$tree/core/long.c"
refused 'core/long.c:801: 801 lines'
printf 'typedef struct thing thing_%s;\n' t >"$tree/core/type.h"
refused 'core/type.h:1: a typedef ending in _t'
printf '#include "model/layer.h"\n' >"$tree/pipeline/b.c"
refused 'pipeline/b.c:1: pipeline/ may not see this: #include "model/layer.h"'
mkdir "$tree/verify"
printf '#include "tools/penstock/command.h"\n' >"$tree/verify/d.c"
refused 'verify/d.c:1: verify/ may not see this'
mkdir -p "$tree/train" && printf '#include "bench/report.h"\n' >"$tree/train/d.c"
refused 'train/d.c:1: train/ may not see this'
printf '#include "core/device.h"\n' >"$tree/backends/cpu/a.c"
refused 'backends/cpu/a.c:1: backends/ may not see this'
printf '#include "backends/cpu/a.h"\n' >"$tree/core/c.c"
refused 'core/c.c:1: core/ may not see this'
rm -rf "$tree"
