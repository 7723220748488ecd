#!/bin/sh
# rehearsal.sh SOURCE BIN MODULES: every line of scripts/gpu-check without a GPU. The emulated backend stands in for the
# GPU, and programs of this script's own for nvidia-smi, nvcc, CMake, compute-sanitizer and a Python with PyTorch and JAX.
# What the tests of ops say on that device is told by tests of their own, so most of them are not run here.
set -eu
source=$1 bin=$2 modules=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/fake" "$folder/peers"
unset CUDACXX

# fake NAME: a program from standard input.
fake() {
	{ echo '#!/bin/sh' && cat; } >"$folder/fake/$1"
	chmod +x "$folder/fake/$1"
}
fake nvidia-smi <<'END'
case $* in
'') echo '| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0 |' ;;
-L) echo 'GPU 0: a "pretended" GPU (UUID: GPU-0)' ;;
*name,driver*) echo 'a "pretended" GPU, 580.65.06' ;;
*--loop*) echo 'timestamp, index' && exec sleep 600 ;;
*compute_mode*) printf 'Default\nDefault\n' ;;
*compute_cap*) printf '9.0\n9.0\n' ;;
*memory.used*) grep -qs 'memory-whole[.]json' /proc/[0-9]*/cmdline && echo 1006 || echo 1000 ;;
esac
END
fake nvcc <<'END'
echo 'Cuda compilation tools, release 13.0, V13.0.88'
END
make_cmake() {
	fake cmake <<END
case \$* in
*--version*) echo 'cmake version 3.25.1' ;;
-S*)
	if [ -f "$folder/no-cuda" ] && [ "\$*" != "\${*%PS_CUDA=ON*}" ]; then
		printf 'CMake Error at backends/cuda/CMakeLists.txt:9 (message):\n  PS_CUDA is ON, but\n\n\n-- Incomplete!\n'
		exit 1
	fi
	;;
*--build*)
	mkdir -p "\$2/bin"
	for program in core_queue core_device core_link conform_refusals penstock; do
		ln -sf "$bin/\$program" "\$2/bin/"
	done
	for program in elementwise norm loss optimizer embedding attention gemm bf16 rows; do
		printf '#!/bin/sh\necho "100%%: Checks: 1, Failures: 0, Errors: 0"\n' >"\$2/bin/conform_\$program"
		chmod +x "\$2/bin/conform_\$program"
	done
	cp "\$2/bin/conform_loss" "\$2/bin/test_fixtures"
	;;
esac
echo "cmake \$*"
END
}
make_cmake
fake compute-sanitizer <<'END'
[ "$1" = --tool ] && [ "$3" = --error-exitcode ] && [ "$5 $6" = '--report-api-errors no' ] || exit 1
shift 6
[ "$1" != --kernel-name ] || shift 2
exec "$@"
END
fake python <<'END'
case $* in
-c*) echo torch 2.0 ;;
*loss_curves.py*) exec python3 "$@" ;;
*_step.py*) echo '{"ms_median": 1000000.0, "ms_min": 1.0}' ;;
esac
END
touch "$folder/peers/torch_step.py" "$folder/peers/jax_step.py"

# check OPTION…: the script with these programs in the place of others.
check() {
	status=0
	PATH="$folder/fake:$PATH" PENSTOCK_BACKEND_PATH=$modules "$source/scripts/gpu-check" "$folder/report" \
		--build "$folder/build" --device cuda-emulated --rehearse --peers "$folder/peers" --python "$folder/fake/python" \
		"$@" >"$folder/out" 2>&1 || status=$?
}

complain() {
	echo "$1:"
	cat "$folder/out"
	exit 1
}

# says PART STATUS WORDS: the report has that line, and its JSON the part.
says() {
	grep -qE "^$1 +$2 +[0-9]+ s  .*$3" "$folder/report/report.txt" || complain "no line of $1, $2, $3"
	grep -qE "\"part\": \"$1\", \"status\": \"$2\", " "$folder/report/report.json" || complain "no $1 in JSON"
	! command -v python3 >/dev/null || python3 -m json.tool "$folder/report/report.json" >"$folder/json" ||
		complain 'report.json is none'
}

# ends: the report's last line and its JSON count the parts that the report has.
ends() {
	last=$(tail -n 1 "$folder/report/report.txt")
	for word in passed failed skipped short; do
		number=$(grep -cE "^[^ ]+ +$word +[0-9]+ s  " "$folder/report/report.txt" || true)
		case $last in *" parts in "*" $number $word"*) ;; *) complain "not $number $word: $last" ;; esac
		grep -qF "\"$word\": $number" "$folder/report/report.json" || complain "not $number $word in JSON"
	done
	grep -qF '"complete": true' "$folder/report/report.json" || complain 'the report is not complete'
}

# A toolkit that CMake does not take; neither driver nor Python, and no compute-sanitizer but the toolkit's.
touch "$folder/no-cuda"
mv "$folder/fake/nvidia-smi" "$folder/fake/python" "$folder"
fake nvidia-smi <<'END'
echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
exit 9
END
check
grep -qF '"gpu": "none"' "$folder/report/report.json" || complain 'a GPU in JSON without a driver'
grep -qF 'ARCHITECTURES=90' "$folder/report/libraries.log" || complain 'another architecture without a driver'
[ "$status" = 1 ] || complain "exit status $status without a toolkit"
says machine failed 'there is no GPU, or no driver'
says configure failed 'exit status 1: PS_CUDA is ON, but'
says torch skipped 'no torch with a GPU in'
says train-bf16 skipped 'configure did not pass: see configure.log'
says goal-two-stages skipped 'not measured'
says bench-step-two-devices skipped 'configure did not pass: see configure.log'
says train-cuda-emulated0-cuda-emulated1 skipped 'configure did not pass: see configure.log'
says train-cuda-emulated0-opencl0 skipped 'configure did not pass: see configure.log'
grep -qx 'gpu      none' "$folder/report/report.txt" || complain 'a GPU at the head without a driver'
ends
mv "$folder/nvidia-smi" "$folder/python" "$folder/fake"
rm "$folder/no-cuda"

