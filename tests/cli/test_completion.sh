#!/bin/sh
# test_completion.sh SHELL SOURCE WORK PROGRAM: what the shell's completion offers, for a table that stands in for the
# program and, when PROGRAM is there, for each of its subcommands and options.
set -eu
shell=$1 source=$2 work=$3 program=$4
here=$source/tests/cli

command -v "$shell" >/dev/null || {
	echo "$shell is not installed"
	exit 77
}

# offers WORD…: what is offered for the last word, sorted, on one line. Only the name `penstock` is typed.
offers() {
	# shellcheck disable=SC2016 # The variables are fish's.
	case $shell in
	bash) bash --norc "$here/complete_bash.sh" "$source/completions/penstock.bash" "$@" ;;
	zsh) zsh -f "$here/complete_zsh.zsh" "$source/completions/_penstock" "$@" ;;
	fish) fish --no-config -c 'source $argv[1]; complete -C "$argv[2..]"' "$source/completions/penstock.fish" "$@" ;;
	esac | sed "s/$(printf '\t').*//; s,/\$,," | grep . | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# expect WORDS TYPED…: exactly these are offered.
expect() {
	wanted=$(printf '%s\n' "$1" | tr ' ' '\n' | grep . | sort -u | tr '\n' ' ' | sed 's/ $//')
	shift
	got=$(offers "$@")
	[ "$got" = "$wanted" ] || {
		printf 'failed: for "%s" %s offers\n  %s\nbut should offer\n  %s\n' "$*" "$shell" "$got" "$wanted" >&2
		exit 1
	}
}

rm -rf "$work"
mkdir -p "$work/bin" "$work/here/folder" "$work/real"
LC_ALL=C.UTF-8
HOME=$work
XDG_CONFIG_HOME=$work XDG_DATA_HOME=$work
export LC_ALL HOME XDG_CONFIG_HOME XDG_DATA_HOME
: >"$work/here/file"
cd "$work/here"

cp "$here/stand_in.sh" "$work/bin/penstock"
chmod +x "$work/bin/penstock"
base=$PATH
PATH=$work/bin:$base
expect 'data devices' penstock d
expect '--json --measure-links --stages --help' penstock devices --
expect '--lr --lr-decay' penstock train --l
expect 'default small tutorial' penstock train --preset ''
expect 'small' penstock train --save x --preset sm
expect 'folder sample' penstock train --data ''
expect '' penstock train --lr ''
expect 'file folder' penstock eval --load f
expect 'file folder' penstock trace f
expect 'fetch' penstock data f
expect '--into --help' penstock data fetch --
expect 'wikitext-2' penstock data fetch w
expect 'folder' penstock data info ''
expect '--json' penstock data info --j

if [ ! -x "$program" ] || ! "$program" __options >"$work/options" 2>/dev/null; then
	echo "no program that answers __options; with the stand-in all is well"
	exit 77
fi
# A link, so that the program is found by the name that is completed.
ln -s "$program" "$work/real/penstock"
PATH=$work/real:$base
tab=$(printf '\t')
cut -f 1 "$work/options" | sort -u | while read -r command; do
	# shellcheck disable=SC2086 # The subcommand may be two words.
	expect "$(grep "^$command$tab" "$work/options" | cut -f 2 | tr '\n' ' ') --help" penstock $command --
done
# Closed sets: words between bars, all of them small.
awk -F '\t' '$3 ~ /\|/ && $3 !~ /[A-Z]/ { print $1 "," $2 "," $3 }' "$work/options" >"$work/sets"
while IFS=, read -r command option argument; do
	# shellcheck disable=SC2086
	expect "$(printf '%s' "$argument" | tr '|' ' ')" penstock $command "$option" ''
done <"$work/sets"
