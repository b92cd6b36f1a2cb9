# A view that calls a VOLATILE function is recomputed by the scheduler when a source has changed; where a schedule was set, for
# itself or for what reads it, at each tick too.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $node = trickle_node('volatile', conf => "pg_trickle.enabled = on\n");

$node->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY);
	INSERT INTO t VALUES (1), (2);
	CREATE FUNCTION now_and_then() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RETURN clock_timestamp(); END';
	CREATE MATERIALIZED VIEW ticking WITH (pg_trickle.incremental, pg_trickle.schedule = '200ms') AS SELECT id, now_and_then() AS at FROM t;
	CREATE MATERIALIZED VIEW quiet WITH (pg_trickle.incremental) AS SELECT id, now_and_then() AS at FROM t;
	CREATE MATERIALIZED VIEW read WITH (pg_trickle.incremental) AS SELECT id, now_and_then() AS at FROM t;
});

sub refreshes
{
	my ($view) = @_;
	return "SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = '$view'::regclass AND initiated_by = 'SCHEDULER' AND status = 'COMPLETED'";
}

# A scheduler that begins looks at everything once: what it does from now on, it does for a reason.
ok($node->poll_query_until('postgres', "SELECT (" . refreshes('ticking') . ") > 3"), 'recomputed though nothing has changed');
ok($node->poll_query_until('postgres', "SELECT (" . refreshes('quiet') . ") <= 1"), 'under a default schedule it is not');
my $ticks = $node->safe_psql('postgres', refreshes('ticking'));
ok($node->poll_query_until('postgres', "SELECT (" . refreshes('ticking') . ") > $ticks + 10"), 'again and again');
cmp_ok($node->safe_psql('postgres', refreshes('quiet')), '<=', 1, 'nor later');

$node->safe_psql('postgres', 'INSERT INTO t VALUES (3)');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 3 FROM quiet'), 'a change is brought in');

# A schedule that is set, be it for a reader, makes it due without a change.
$node->safe_psql('postgres', q{
	CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental, pg_trickle.schedule = '200ms') AS SELECT max(at) AS at FROM read;
	ALTER MATERIALIZED VIEW quiet SET (pg_trickle.schedule = '200ms');
});
foreach my $view (qw(quiet read))
{
	my $before = $node->safe_psql('postgres', refreshes($view));
	ok($node->poll_query_until('postgres', "SELECT (" . refreshes($view) . ") > $before + 3"), "$view follows it");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE status = 'FAILED'"), '0', 'without an error');

finish();
