#!/bin/bash
# What a CI job does with sweep and compare: make, measure, gate, read figures by their names, and again.
# Stops at the first thing that is not as it is promised. Takes the python that orientc is run with.
set -euo pipefail
python=$1

orientc() { "$python" -m orientc "$@"; }

# read_json KEY…: what a document on stdin has there, numbers in the place of keys for lists
read_json() {
    "$python" -c '
import json, sys
found = json.load(sys.stdin)
for key in sys.argv[1:]:
    found = found[int(key) if isinstance(found, list) else key]
print(len(found) if isinstance(found, list) else json.dumps(found))' "$@"
}

# exits CODE COMMAND…: fails unless the command ends with that code; its output goes to the file "out"
exits() {
    local wanted=$1 code=0
    shift
    "$@" > out 2> err || code=$?
    [ "$code" = "$wanted" ] || { echo "$* ended with $code, not $wanted:"; cat err; exit 1; }
}

same() { [ "$1" = "$2" ] || { echo "$3: $1, then $2"; exit 1; }; }

sweep() { exits 0 orientc sweep demo --ratios 10 --methods svd --perplexity --limit 20 --out runs --json --quiet; }
name='perplexity.tied[limit=20]'
row() { read_json comparisons 0 rows 1 "$@" < out; }
check() {
    exits 0 orientc compare runs --json --require "$name <= 1000x" --require 'table_mb <= 1'
    row figures "$name" value; row gates 0 met; row gates 0 found; row gates 0 figure; row gates 1 met
    read_json comparisons 0 met < out
    exits 3 orientc compare runs --json --require "$name <= 1.02x"
    row gates 0 met
    exits 3 orientc compare runs --json --require 'perplexity.tied <= 1000x'  # by default nothing was measured yet
    row gates 0 value
}

sweep
same made "$(read_json cells 0 status < out | tr -d '"')" "the first sweep"
artifact=$(read_json cells 0 paths 0 < out | tr -d '"')
check > before

exits 0 orientc perplexity "$artifact" --limit 10 --json --quiet
exits 0 orientc perplexity "$artifact" --limit 20 --seed 1 --json --quiet
check > after
diff before after
row figures "perplexity.tied[limit=10]" value > /dev/null
row figures "perplexity.tied[limit=20,seed=1]" value > /dev/null
exits 2 orientc compare runs --require 'perplexty.tied <= 1.02x'

sweep
for ((cell = 0; cell < $(read_json cells < out); cell++)); do
    same skipped "$(read_json cells $cell status < out | tr -d '"')" "cell $cell of the second sweep"
    read_json cells $cell seconds < out
done > seconds
check > again
diff before again
