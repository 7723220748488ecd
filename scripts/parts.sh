# shellcheck shell=bash disable=SC2154
# Parts that run under a time limit, some of them at the same time, and the report of what came of them. Sourced, never
# run. The caller sets `folder`, where logs and report go, `end` (in SECONDS) and `minutes`, which the user asked for.
#
# A part's status is its command's: 0 passed, 77 skipped with the reason in its last line, 3 short of a goal, any other
# failed.

text="$folder/report.txt"
facts=() # members of the report's JSON object
rows=()
results=()
declare -A came # of each part, its status
declare -A counted=([passed]=0 [failed]=0 [skipped]=0 [short]=0)
started=() # parts at work beside this one
failed=false
complete=false
missing='' # why no further part can run
late="the $minutes minutes are over"
cap=120    # seconds that one part may take
cores=$(nproc)
together=$cores # how many parts may run at the same time
: >"$text"
rm -f "$folder"/*.status

# line TEXT: printable ASCII on one line.
line() {
	tr -s '[:space:]' ' ' <<<"$1" | LC_ALL=C tr -cd '[:print:]' | cut -c 1-200 | sed 's| *$||'
}

# quote TEXT: a JSON string of such a line.
quote() {
	# shellcheck disable=SC2001
	printf '"%s"' "$(sed 's/[\\"]/\\&/g' <<<"$1")"
}

# fact KEY TEXT: a line at the head of the report.
fact() {
	local what
	what=$(line "$2")
	facts+=("\"$1\": $(quote "$what")")
	printf '%-8s %s\n' "$1" "$what" | tee -a "$text"
}

# Written anew after each part, so that a run that is cut off leaves a report too, which says that it is not complete.
write_report() {
	local IFS=, counts
	printf -v counts '"passed": %d, "failed": %d, "skipped": %d, "short": %d' \
		"${counted[passed]}" "${counted[failed]}" "${counted[skipped]}" "${counted[short]}"
	printf '{%s, "complete": %s, "seconds": %d, "failed": %s, "counts": {%s}, "parts": [%s\n], "measured": {%s\n}}\n' \
		"${facts[*]}" "$complete" "$SECONDS" "$failed" "$counts" "${rows[*]/#/$'\n'}" "${results[*]/#/$'\n'}" \
		>"$folder/report.json"
}

# end_report: its last line.
end_report() {
	complete=true
	printf '%d parts in %d s: %d passed, %d failed, %d skipped, %d short\n' "${#rows[@]}" "$SECONDS" \
		"${counted[passed]}" "${counted[failed]}" "${counted[skipped]}" "${counted[short]}" | tee -a "$text"
	write_report
}

# note PART STATUS SECONDS WHAT: one line of the report.
note() {
	local what
	what=$(line "$4")
	# shellcheck disable=SC2034 # The caller looks at it.
	came[$1]=$2
	counted[$2]=$((counted[$2] + 1))
	[ "$2" != failed ] || failed=true
	rows+=("{\"part\": $(quote "$1"), \"status\": $(quote "$2"), \"seconds\": $3, \"what\": $(quote "$what")}")
	printf '%-28s %-7s %4s s  %s\n' "$1" "$2" "$3" "$what" | tee -a "$text"
	write_report
}

# within SECONDS COMMAND…: runs it for no longer than that, nor than there is time.
within() {
	local most=$1 left=$((end - SECONDS))
	shift
	[ "$left" -ge 1 ] || return 124
	# In the background, for what is waited for there can be stopped by a signal.
	timeout -k 5 "$((left < most ? left : most))" "$@" &
	wait "$!"
}

# below PID: the processes that it has started, and those that these have.
below() {
	local child
	# shellcheck disable=SC2013
	for child in $(cat "/proc/$1"/task/*/children 2>/dev/null); do
		echo "$child"
		below "$child"
	done
}

# stop NUMBER: what a signal of that number does. The report stays as far as it came.
stop() {
	trap '' INT TERM HUP
	# shellcheck disable=SC2046
	kill $(below $$) 2>/dev/null || true
	printf 'stopped after %d s: what follows was not done\n' "$SECONDS" | tee -a "$text" >&2
	write_report
	exit $((128 + $1))
}
trap 'stop 2' INT
trap 'stop 15' TERM
trap 'stop 1' HUP

