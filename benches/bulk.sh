#!/bin/sh
# Refreshes that change many rows of a view, against REFRESH of a plain twin in the same run. ROWS="n n" are the sizes of the views,
# STRATEGIES="auto,full" how they are refreshed, ROUNDS=n how often.
set -eu
cd "$(dirname "$0")"
for rows in ${ROWS:-20000 1000000}; do
    psql -Xq -v rows="$rows" -v rounds="${ROUNDS:-5}" -v strategies="{${STRATEGIES:-auto,delta,full}}" -f bulk.sql
done
