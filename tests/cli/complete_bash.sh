# shellcheck shell=bash
# complete_bash.sh COMPLETION WORD…: prints what bash would offer for the last word. Run by bash.
# shellcheck source=/dev/null
. "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() { :; }
_penstock
printf '%s\n' "${COMPREPLY[@]}"
