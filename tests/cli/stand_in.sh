#!/bin/sh
# Stands in for the program in the completion tests: a small table of options.
[ "${1-}" = __options ] || exit 2
tab=$(printf '\t')
sed "s/|/$tab/g; s/!/|/g" <<'TABLE'
devices|--json||Write one JSON object
devices|--measure-links||Measure
devices|--stages|DEV|Only these
train|--preset|default!small!tutorial|Sizes to start from: others override
train|--data|DIR!sample|The text
train|--lr|X|Rate
train|--lr-decay|X|Factor
train|--save|FILE|Where the weights go
trace|--step|N|Which step
eval|--load|FILE|Saved weights
data fetch|--into|DIR|Where to
data info|--json||Write one JSON object
TABLE
