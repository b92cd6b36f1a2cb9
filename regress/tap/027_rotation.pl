# More databases than the server has processes for: they take turns, every view is brought up to date in the end, each database
# says what is the matter, and nothing comes or goes while there is nothing to do.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

# Beside the launchers of pg_trickle and of logical replication there is room for six: three schedulers with a worker each.
my $node = trickle_node('rotation', extension => 0,
	conf => "pg_trickle.enabled = on\nmax_worker_processes = 8\nmax_parallel_workers = 0\nlog_connections = off\n");
my @databases = map { "d$_" } 1 .. 8;
for my $database (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, q{
		CREATE EXTENSION pg_trickle;
		CREATE TABLE t (id int, n int);
		INSERT INTO t SELECT g, g FROM generate_series(1, 100) g;
		CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental, pg_trickle.schedule = '100ms') AS SELECT count(*) AS c, sum(n) AS n FROM t;
	});
}
my $fresh = 'SELECT (SELECT sum(n) FROM t) = (SELECT n FROM v)';

# What is written once is shown in each of them.
for my $round (1 .. 2)
{
	$node->safe_psql($_, 'INSERT INTO t VALUES (1000, 1)') for @databases;
	ok($node->poll_query_until($_, $fresh), "written once, round $round: $_") for @databases;
}
ok($node->poll_query_until('postgres', q{SELECT count(*) <= 3 FROM pg_stat_activity WHERE backend_type = 'pg_trickle scheduler'}),
	'there is room for workers');

# So it is while all of them are written to all the time.
my @writers = map { in_background($node, q{DO $$ BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'stop') LOOP
		UPDATE t SET n = n + 1 WHERE id = 1;
		COMMIT;
		PERFORM pg_sleep(0.05);
	END LOOP; END $$;}, $_) } @databases;
for my $database (@databases)
{
	my $before = $node->safe_psql($database, 'SELECT n FROM v');
	ok($node->poll_query_until($database, "SELECT n > $before FROM v"), "written all the time: $database");
}
# Said in each of them.
my $health = q{SELECT severity || ': ' || detail FROM pgtrickle.health_check() WHERE check_name = 'scheduler'};
like($node->safe_psql($_, $health), qr/^WARNING: .*8 databases take turns in \d places; raise max_worker_processes, which is 8$/, "health_check: $_")
  for @databases;
like($node->safe_psql($_, 'SELECT status, detail FROM pgtrickle.quick_health'), qr/^NO_ROOM\|.*8 databases take turns in \d places/, "quick_health: $_")
  for @databases;
ok($node->poll_query_until('d1', q{SELECT detail LIKE 'no room for a scheduler since %' FROM pgtrickle.quick_health}), 'who waits says since when');
$node->safe_psql('postgres', 'CREATE DATABASE stop');
$_->{run}->finish for @writers;
ok($node->poll_query_until($_, $fresh), "in the end: $_") for @databases;

# Nothing to do: nobody waits, and those that run stay.
ok_eventually(sub { my $first = join ',', processes($node, 'scheduler'); sleep 2; $first eq join ',', processes($node, 'scheduler') },
	'no coming and going');
is($node->safe_psql($_, 'SELECT waiting IS NULL FROM pgtrickle_internal.rotation()'), 't', "nothing to wait for: $_") for @databases;

# With room for all, nobody takes turns.
$node->append_conf('postgresql.conf', 'max_worker_processes = 32');
$node->restart;
ok_eventually(sub { processes($node, 'scheduler') == 8 }, 'a scheduler each');
$node->safe_psql($_, 'INSERT INTO t VALUES (1000, 1)') for @databases;
ok($node->poll_query_until($_, $fresh), "with room for all: $_") for @databases;
is($node->safe_psql('d1', 'SELECT status, detail IS NULL FROM pgtrickle.quick_health'), 'OK|t', 'all is well');

finish();