# No time at all: nothing is begun, and every part says why.
check --minutes 00
says machine skipped 'the 0 minutes are over'
says devices skipped 'the 0 minutes are over'
says bench-step-two-devices skipped 'the 0 minutes are over'
says train-cuda-emulated0-opencl0 skipped 'the 0 minutes are over'
says synccheck-attention skipped 'the 0 minutes are over'
ends

# Told to stop while it builds: it does so at once, with all that it has started, and the report says so.
mv "$folder/fake/cmake" "$folder"
fake cmake <<END
case \$* in
*--build*) touch "$folder/building" && sleep 512 ;;
esac
END
(check) &
until [ -f "$folder/building" ]; do sleep 0.1; done
# The script is the child of the shell that waits for it.
kill "$(cat "/proc/$!/task/$!/children")"
wait "$!" || true
tail -n 1 "$folder/report/report.txt" | grep -qx 'stopped after [0-9]* s: what follows was not done' ||
	complain 'a stop that the report does not tell of'
! grep -qsaE '^sleep.512' /proc/[0-9]*/cmdline || complain 'what a stop leaves running'
mv "$folder/cmake" "$folder/fake"

# A driver that is older than the toolkit, with libraries of the toolkit's that do not help either.
real=$bin
mkdir -p "$folder/old" "$folder/toolkit/bin" "$folder/toolkit/compat"
ln -s "$real"/c* "$folder/old"
cat >"$folder/old/penstock" <<END
#!/bin/sh
echo "\$LD_LIBRARY_PATH" >"$folder/libraries"
echo '-              cuda-emulated       -  the driver knows CUDA up to 12.4'
END
chmod +x "$folder/old/penstock"
mv "$folder/fake/nvcc" "$folder/toolkit/bin"
cp "$folder/fake/nvidia-smi" "$folder"
sed -i 's/CUDA Version: 13/CUDA Version: 12/' "$folder/fake/nvidia-smi"
bin=$folder/old
make_cmake
PATH="$folder/toolkit/bin:$PATH" check
[ "$status" = 1 ] || complain "exit status $status with an old driver"
grep -q "^$folder/toolkit/compat" "$folder/libraries" || complain 'no libraries of the toolkit for an old driver'
says devices failed 'the driver knows CUDA up to 12.4'
says bench-step-1-fp32 skipped 'devices did not pass: see devices.log'
ends
mv "$folder/toolkit/bin/nvcc" "$folder/nvidia-smi" "$folder/fake"

# A GPU that is listed and fails whatever it is asked; each part says so, and the rest goes on.
mkdir "$folder/broken"
ln -s "$real"/c* "$folder/broken"
cat >"$folder/broken/penstock" <<END
#!/bin/sh
[ "\$*" != devices ] || exec "$real/penstock" devices
echo "penstock \$1: warming up"
echo "penstock \$1: cuda:0: \"gone\" (cudaErrorECCUncorrectable)"
exit 1
END
chmod +x "$folder/broken/penstock"
bin=$folder/broken
make_cmake
check
[ "$status" = 1 ] || complain "exit status $status with a broken GPU"
says bench-step-1-fp32 failed 'exit status 1: penstock bench: cuda:0: "gone" .cudaErrorECC'
says bits-bf16-pure failed 'penstock train: cuda:0: '
says memory failed 'penstock bench: cuda:0: '
says memcheck-loss passed 'Failures: 0'
says goal-eager-fp32 skipped 'not measured'
ends
bin=$real
make_cmake

check
[ "$status" = 0 ] || complain "exit status $status"
# Without OpenCL there is one part less.
! grep -E '^[^ ]+ +(failed|skipped)' "$folder/report/report.txt" | grep -v 'there is no OpenCL device' ||
	complain 'not all parts ran'
says goal-compiled-bf16 passed 'times as fast as PyTorch, compiled; the goal is 1.1'
says bits-fp32 passed 'other bits by: nothing'
says memory '(passed|short)' '6 MiB in use, [1-9][0-9.]* planned'
ends
while read -r key value; do
	grep -qE "^$key +$value" "$folder/report/report.txt" || complain "no $key at the head of the report"
	grep -qE "\"$key\": \"${value%%\"*}" "$folder/report/report.json" || complain "no $key in JSON"
done <<'END'
date [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+Z
gpu a "pretended" GPU, 580.65.06
toolkit release 13.0, V13.0.88
machine [A-Za-z]+ .* [0-9]+ cores
commit ([0-9a-f]{40}|none)
END
grep -qF '"bare": false' "$folder/report/report.json" || complain 'no bare in JSON'
# What the benchmarks measured, Penstock's and the others', is in the report itself.
for name in bench-step-1-bf16 bench-step-8-tf32 bench-step-two-devices bench-ops bench-gemm; do
	grep -A 2 -F "\"$name\": {" "$folder/report/report.json" | grep -qF '"bench": ' || complain "no results of $name"
done
for name in torch-1-fp32 torch-8-bf16 torch-compiled-8-tf32 jax-1-bf16; do
	grep -qF "\"$name\": {\"ms_median\": 1000000.0" "$folder/report/report.json" || complain "no results of $name"
done
