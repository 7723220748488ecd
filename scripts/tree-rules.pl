#!/usr/bin/env perl
# The rules of the tree that no compiler knows; scripts/lint hands over the names of all its text files.
# Each finding is one line, FILE:LINE: what is wrong. Exit status 1 when there was one.
#
#   - At most 800 lines, but for the manual page. No blanks at the ends of lines, no carriage returns, no invisible
#     characters, a line feed at the end of every file. No folder of one machine. No typedef ending in _t: POSIX keeps those names
#     (the stand-ins for CUDA's headers and for libraries have theirs).
#   - Includes go one way: tools -> bench -> train -> model -> pipeline -> core <- backends, with data beside train
#     and verify above it. Of core/ a backend sees its contract, the platform, the bell and the ring alone; in core/ the registry alone
#     sees a backend.
use strict;
use warnings;
use open qw(:std :encoding(UTF-8));

my $max_lines = 800;
my %sees = (
	core     => 'core',
	backends => 'backends',
	pipeline => 'pipeline core',
	data     => 'data core',
	model    => 'model pipeline core',
	train    => 'train model pipeline core data',
	verify   => 'verify train model pipeline core',
	bench    => 'bench train model pipeline core data',
	tools    => 'tools bench verify train model pipeline core data backends',
	include  => '',
);
my $folders = join '|', keys %sees, 'tests';
my $found = 0;

sub found
{
	my ($file, $line, $what) = @_;
	print "$file:$line: $what\n";
	$found = 1;
}

sub check_include
{
	my ($file, $n, $line) = @_;
	my ($part) = $file =~ m{^(\w+)/};
	return unless defined $part && defined $sees{$part};
	my ($other) = $line =~ m{^\s*#\s*include\s+"($folders)/} or return;
	return if " $sees{$part} " =~ / $other /;
	return if $part eq 'backends' && $line =~ m{"core/(?:backend|bell|platform|ring)\.h"};
	return if $file eq 'core/registry.c' && $other eq 'backends';
	$line =~ s/^\s+|\s+$//g;
	found($file, $n, "$part/ may not see this: $line");
}

for my $file (@ARGV) {
	open(my $in, '<', $file) or die "$file: $!\n";
	my ($n, $last) = (0, "\n");
	while (my $line = <$in>) {
		$n++;
		$last = $line;
		found($file, $n, 'blanks at the end of the line') if $line =~ /[ \t]+\r?$/;
		found($file, $n, 'a carriage return') if $line =~ /\r/;
		found($file, $n, 'an invisible character')
			if $line =~ /[\x{A0}\x{AD}\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2069}\x{FEFF}]/;
		found($file, $n, 'a folder of one machine') if $line =~ m{(?<![\w.\-/\$\}])/(?:work|home|root|Users)/};
		if ($file =~ /\.[ch]$/ && $file !~ m{^(?:tests/cuda/emulated|bare)/}) {
			found($file, $n, 'a typedef ending in _t, which POSIX reserves')
				if $line =~ /^\s*typedef\b.*\b\w+_t\s*(?:;|\))/ && $line !~ /^\s*typedef\b.*\b\w+_t\s*\)\s*\(/
					|| $line =~ /^\}\s*\w+_t;/;
			check_include($file, $n, $line);
		}
	}
	close $in;
	found($file, $n, 'no line feed at the end of the file') unless $last =~ /\n$/;
	# The manual is one page.
	found($file, $n, "$n lines, $max_lines are allowed: split it by subject")
		if $n > $max_lines && $file !~ m{^docs/man/};
}
exit $found;
