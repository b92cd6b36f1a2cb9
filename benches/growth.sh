#!/bin/sh
# How the cost of a one-row refresh grows with the tables: it should not.
set -eu
cd "$(dirname "$0")"
for rows in ${SIZES:-10000 100000 1000000 10000000}; do
    psql -Xq -v rows="$rows" -f schema.sql -f views.sql -v ON_ERROR_STOP=1
    psql -Xq -v rows="$rows" -f growth.sql
done
