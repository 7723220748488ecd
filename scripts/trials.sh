# shellcheck shell=bash disable=SC2154
# What those parts of scripts/gpu-check do that are more than one command; each is a function for a shell of its own.
# Sourced, never run. They read `bin`, `folder`, `device` (cuda:0) and the options of models: `tiny`, `medium`, `curve`
# and `tutorial`, which are strings, for no array reaches another shell.
# shellcheck disable=SC2086 # for that reason

# file_of STAGES: a name for files.
file_of() {
	local name=${1//:/}
	echo "${name//,/-}"
}

# log_losses FILE: the losses of a log, one a line.
log_losses() {
	sed -n 's/.*"event": *"step".*"loss": *\([0-9.eE+-]*\).*/\1/p' "$1"
}

# losses STAGES DTYPE: a few steps of a small model, dropout included, and their losses.
losses() {
	local name
	name=train-$(file_of "$1")-$2
	"$bin/penstock" train --stages "$1" --dtype "$2" --data sample $tiny --epochs 1 --steps-per-epoch 8 \
		--eval-steps 2 --dropout 0.2 --seed 7 --log "$folder/$name.jsonl" &&
		log_losses "$folder/$name.jsonl" >"$folder/$name.losses"
}

# compare STAGES DTYPE OFF: the same steps there have the reference's fp32 losses but for OFF.
compare() {
	losses "$1" "$2" && paste "$folder/train-ref-fp32.losses" "$folder/train-$(file_of "$1")-$2.losses" |
		awk -v what="$1 in $2" -v allowed="$3" '
		{ d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > worst) worst = d }
		END { printf "%d losses on %s, off by up to %.2g\n", NR, what, worst; exit !(NR == 8 && worst <= allowed) }'
}

# shadowed STAGES: every op of a few steps against the reference while they run.
shadowed() {
	"$bin/penstock" train --stages "$1" --data sample $tiny --epochs 1 --steps-per-epoch 2 --eval-steps 1 \
		--dropout 0.2 --shadow all:every=1 2>&1 | grep -E '^(shadow|penstock)' && [ "${PIPESTATUS[0]}" = 0 ]
}

# weights FILE OPTION…: what a few steps make of the weights; dropout included.
weights() {
	"$bin/penstock" train --data sample $medium --epochs 1 --steps-per-epoch 3 --eval-steps 1 --dropout 0.2 --seed 7 \
		--save-last "$1.weights" --log "$1.jsonl" "${@:2}" >"$1.out" 2>&1 || { tail -n 3 "$1.out" && return 1; }
}

# bits DTYPE: weights byte for byte over runs, cuts, schedules, recomputation and steps that are waited for, as those of
# a trace are, which must leave them alone, and over numbers of micro-batches, which do if cuBLASLt gives a row the same bits however many there are: 3 when it does not.
bits() {
	local dtype=$1 what stages options kind must='' may='' work
	work=$(mktemp -d)
	weights "$work/first" --dtype "$dtype" --stages "$device" --chunks 4 --schedule gpipe --join never || return 1
	while IFS='|' read -r kind what stages options; do
		[ -n "$stages" ] || continue
		weights "$work/again" --dtype "$dtype" --stages "$stages" $options || return 1
		if cmp -s "$work/first.weights" "$work/again.weights"; then
			echo "the same bits: $what"
			continue
		fi
		echo "other bits: $what; the first run's losses and its own:"
		paste <(log_losses "$work/first.jsonl") <(log_losses "$work/again.jsonl")
		if [ "$kind" = must ]; then must="$must, $what"; else may="$may, $what"; fi
	done <<-END
		must|again|$device|--chunks 4 --schedule gpipe --join never
		must|1f1b|$device|--chunks 4 --schedule 1f1b --join never
		must|recomputed|$device|--chunks 4 --checkpoint always --join never
		must|in graphs|$device|--chunks 4 --schedule gpipe --graphs on --join never
		must|op by op|$device|--chunks 4 --schedule gpipe --graphs off --join never
		must|waited for|$device|--chunks 4 --schedule gpipe --join never --trace $work/trace.json
		must|two stages|$device,$device|--chunks 4 --schedule 1f1b --join never
		must|cut elsewhere|$device,$device|--chunks 4 --balance 1,$units --join never
		must|three stages|$device,$device,$device|--chunks 4 --schedule gpipe --join never
		must|two devices|$pair|--chunks 4 --schedule 1f1b --join never
		must|two devices, waited for|$pair|--chunks 4 --schedule 1f1b --join never --trace $work/trace.json
		may|joined|$device|--chunks 4 --join auto
		may|1 micro-batch|$device|--chunks 1
		may|2 micro-batches|$device|--chunks 2
		may|uneven micro-batches|$device,$device|--chunks 3 --split torch
		may|micro-batches of a row|$device|--chunks $rows_of_medium
	END
	rm -r "$work"
	what=$must$may
	echo "in $dtype other bits by: ${what:-nothing}" | sed 's/: , /: /'
	[ -z "$must" ] || return 1
	[ -z "$may" ] || return 3
}

