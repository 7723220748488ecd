# fish completion for penstock. It knows no option by itself: the program tells them (penstock __options), one a line,
# SUBCOMMAND<TAB>--name<TAB>ARGUMENT<TAB>help. ARGUMENT is empty for a flag; of words between bars the small ones are
# values, FILE and DIR are what they say, and other capitals are for the user to think of.

# The subcommand on the command line: the longest row of leading words that begins a line of the table.
function __penstock_command
	set -l table $argv
	set -l command ""
	for word in (commandline -opc)[2..]
		set -l longer (string trim -- "$command $word")
		if string match -qr -- '^'(string escape --style=regex -- $longer)'[\t ]' $table
			set command $longer
		else
			break
		end
	end
	echo $command
end

function __penstock_complete
	set -l words (commandline -opc)
	set -l current (commandline -ct)
	set -l table ($words[1] __options 2>/dev/null)
	or return
	set -l command (__penstock_command $table)

	# The value of an option, when the word before asks for one.
	for line in $table
		set -l field (string split \t -- $line)
		if test "$field[1]" = "$command" -a "$field[2]" = "$words[-1]" -a -n "$field[3]"
			for kind in (string split '|' -- $field[3])
				switch $kind
					case 'FILE*'
						__fish_complete_path $current
					case 'DIR*'
						__fish_complete_directories $current
					case '*'
						string match -qr '^[A-Z]' -- $kind
						or echo $kind
				end
			end
			return
		end
	end

	# The next word of a subcommand, what the subcommand works on, or one of its options.
	if not string match -q -- '-*' $current
		switch $command
			case 'data fetch'
				echo wikitext-2
				return
			case trace
				__fish_complete_path $current
				return
			case 'data info'
				__fish_complete_directories $current
				return
		end
		set -l prefix (string trim --left -- "$command ")
		set -l next
		for name in (string split -f 1 \t -- $table)
			if test -z "$command"; or string match -q -- "$prefix*" $name
				set -a next (string split -f 1 ' ' -- (string sub -s (math (string length -- "$prefix") + 1) -- $name))
			end
		end
		if set -q next[1]
			printf '%s\n' $next | sort -u
			return
		end
	end
	for line in $table
		set -l field (string split \t -- $line)
		if test "$field[1]" = "$command"
			printf '%s\t%s\n' $field[2] $field[4]
		end
	end
	printf '%s\t%s\n' --help 'Explain by examples'
end

complete -c penstock -f -a '(__penstock_complete)'
