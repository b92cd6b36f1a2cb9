# Since when something has not been shown: known from what writers and the scheduler note in shared memory, and honest where
# nobody saw it. What failed is counted, with its SQLSTATE.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $node = trickle_node('freshness', conf => "pg_trickle.enabled = on\n");
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL);
	CREATE TABLE other (id int PRIMARY KEY);
	INSERT INTO orders SELECT g, g FROM generate_series(1, 100) g;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, pg_trickle.schedule = '100ms') AS SELECT sum(amount) AS total FROM orders;
	CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental, pg_trickle.schedule = '100ms') AS SELECT total FROM totals;
	CREATE MATERIALIZED VIEW shares WITH (pg_trickle.incremental, pg_trickle.schedule = '100ms') AS SELECT id, 100 / amount AS share FROM orders;
	CREATE MATERIALIZED VIEW others WITH (pg_trickle.incremental, pg_trickle.schedule = '100ms') AS SELECT id FROM other;
	CREATE TABLE moment (before timestamptz, after timestamptz);
});
# Fresh, and told so by the scheduler: what it does not know since it began is known from the first refresh on.
sub change
{
	my ($sql) = @_;
	$node->safe_psql('postgres', 'DELETE FROM moment; INSERT INTO moment VALUES (clock_timestamp())');
	$node->safe_psql('postgres', $sql);
	$node->safe_psql('postgres', 'UPDATE moment SET after = clock_timestamp()');
	return;
}
change(q{INSERT INTO orders VALUES (101, 1); INSERT INTO other VALUES (1)});
wait_until_fresh($node);
is($node->safe_psql('postgres', 'SELECT count(*) FROM pgtrickle.stream_tables_info WHERE pending_since IS NOT NULL OR lag IS NOT NULL OR stale'), '0', 'all are fresh');

# In an idle database staleness grows and lag does not.
$node->safe_psql('postgres', 'SELECT pgtrickle.pause_all()');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pgtrickle.pg_stat_stream_tables WHERE staleness > '0' AND lag IS NULL}), '4', 'they get old without being behind');

# The commit counts, not the last refresh, and not a later commit.
change('UPDATE orders SET amount = amount + 1 WHERE id = 1');
$node->safe_psql('postgres', 'SELECT pg_sleep(0.1); UPDATE orders SET amount = amount + 1 WHERE id = 2');
my $known = q{SELECT string_agg(pgt_name, ' ' ORDER BY pgt_name) FROM pgtrickle.pg_stat_stream_tables, moment
	WHERE pending_since BETWEEN before AND after AND lag >= now() - after};
is($node->safe_psql('postgres', $known), 'above shares totals', 'it is known when the commit was');
is($node->safe_psql('postgres', q{SELECT lag IS NULL, stale FROM pgtrickle.pg_stat_stream_tables WHERE pgt_name = 'others'}), 't|f', 'others are not behind');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM pgtrickle.stream_tables_info WHERE stale}), 'what waits longer than its schedule is stale');
is($node->safe_psql('postgres', q{SELECT status, stale_tables FROM pgtrickle.quick_health}), 'STALE|3', 'quick_health says so');
is($node->safe_psql('postgres', q{SELECT severity, detail FROM pgtrickle.health_check() WHERE check_name = 'stale stream tables'}),
	'WARNING|public.totals, public.above, public.shares', 'and so does health_check');

# Nobody knows after a restart: then it is not later than the commit, nor earlier than what is shown.
$node->append_conf('postgresql.conf', 'pg_trickle.enabled = off');
$node->restart;
is($node->safe_psql('postgres', q{SELECT string_agg(pgt_name, ' ' ORDER BY pgt_name) FROM pgtrickle.pg_stat_stream_tables, moment
	WHERE pending_since BETWEEN data_timestamp AND after}), 'above shares totals', 'no scheduler: not later than the commit');
$node->append_conf('postgresql.conf', 'pg_trickle.enabled = on');
$node->restart;
is($node->safe_psql('postgres', q{SELECT string_agg(pgt_name, ' ' ORDER BY pgt_name) FROM pgtrickle.pg_stat_stream_tables, moment
	WHERE pending_since BETWEEN data_timestamp AND after}), 'above shares totals', 'a new scheduler: not later than the commit');
$node->safe_psql('postgres', 'SELECT pgtrickle.resume_all()');
wait_until_fresh($node);
is($node->safe_psql('postgres', 'SELECT count(*) FROM pgtrickle.stream_tables_info WHERE pending_since IS NOT NULL OR lag IS NOT NULL OR stale'), '0', 'fresh again');
is($node->safe_psql('postgres', 'SELECT status FROM pgtrickle.quick_health'), 'OK', 'and healthy');

# Failures.
change('UPDATE orders SET amount = 0 WHERE id = 3');
ok($node->poll_query_until('postgres', q{SELECT failures > 1 AND last_status = 'FAILED' FROM pgtrickle.pg_stat_stream_tables WHERE pgt_name = 'shares'}), 'failures are counted');
is($node->safe_psql('postgres', $known), 'shares', 'what fails stays behind since that commit');
is($node->safe_psql('postgres', q{SELECT DISTINCT error_type, sqlstate FROM pgtrickle.diagnose_errors('shares')}), 'data|22012', 'and says why');
$node->safe_psql('postgres', 'UPDATE orders SET amount = 7 WHERE id = 3; SELECT pgtrickle.resume_stream_table($$shares$$)');
wait_until_fresh($node);
views_agree($node, 'all are exact');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pgtrickle.pg_stat_stream_tables s
	WHERE failures <> (SELECT count(*) FROM pgtrickle.pgt_refresh_history h WHERE h.pgt_id = s.pgt_id AND status = 'FAILED')
	   OR refreshes <> (SELECT count(*) FROM pgtrickle.pgt_refresh_history h WHERE h.pgt_id = s.pgt_id AND status = 'COMPLETED')
	   OR abs(total_ms - (SELECT sum(duration_ms) FROM pgtrickle.pgt_refresh_history h WHERE h.pgt_id = s.pgt_id AND status = 'COMPLETED')) > 0.001}),
	'0', 'counters and history agree');

finish();
