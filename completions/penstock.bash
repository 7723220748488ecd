# bash completion for penstock. It knows no option by itself: the program tells them (penstock __options), one a line,
# SUBCOMMAND<TAB>--name<TAB>ARGUMENT<TAB>help. ARGUMENT is empty for a flag; of words between bars the small ones are
# values, FILE and DIR are what they say, and other capitals are for the user to think of.
# shellcheck shell=bash

_penstock() {
	local word=${COMP_WORDS[COMP_CWORD]} previous='' command='' choices='' at=1 table line argument kind
	COMPREPLY=()
	table=$("${COMP_WORDS[0]}" __options 2>/dev/null) || return

	# The subcommand is the longest row of leading words that begins a line.
	while [ "$at" -lt "$COMP_CWORD" ]; do
		line=${command:+$command }${COMP_WORDS[at]}
		case $'\n'$table in
		*$'\n'"$line"$'\t'* | *$'\n'"$line "*) command=$line at=$((at + 1)) ;;
		*) break ;;
		esac
	done
	[ "$COMP_CWORD" -lt "$at" ] || previous=${COMP_WORDS[COMP_CWORD - 1]}

	# The value of an option, when the word before asks for one.
	argument=$(awk -F '\t' -v c="$command" -v o="$previous" '$1 == c && $2 == o { print $3; exit }' <<<"$table")
	if [ "${previous#--}" != "$previous" ] && [ -n "$argument" ]; then
		while IFS= read -r kind; do
			case $kind in
			FILE*) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$word") && compopt -o filenames ;;
			DIR*) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "$word") && compopt -o filenames ;;
			[A-Z]*) ;;
			*) choices+=" $kind" ;;
			esac
		done 2>/dev/null <<<"${argument//|/$'\n'}"
		mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -W "$choices" -- "$word")
		return
	fi

	# The next word of a subcommand, what the subcommand works on, or one of its options.
	case $command,$word in
	*,-*) ;;
	'data fetch,'*) choices=wikitext-2 ;;
	'trace,'*)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		compopt -o filenames 2>/dev/null
		return
		;;
	'data info,'*)
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		compopt -o filenames 2>/dev/null
		return
		;;
	*)
		[ "$COMP_CWORD" -ne "$at" ] || choices=$(awk -F '\t' -v c="${command:+$command }" '
			index($1, c) == 1 { split(substr($1, length(c) + 1), rest, " "); if (rest[1] != "") print rest[1] }' <<<"$table")
		;;
	esac
	[ -n "$choices" ] ||
		choices="$(awk -F '\t' -v c="$command" '$1 == c { print $2 }' <<<"$table") --help"
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word" | sort -u)
}

complete -F _penstock penstock
