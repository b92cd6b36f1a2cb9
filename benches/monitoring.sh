#!/bin/sh
# A scrape of everything there is to see, with many stream tables and a long history.
set -eu
cd "$(dirname "$0")"
psql -Xq -v views="${VIEWS:-500}" -v sources="${SOURCES:-50}" -v rows="${HISTORY:-1000000}" -f monitoring.sql
