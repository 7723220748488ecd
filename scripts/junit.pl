#!/usr/bin/env perl
# scripts/junit.pl FILE: what a ctest --output-junit file says, as lines for scripts/test to read:
#   counts PASSED FAILED SKIPPED
#   skipped NAME: the last line the test printed
use strict;
use warnings;

local $/;
open(my $in, '<', $ARGV[0]) or die "$ARGV[0]: $!\n";
my $text = <$in>;
my %count = (passed => 0, failed => 0, skipped => 0);
my @skipped;
while ($text =~ m{<testcase name="([^"]*)"[^>]*?\bstatus="(\w+)"[^>]*?(?:/>|>(.*?)</testcase>)}gs) {
	my ($name, $status, $body) = ($1, $2, $3 // '');
	my $kind = $status eq 'run' ? 'passed' : $status eq 'fail' ? 'failed' : 'skipped';
	$count{$kind}++;
	next unless $kind eq 'skipped';
	my ($output) = $body =~ m{<system-out>(.*?)</system-out>}s;
	my @lines = grep { /\S/ } split /\n/, $output // '';
	my $reason = $lines[-1] // 'no reason given';
	$reason =~ s/^\s*skip(?:ped)?: *//i;
	$reason =~ s/&quot;/"/g;
	$reason =~ s/&apos;/'/g;
	$reason =~ s/&lt;/</g;
	$reason =~ s/&gt;/>/g;
	$reason =~ s/&amp;/&/g;
	push @skipped, "skipped $name: $reason\n";
}
print "counts $count{passed} $count{failed} $count{skipped}\n", @skipped;
