#!/bin/sh
# What capture costs beside wide values: statements that leave a TOASTed value alone, and such that do not.
set -eu
cd "$(dirname "$0")"
psql -Xq -f wide.sql
