# What two views show in one snapshot. Views under the same schedule keep in step with what they read; one with snapshot
# consistency never parts from it, whoever refreshes what, and says how that ends when it cannot be refreshed.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('consistency', conf => "pg_trickle.enabled = on\npg_trickle.max_consecutive_errors = 2\n");

# `per_key` and its readers are calculated. `near` is refreshed again and again, `far` by its own schedule never: it follows, by
# way of `between`. `lag` does not.
$node->safe_psql('postgres', q{
	CREATE TABLE t (k int, n int);
	CREATE INDEX ON t (n);
	INSERT INTO t SELECT i % 10, i FROM generate_series(1, 1000) i;
	CREATE MATERIALIZED VIEW per_key WITH (pg_trickle.incremental) AS SELECT k, sum(n) AS n FROM t GROUP BY k;
	CREATE MATERIALIZED VIEW total WITH (pg_trickle.incremental) AS SELECT sum(n) AS n FROM per_key;
	INSERT INTO t VALUES (1, 1);
	CREATE MATERIALIZED VIEW total_again WITH (pg_trickle.incremental) AS SELECT sum(n) AS n FROM per_key;
	CREATE TABLE u (k int, n int);
	INSERT INTO u SELECT i % 10, i FROM generate_series(1, 1000) i;
	CREATE MATERIALIZED VIEW near WITH (pg_trickle.incremental, pg_trickle.schedule = '100ms') AS SELECT k, sum(n) AS n FROM u GROUP BY k;
	CREATE MATERIALIZED VIEW between WITH (pg_trickle.incremental, pg_trickle.schedule = '1d') AS SELECT k % 2 AS k, sum(n) AS n FROM near GROUP BY 1;
	CREATE MATERIALIZED VIEW far WITH (pg_trickle.incremental, pg_trickle.schedule = '1d', pg_trickle.consistency = snapshot) AS
		SELECT sum(n) AS n FROM between;
	CREATE MATERIALIZED VIEW lag WITH (pg_trickle.incremental, pg_trickle.schedule = '1d') AS SELECT sum(n) AS n FROM near;
	CREATE MATERIALIZED VIEW empty WITH (pg_trickle.incremental, pg_trickle.consistency = snapshot) AS SELECT sum(n) AS n FROM near WITH NO DATA;
});
wait_until_fresh($node);

# Each read is one snapshot. The writer changes every sum, and goes on until the reads are done.
my $reads = q{
	CREATE PROCEDURE write() LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'stop') LOOP
			INSERT INTO t SELECT k, 1 + (random() * 100)::int FROM generate_series(0, 9) k;
			INSERT INTO u SELECT k, 1 + (random() * 100)::int FROM generate_series(0, 9) k;
			COMMIT;
			PERFORM pg_sleep(0.02);
		END LOOP;
	END $$;
	CREATE FUNCTION reads(times int, OUT calculated int, OUT snapshot int) LANGUAGE plpgsql AS $$
	DECLARE c boolean; s boolean;
	BEGIN
		calculated := 0; snapshot := 0;
		FOR i IN 1..times LOOP
			SELECT (SELECT sum(n) FROM per_key) <> (SELECT n FROM total) OR (SELECT n FROM total) <> (SELECT n FROM total_again),
			       (SELECT sum(n) FROM near) <> (SELECT n FROM far) OR (SELECT sum(n) FROM between) <> (SELECT n FROM far)
			  INTO c, s;
			calculated := calculated + c::int; snapshot := snapshot + s::int;
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
};
$node->safe_psql('postgres', $reads);
my $last = $node->safe_psql('postgres', 'SELECT max(refresh_id) FROM pgtrickle.pgt_refresh_history');
my $writer = in_background($node, 'CALL write();');
is($node->safe_psql('postgres', 'SELECT * FROM reads(900)'), '0|0', 'of 900 reads none finds views disagree');

# By hand as well.
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW near') for 1 .. 20;
is($node->safe_psql('postgres', q{SELECT (SELECT sum(n) FROM near) = (SELECT n FROM far)}), 't', 'REFRESH of what it reads brings it along');
is($node->safe_psql('postgres', 'SELECT snapshot FROM reads(100)'), '0', 'and goes on doing so');
$node->safe_psql('postgres', 'CREATE TABLE stop ()');
wait_until_done($writer);
ok($node->poll_query_until('postgres', q{SELECT (SELECT sum(n) FROM per_key) = (SELECT sum(n) FROM t) AND (SELECT sum(n) FROM near) = (SELECT sum(n) FROM u)}),
	'in the end all is shown');

# One refresh of each is one transaction, so there are no more of one than of the others.
is($node->safe_psql('postgres', qq{SELECT count(*) > 0, count(*) FILTER (WHERE views <> 3) FROM (
	SELECT count(*) AS views FROM pgtrickle.pgt_refresh_history
	 WHERE refresh_id > $last AND initiated_by = 'SCHEDULER' AND pgt_relid IN ('per_key'::regclass, 'total'::regclass, 'total_again'::regclass)
	 GROUP BY data_timestamp) r}), 't|0', 'views under one schedule are refreshed together, each time');
is($node->safe_psql('postgres', qq{SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE refresh_id > $last AND pgt_relid = 'lag'::regclass}),
	'0', 'another reader lags as its schedule says');
is($node->safe_psql('postgres', q{SELECT relispopulated FROM pg_class WHERE relname = 'empty'}), 'f', 'a view without data stays so');
views_agree($node, 'every view equals its query', except => qr/^(public\.)?lag$/);

