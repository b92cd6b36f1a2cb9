#!/bin/sh
# Refresh: no change, one changed row, many changed rows, against REFRESH of a plain view in the same run.
set -eu
cd "$(dirname "$0")"
psql -Xq -v rows="${ROWS:-1000000}" -f schema.sql -f views.sql
psql -Xq -f refresh.sql
