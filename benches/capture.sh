#!/bin/sh
# What capture costs writers: the same statements with and without a stream table on the table, in turn.
set -eu
cd "$(dirname "$0")"
psql -Xq -f warm.sql
psql -Xq -v rows=1000000 -f schema.sql -f capture.sql
for clients in 1 4; do
    for commit in off on; do
        for kind in insert update; do
            ./tps.sh "$clients" "$commit" "$kind"
        done
    done
done