# losses_in DTYPE: a longer run, whose log tests/reference/loss_curves.py draws.
losses_in() {
	"$bin/penstock" train --stages "$device" --dtype "$1" $curve --chunks 1 --epochs 1 --eval-steps 1 \
		--log "$folder/curve-$1.jsonl" >"$folder/curve-$1.out" 2>&1 || { tail -n 3 "$folder/curve-$1.out" && return 1; }
	log_losses "$folder/curve-$1.jsonl" | tail -n 20 |
		awk -v what="$1" '{ sum += $1 } END { printf "the last %d losses in %s: %.5f in the mean\n", NR, what, sum / NR
			exit !(NR > 0 && sum - sum == 0) }'
}

# curves: a picture of all precisions' losses, where there is a Python.
curves() {
	command -v "$python" >/dev/null || { echo 'there is no Python to draw with; the logs are curve-*.jsonl' && return 77; }
	"$python" "$root/tests/reference/loss_curves.py" "$folder"/curve-{fp32,tf32,bf16,bf16-pure}.jsonl \
		>"$folder/curves.svg" && echo 'curves.svg'
}

# used_by COMMAND…: the most MiB of the GPU's memory in use in two looks on end while it runs, to standard output: what
# the trial of a product's algorithm takes for a moment is not the step's.
used_by() {
	local most=0 used before=0 both pid
	"$@" >&2 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		used=$(timeout -k 5 30 nvidia-smi -i "${CUDA_VISIBLE_DEVICES:-0}" --query-gpu=memory.used --format=csv,noheader,nounits)
		case $used in
		'' | *[!0-9]*)
			kill "$pid"
			echo "nvidia-smi tells no MiB in use, but '$used'" >&2
			return 77
			;;
		esac
		both=$((used < before ? used : before)) before=$used
		[ "$both" -le "$most" ] || most=$both
		sleep 0.1
	done
	wait "$pid" && echo "$most"
}

# brief_step NAME OPTION…: a few whole steps, and their plan in NAME.json.
brief_step() {
	"$bin/penstock" bench step --stages "$device" --chunks 4 --checkpoint never --brief --seconds 0.5 \
		--json "$folder/$1.json" "${@:2}"
}

# memory: what the tutorial's step takes beyond what any step takes, against the plan; 3 when it is off by more than 2 %.
memory() {
	local few='--emsize 16 --nhead 2 --nhid 16 --nlayers 1 --vocabulary 50 --batch-size 4 --bptt 4' base most
	case ${CUDA_VISIBLE_DEVICES:-0} in *[!0-9]*) echo 'CUDA_VISIBLE_DEVICES is no number' && return 77 ;; esac
	base=$(used_by brief_step memory-base $few) || return
	most=$(used_by brief_step memory-whole $tutorial) || return
	awk -v used="$((most - base))" -v base="$(figure "$folder/memory-base.json" 'planned for the stages' median)" \
		-v plan="$(figure "$folder/memory-whole.json" 'planned for the stages' median)" 'BEGIN {
		plan = (plan - base) / 1048576
		if (plan <= 0) { print "no plan to compare with"; exit 1 }
		printf "%d MiB in use, %.1f planned, %.2f %% more\n", used, plan, 100 * (used - plan) / plan
		if (used > 1.02 * plan || used < 0.98 * plan) exit 3 }'
}

export -f file_of log_losses losses compare shadowed weights bits losses_in curves used_by \
	brief_step memory figure
