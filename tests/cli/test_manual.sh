#!/bin/sh
# test_manual.sh SOURCE WORK PROGRAM: the manual page names exactly the options that `penstock __options` prints, each
# in the section of its subcommand, with the words of closed sets, and each subcommand in the synopsis; and it is
# well-formed, where mandoc can tell.
set -eu
page=$1/docs/man/penstock.1
work=$2/manual
program=$3
tab=$(printf '\t')
mkdir -p "$work"

# documented PAGE: SUBCOMMAND<TAB>--name for each `.It Fl -name` under `.Ss penstock SUBCOMMAND`.
documented() {
	awk '/^\.S[sh] / { command = ""; if ($2 == "penstock") { command = $3; for (i = 4; i <= NF; i++) command = command " " $i } }
		/^\.It Fl -/ && command != "" { print command "\t-" $3 }' "$1" | grep -v -- "${tab}--help\$" | sort -u
}

# words PAGE SUBCOMMAND --name: all that the page says of an option.
words() {
	awk -v s="$2" -v o="${3#-}" '/^\.S[sh] / { here = ($0 == ".Ss penstock " s); item = 0 }
		/^\.(It|El)/ { item = here && $2 == "Fl" && $3 == o } item' "$1"
}

# synopsis PAGE SUBCOMMAND: all lines of its synopsis for the subcommand's first word.
synopsis() {
	awk -v s="${2%% *}" '/^\.S[hs] / { in_it = ($2 == "SYNOPSIS") } !in_it { next } /^\.Nm/ { here = 0 }
		/^\.(Op )?Cm / { if ($0 ~ "^\\.Cm " s "( |$)") here = 1; if (here) print }' "$1"
}

# agrees PAGE TABLE: prints where they differ.
agrees() {
	documented "$1" >"$work/documented"
	cut -f 1,2 "$2" | sort -u >"$work/known"
	comm -13 "$work/documented" "$work/known" | sed 's/^/not in the manual page: /'
	comm -23 "$work/documented" "$work/known" | sed 's/^/not an option of the program: /'
	cut -f 1 "$2" | sort -u | while read -r command; do
		for word in $command; do
			synopsis "$1" "$command" | grep -qwF -- "$word" || echo "the synopsis lacks $command"
		done
	done
	awk -F '\t' '$3 ~ /\|/ { print $1 "," $2 "," $3 }' "$2" | while IFS=, read -r command option set; do
		for word in $(printf '%s' "$set" | tr '|' ' '); do
			case $word in [A-Z]*) continue ;; esac
			words "$1" "$command" "$option" | grep -qwF -- "$word" ||
				echo "the manual page's $command $option lacks '$word'"
		done
	done
}

if command -v mandoc >/dev/null; then
	mandoc -Tlint -Wwarning "$page"
fi

# The check itself: a page against a table that agrees with it, and then one fault after the other.
printf '.Sh SYNOPSIS\n.Nm\n.Cm train\n.Sh DESCRIPTION\n.Ss penstock train\n' >"$work/page"
printf '.It Fl -split Cm even | torch\n.It Fl -lr Ar x\n.El\n.Sh EXIT STATUS\n' >>"$work/page"
printf 'train\t--split\teven|torch\tSplit\ntrain\t--lr\tX\tRate\n' >"$work/table"
[ -z "$(agrees "$work/page" "$work/table")" ]
for fault in 's/--lr/--clip/' 's/torch/odd/' 's/^train/eval/' '/--lr/d'; do
	sed "$fault" "$work/table" >"$work/faulty"
	[ -n "$(agrees "$work/page" "$work/faulty")" ] || {
		echo "failed: the check does not see the fault $fault" >&2
		exit 1
	}
done
sed 's/^\.Cm train/.Cm eval/' "$work/page" >"$work/faulty"
[ "$(agrees "$work/faulty" "$work/table")" = "the synopsis lacks train" ]

if [ ! -x "$program" ] || ! "$program" __options >"$work/options" 2>/dev/null; then
	echo "no program that answers __options; the page is well-formed"
	exit 77
fi
# The options of a mode are those of its subcommand, which the page has once.
awk -F '\t' '{ line[NR] = $0; name[NR] = $1; option[NR] = $2; known[$1 FS $2] = 1 }
	END { for (i = 1; i <= NR; i++) { outer = name[i]; sub(/ [^ ]*$/, "", outer)
		if (outer == name[i] || !((outer FS option[i]) in known)) print line[i] } }' "$work/options" >"$work/outer"
agrees "$page" "$work/outer" >"$work/differences"
[ ! -s "$work/differences" ] || {
	cat "$work/differences" >&2
	exit 1
}