# What is shown by far and near.
my $level = q{SELECT (SELECT sum(n) FROM near) = (SELECT n FROM far)};
my $near_is_fresh = q{SELECT (SELECT sum(n) FROM near) = (SELECT sum(n) FROM u)};

# One that is suspended holds nobody up.
$node->safe_psql('postgres', q{SELECT pgtrickle.alter_stream_table('far', status => 'SUSPENDED'); INSERT INTO u VALUES (1, 1)});
ok($node->poll_query_until('postgres', $near_is_fresh), 'what a suspended view reads goes on');
is($node->safe_psql('postgres', "$level; REFRESH MATERIALIZED VIEW near; $level"), "f\nf", 'without it, by hand as well');
$node->safe_psql('postgres', q{SELECT pgtrickle.resume_stream_table('far')});
ok($node->poll_query_until('postgres', $level), 'resumed, it is brought along');

# Nor one by way of a view that is.
$node->safe_psql('postgres', q{SELECT pgtrickle.alter_stream_table('between', status => 'SUSPENDED'); INSERT INTO u VALUES (1, 1)});
ok($node->poll_query_until('postgres', $near_is_fresh), 'what a suspended view between reads goes on');
is($node->safe_psql('postgres', $level), 'f', 'without those below');
$node->safe_psql('postgres', q{SELECT pgtrickle.resume_stream_table('between')});
ok($node->poll_query_until('postgres', $level), 'until it is resumed');

# One that fails fails them all: together or not at all.
$node->safe_psql('postgres', q{
	ALTER SYSTEM SET pg_trickle.max_consecutive_errors = 1000;
	SELECT pg_reload_conf();
	CREATE MATERIALIZED VIEW inverse WITH (pg_trickle.incremental, pg_trickle.schedule = '1d', pg_trickle.consistency = snapshot) AS
		SELECT k, 1 / n AS n FROM near;
	INSERT INTO u VALUES (100, 0);
});
my ($status, undef, $error) = $node->psql('postgres', 'REFRESH MATERIALIZED VIEW near');
like($error, qr/division by zero.*refresh of materialized view "public.inverse"/s, 'REFRESH of what it reads fails with it');
ok($node->poll_query_until('postgres', q{SELECT consecutive_errors > 1 FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'inverse'}), 'the scheduler fails too');
is($node->safe_psql('postgres', q{SELECT count(*) FROM near WHERE k = 100}), '0', 'and what it reads waits');
is($node->safe_psql('postgres', $level), 't', 'as do the others');
$node->safe_psql('postgres', q{ALTER SYSTEM SET pg_trickle.max_consecutive_errors = 2; SELECT pg_reload_conf()});
ok($node->poll_query_until('postgres', q{SELECT status = 'SUSPENDED' FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'inverse'}), 'until it is suspended');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM near WHERE k = 100}), 'then they go on');
is($node->safe_psql('postgres', $level), 't', 'together');
$node->safe_psql('postgres', q{DELETE FROM u WHERE n = 0; SELECT pgtrickle.resume_stream_table('inverse')});
ok($node->poll_query_until('postgres', q{SELECT status = 'ACTIVE' FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'inverse'}), 'mended and resumed, it is refreshed');

# A trigger of the application that refreshes a view has nothing to do, and the change comes by itself.
$node->safe_psql('postgres', q{
	CREATE TABLE notes (id int);
	CREATE MATERIALIZED VIEW notes_n AS SELECT count(*) AS n FROM notes;
	CREATE FUNCTION refresh() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN REFRESH MATERIALIZED VIEW notes_n; RETURN NULL; END';
	CREATE TRIGGER refresh AFTER INSERT ON notes EXECUTE FUNCTION refresh();
});
my (undef, undef, $warning) = $node->psql('postgres', 'ALTER MATERIALIZED VIEW notes_n SET (pg_trickle.incremental = true)');
like($warning, qr/also refreshed by functions.*function .*refresh\(\), trigger refresh on table notes/s, 'whoever adopts a view is told of it');
my (undef, undef, $notices) = $node->psql('postgres', 'INSERT INTO notes VALUES (1); INSERT INTO notes VALUES (2)');
is(scalar(() = $notices =~ /is not refreshed while/g), 1, 'a session is told once');
like($notices, qr/brought in by the view's schedule/, 'what happens instead');
ok($node->poll_query_until('postgres', 'SELECT n = 2 FROM notes_n'), 'and it does');

# As it is set, so it is dumped and restored; and what is set can be reset.
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f' => $dump, '-d' => $node->connstr('postgres') ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->safe_psql('restored', slurp_file($dump));
is($node->safe_psql('restored', q{SELECT count(*) FROM pg_class WHERE 'pg_trickle.consistency=snapshot' = ANY (reloptions)}), '3', 'restored with the parameter');
$node->safe_psql('restored', q{SELECT pgtrickle.pause_all(); INSERT INTO u VALUES (1, 7); REFRESH MATERIALIZED VIEW near});
is($node->safe_psql('restored', $level), 't', 'which counts there');
$node->safe_psql('restored', q{ALTER MATERIALIZED VIEW far RESET (pg_trickle.consistency); INSERT INTO u VALUES (1, 7); REFRESH MATERIALIZED VIEW near});
is($node->safe_psql('restored', $level), 'f', 'and not any more when it is reset');

finish();