# start NAME COMMAND…: runs it with its output in NAME.log, and leaves its status and seconds in NAME.status; not when
# something is missing or the time is over.
start() {
	local name=$1 status=0 begin=$SECONDS left=$((end - SECONDS))
	shift
	rm -f "$folder/$name.status"
	[ -z "$missing" ] && [ "$left" -ge 5 ] || return 0
	[ "$left" -lt "$cap" ] || left=$cap
	within "$left" "$@" >"$folder/$name.log" 2>&1 </dev/null || status=$?
	echo "$status $((SECONDS - begin)) $left" >"$folder/$name.status"
}

# What a log says in a line: of a failure what penstock said last or what looks like an error first, of a step its
# time, else the last line.
gist() {
	local words='' log=$folder/$1.log
	if [ "$2" != 0 ]; then
		words=$(grep -E '^penstock[a-z ]*: ' "$log" | tail -n 1 || true)
		[ -n "$words" ] || words=$(grep -m 1 -iE '(^|[^a-z])(error|fatal)[ :]' "$log" || true)
		# CMake's message follows on lines of its own.
		case $words in 'CMake Error'*) words=$(grep -m 1 -A 3 '^CMake Error' "$log" | tail -n +2 || true) ;; esac
	else
		case $1 in bench-step-*) words=$(grep -m 1 '^ *whole step ' "$log" || true) ;; esac
	fi
	[ -n "$words" ] || words=$(grep -v '^[[:space:]=]*$' "$log" | tail -n 1 || true)
	echo "$words"
}

# take_results NAME: what it measured, from its own JSON file or, of another program, the line of JSON in its log. Python
# writes numbers that JSON does not have.
take_results() {
	local json=''
	case $1 in
	bench-*) json=$(cat "$folder/$1.json" 2>/dev/null || true) ;;
	torch-* | jax-*) json=$(grep -m 1 '^{.*}$' "$folder/$1.log" | grep -vE 'NaN|Infinity' || true) ;;
	esac
	[ -z "$json" ] || results+=("$(quote "$1"): $json")
}

# finish NAME: its line in the report. False unless it passed or is short of a goal.
finish() {
	local status seconds limit
	if ! read -r status seconds limit 2>/dev/null <"$folder/$1.status"; then
		note "$1" skipped 0 "${missing:-$late}"
		return 1
	fi
	rm "$folder/$1.status"
	[ "$status" != 0 ] || take_results "$1"
	case $status in
	0) note "$1" passed "$seconds" "$(gist "$1" 0)" ;;
	3) note "$1" short "$seconds" "$(gist "$1" 0)" ;;
	77) note "$1" skipped "$seconds" "$(gist "$1" 0)" && return 1 ;;
	124 | 137) note "$1" failed "$seconds" "stopped after $limit s: $(gist "$1" 0)" && return 1 ;;
	*) note "$1" failed "$seconds" "exit status $status: $(gist "$1" "$status")" && return 1 ;;
	esac
}

part() {
	start "$@"
	finish "$1" || true
}

# needs PART COMMAND…: a part without which the rest makes no sense.
needs() {
	start "$@"
	finish "$1" || [ "${came[$1]}" = skipped ] || missing="$1 did not pass: see $1.log"
}

# beside NAME COMMAND…: runs it at the same time as others, as many as may; finish_all reports them all.
beside() {
	while [ "$(jobs -rp | wc -l)" -ge "$together" ]; do
		wait -n || true
	done
	started+=("$1")
	start "$@" &
}

finish_all() {
	local name
	wait
	for name in "${started[@]}"; do
		finish "$name" || true
	done
	started=()
}

# figure FILE ROW KEY: a number of a row in what `penstock bench --json` wrote; nothing when it is not there.
figure() {
	[ ! -s "$1" ] || tr '\n' ' ' <"$1" | sed 's/}/}\n/g' | grep "\"name\": *\"$2\"" |
		sed -n "s/.*\"$3\": *\([0-9.eE+-]*\).*/\1/p" || true
}

# divided A B DIGITS: their quotient; nothing unless both are positive numbers.
divided() {
	awk -v a="$1" -v b="$2" -v digits="$3" 'BEGIN { if (a + 0 > 0 && b + 0 > 0) printf "%.*f\n", digits, a / b }'
}

# goal NAME VALUE LEAST WHAT: is the value at least that? Without a value there is nothing to judge.
goal() {
	if [ -z "$2" ]; then
		note "goal-$1" skipped 0 "not measured: $4"
	elif awk -v value="$2" -v least="$3" 'BEGIN { exit !(value >= least) }'; then
		note "goal-$1" passed 0 "$2 $4; the goal is $3"
	else
		note "goal-$1" short 0 "$2 $4; the goal is $3"
	fi
}
