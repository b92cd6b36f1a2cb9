# What becomes of refreshes that fail again and again, and of those for which there is no process; and who is told.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('failures', conf => "pg_trickle.enabled = on\npg_trickle.max_consecutive_errors = 3\n");
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL);
	INSERT INTO orders SELECT g, g % 10, g FROM generate_series(1, 100) g;
	CREATE MATERIALIZED VIEW shares WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT id, customer, 1000 / amount AS share FROM orders;
	CREATE MATERIALIZED VIEW below WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT customer, sum(share) AS share FROM shares GROUP BY customer;
	CREATE MATERIALIZED VIEW beside WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT customer, count(*) AS n FROM orders GROUP BY customer;
});
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN pg_trickle_alert');

my $heard = '';
# Waits for an alert about a view; its other fields must match.
sub alerted
{
	my ($event, $view, @fields) = @_;
	my $payload;
	my $told = sub {
		$heard .= $listener->query_safe('SELECT') . "\n";
		($payload) = $heard =~ /payload "(\{"event": "$event", "stream_table": "$view"[^\n]*\})" received/;
		return defined $payload;
	};
	eventually($told) or return fail("$event of $view was told; heard: $heard");
	$heard = '';
	like($payload, $_, "$event of $view tells $_") for qr/\}$/, @fields;
	return;
}

sub state_is
{
	my ($view, $expected, $message) = @_;
	return ok($node->poll_query_until('postgres', "SELECT status, consecutive_errors FROM pgtrickle.pgt_status() WHERE name = 'public.$view'", $expected), $message);
}

my $old = $node->safe_psql('postgres', 'SELECT sum(share) FROM below');
$node->safe_psql('postgres', 'UPDATE orders SET amount = 0 WHERE id = 7; DELETE FROM orders WHERE id = 8');
# First by its changes, then as a whole.
state_is('shares', 'ERROR|2', 'what cannot be computed is in ERROR');
alerted('refresh_failed', 'public.shares', qr/"sqlstate": "22012"/);
is($node->safe_psql('postgres', 'SELECT sum(share) FROM below'), $old, 'what reads it stays as it was');
is($node->safe_psql('postgres', q{SELECT waits_for FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'below'}), '{public.shares}', 'and says why');
is($node->safe_psql('postgres', q{SELECT pgtrickle.wait_until_fresh('beside')}), 't', 'the rest goes on');

# Tried again when something has changed; that was once too often.
$node->safe_psql('postgres', 'DELETE FROM orders WHERE id = 9');
state_is('shares', 'SUSPENDED|3', 'suspended after so many errors');
alerted('auto_suspended', 'public.shares', qr/"consecutive_errors": 3\b/);
$node->safe_psql('postgres', 'UPDATE orders SET amount = 3 WHERE id = 7');
is($node->safe_psql('postgres', q{SELECT pgtrickle.wait_until_fresh('beside'), pgtrickle.wait_until_fresh('shares', '1s')}), 't|f', 'suspended means left alone');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = 'shares'::regclass AND status = 'FAILED'}), '3', 'the history has all failures');
$node->safe_psql('postgres', q{SELECT pgtrickle.resume_stream_table('shares')});
alerted('resumed', 'public.shares');
wait_until_fresh($node);
views_agree($node, 'resumed, all are exact');
state_is('shares', 'ACTIVE|0', 'and the errors are forgotten');
$listener->quit;

# Whoever may read somebody's views can make one of them a branch of a diamond. Its other branch, which always finds a lock taken,
# holds it up as little as the reader of both.
$node->safe_psql('postgres', q{
	CREATE TABLE facts (a int PRIMARY KEY);
	INSERT INTO facts SELECT generate_series(1, 10);
	CREATE MATERIALIZED VIEW one WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT a FROM facts;
	CREATE MATERIALIZED VIEW two WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT a FROM facts WHERE a > 0;
	CREATE ROLE reader;
	CREATE SCHEMA hers AUTHORIZATION reader;
	GRANT SELECT ON one, two TO reader;
	SET ROLE reader;
	CREATE FUNCTION hers.busy(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
		'BEGIN IF a > 10 THEN RAISE lock_not_available; END IF; RETURN a; END';
	CREATE MATERIALIZED VIEW hers.branch WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT hers.busy(a) AS a FROM public.two;
	CREATE MATERIALIZED VIEW hers.both WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT a FROM public.one UNION ALL SELECT a FROM hers.branch;
	RESET ROLE;
});
for my $n (11 .. 13)
{
	$node->safe_psql('postgres', "INSERT INTO facts VALUES ($n)");
	is($node->safe_psql('postgres', q{SELECT pgtrickle.wait_until_fresh('one', '180s'), pgtrickle.wait_until_fresh('two', '180s')}),
		't|t', "the views of the one are refreshed after change $n");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM one'), $n, 'and show it');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM hers.both'), '20', 'and not in those of the other');

# No room for a worker: beside the server's own process, the launcher and two schedulers.
my $tight = trickle_node('tight', extension => 0, conf => "pg_trickle.enabled = on\nmax_worker_processes = 4\n");
$tight->safe_psql('postgres', 'CREATE DATABASE other');
$tight->safe_psql('other', 'CREATE EXTENSION pg_trickle');
$tight->safe_psql('postgres', 'CREATE EXTENSION pg_trickle');
$tight->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'pg_trickle scheduler'});
$tight->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY);
	CREATE MATERIALIZED VIEW counted WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT count(*) AS n FROM orders;
	INSERT INTO orders VALUES (1)});
$tight->wait_for_log(qr/WARNING: .*could not start pg_trickle refresh worker/);
$tight->safe_psql('other', 'DROP EXTENSION pg_trickle');
wait_until_fresh($tight);
is($tight->safe_psql('postgres', 'SELECT n FROM counted'), '1', 'it is tried again, and works when there is room, be it in turns');

# A database that was waiting for room and is gone: the launcher waits for nothing any more, and takes no time.
$tight->safe_psql('postgres', 'CREATE DATABASE brief');
$tight->safe_psql('brief', 'CREATE EXTENSION pg_trickle');
$tight->safe_psql('postgres', 'DROP DATABASE brief');
my ($launcher) = processes($tight, 'launcher');
my ($time, $quiet) = ('', 0);
my $rests = sub {
	my $now = join ' ', (split ' ', slurp_file("/proc/$launcher/stat") =~ s/.*\) //sr)[ 11, 12 ];
	$quiet = $now eq $time ? $quiet + 1 : 0;
	$time = $now;
	sleep 1;
	# Longer than until the next attempt to start a process.
	return $quiet > 7;
};
ok_eventually($rests, 'the launcher rests');

finish();
