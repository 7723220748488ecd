# complete_zsh.zsh COMPLETION WORD...: prints what zsh would offer for the last word. Run by zsh, with the functions of
# its completion system replaced by ones that print.
compadd() {
	if [[ $1 == -a ]]; then
		print -rl -- ${(P)2}
	else
		print -rl -- $@
	fi
}
_files() {
	if [[ $1 == -/ ]]; then
		print -rl -- $PREFIX*(N-/)
	else
		print -rl -- $PREFIX*(N)
	fi
}
_describe() {
	local name
	for name in ${(P)2}; do print -r -- ${name%%:*}; done
}
completion=$1
shift
words=("$@")
CURRENT=$#
PREFIX=$words[CURRENT]
emulate zsh -c '. $completion' | while read -r offer; do
	[[ $offer == $PREFIX* ]] && print -r -- $offer
done
true
