#!/bin/sh
# test_compare.sh SOURCE WORK PROGRAM: bench/compare with a stand-in for Python, whose answers are known.
set -eu
compare=$1/bench/compare work=$2/compare program=$3
rm -rf "$work"
mkdir -p "$work/peers"

fail() {
	echo "failed: $1" >&2
	exit 1
}

: >"$work/peers/torch_step.py"
: >"$work/peers/torch_pipe.py"
cat >"$work/python" <<'EOF'
#!/bin/sh
case $1 in
*torch_pipe.py) echo 'no such module' >&2; exit 1 ;;
esac
echo '{"torch": "9.9", "config": "tiny", "ms_median": 123456.5, "ms_min": 1.0, "peak_rss_gib": 64.5}'
EOF
chmod +x "$work/python"

"$compare" --penstock "$program" --peers "$work/peers" --python "$work/python" --python-pipe "$work/python" \
	--preset tiny --rounds 1 --stages cpu --threads 1 --json "$work/json" >"$work/out" 2>"$work/error" || {
	cat "$work/error" >&2
	fail "it should have ended well"
}
for words in 'tiny  *fp32  *whole  *torch' 'tiny  *fp32  *chunks  *torch' '123456.5 ms .* 64.50 GiB' 'torch 9.9'; do
	grep -q -- "$words" "$work/out" || fail "no '$words' in $(cat "$work/out")"
done
for words in 'left out: tiny fp32 pipe: pipe: no such module' 'left out: tiny fp32 whole: jax: there is no '; do
	grep -q -- "$words" "$work/error" || fail "no '$words' in $(cat "$work/error")"
done
grep -q '"how": "whole", "peer": "torch", "penstock_ms": [1-9][0-9.]*, "peer_ms": 123456.500' "$work/json" ||
	fail "the JSON is $(cat "$work/json")"

# With nothing to compare with, the reasons and 1; what is wrong on the command line is 2, before anything runs.
status=0
"$compare" --penstock "$program" --preset tiny --how pipe --rounds 1 --stages cpu >"$work/out" 2>"$work/error" ||
	status=$?
[ "$status" -eq 1 ] || fail "without peers it ended with $status"
grep -q 'give its folder by --peers' "$work/error" || fail "no reason in $(cat "$work/error")"
grep -q 'nothing to compare' "$work/error" || fail "no word of it in $(cat "$work/error")"
[ ! -s "$work/out" ] || fail "there is a table of nothing: $(cat "$work/out")"
for arguments in '--preset huge' '--rounds 0' '--how' '--penstock /dev/null' '--what' '--python /no/python'; do
	status=0
	# shellcheck disable=SC2086 # Option and value.
	"$compare" --penstock "$program" $arguments >"$work/out" 2>"$work/error" || status=$?
	[ "$status" -eq 2 ] || fail "$arguments: ended with $status"
	[ "$(wc -l <"$work/error")" -eq 1 ] || fail "$arguments: $(cat "$work/error")"
done
