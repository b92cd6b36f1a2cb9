# The processes come, go and come back: databases are made, renamed, copied and dropped, the extension comes and goes, the
# processes are ended one by one, there is no room for them, a standby is promoted. Views are exact all the while, and
# nobody refreshes them.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(usleep);
use Trickle;

my $node = trickle_node('runtime', streaming => 1, extension => 0, conf => "pg_trickle.enabled = on\nmax_worker_processes = 16\n");
my $setup = q{
	CREATE EXTENSION pg_trickle;
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL);
	INSERT INTO orders SELECT g, g % 10, g FROM generate_series(1, 1000) g;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW big WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT customer, total FROM totals WHERE total > 50000;
	CREATE MATERIALIZED VIEW small WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT id, amount FROM orders WHERE amount < 100;
};
my $write = 'UPDATE orders SET amount = amount + 1 WHERE id % 7 = 0; DELETE FROM orders WHERE id % 100 = 13; INSERT INTO orders SELECT max(id) + 1, 3, 5 FROM orders WHERE id < 900000';

sub goes_on
{
	my ($message, $dbname, $server) = @_;
	$server //= $node;
	$server->safe_psql($dbname // 'postgres', $write);
	wait_until_fresh($server, $dbname);
	return views_agree($server, $message, dbname => $dbname);
}

# A statement that needs a database without sessions fails after five seconds if our processes do not leave it.
sub succeeds
{
	my ($sql, $message) = @_;
	my ($status, undef, $error) = $node->psql('postgres', $sql);
	return is("$status $error", '0 ', $message);
}

ok_eventually(sub { processes($node, 'launcher') == 1 }, 'a launcher');
ok_eventually(sub { processes($node) == 1 }, 'and nothing else where the extension is not');
$node->safe_psql('postgres', $setup);
goes_on('CREATE EXTENSION is noticed');

# Databases.
$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql('one', $setup);
goes_on('a new database', 'one');
succeeds('CREATE DATABASE two TEMPLATE one', 'copying a database');
goes_on('the copied database', 'one');
goes_on('the copy', 'two');
succeeds('ALTER DATABASE two RENAME TO three', 'renaming');
goes_on('the renamed one', 'three');
succeeds('DROP DATABASE three', 'dropping');
succeeds('DROP DATABASE one WITH (FORCE)', 'dropping by force');
ok_eventually(sub { processes($node, 'scheduler') == 1 }, 'their processes are gone');
$node->safe_psql('postgres', 'CREATE ROLE passer_by; CREATE DATABASE one');
$node->safe_psql('one', $setup);
my ($status) = $node->psql('postgres', 'SET ROLE passer_by; DROP DATABASE one');
isnt($status, 0, 'not everybody can drop a database');
goes_on('and a failed DROP changes nothing', 'one');
($status) = $node->psql('postgres', 'BEGIN; ALTER DATABASE one RENAME TO other; ROLLBACK');
is($status, 0, 'renaming, rolled back');
goes_on('the scheduler is back', 'one');
$node->safe_psql('one', 'DROP EXTENSION pg_trickle');
ok_eventually(sub { processes($node, undef, 'one') == 0 }, 'DROP EXTENSION ends its processes');
$node->safe_psql('one', 'CREATE EXTENSION pg_trickle; ALTER MATERIALIZED VIEW small SET (pg_trickle.incremental)');
goes_on('the extension is back', 'one');
$node->safe_psql('postgres', 'DROP DATABASE one');

# Switched off and on.
$node->safe_psql('postgres', 'ALTER SYSTEM SET pg_trickle.enabled = off');
$node->reload;
ok_eventually(sub { processes($node) == 1 }, 'switched off, there is only the launcher');
$node->safe_psql('postgres', $write);
$node->safe_psql('postgres', 'ALTER SYSTEM RESET pg_trickle.enabled');
$node->reload;
goes_on('switched on');

# Switched off for one database, whose processes leave; the others go on. So by a role, and not by a transaction that is undone.
$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql('one', $setup);
goes_on('a database to switch off', 'one');
for my $for ('DATABASE one', 'ROLE ALL IN DATABASE one')
{
	$node->safe_psql('postgres', "ALTER $for SET pg_trickle.enabled = off");
	ok_eventually(sub { processes($node, undef, 'one') == 0 }, "switched off for $for");
	$node->safe_psql('one', $write);
	goes_on('the other database goes on');
	$node->safe_psql('postgres', "BEGIN; ALTER $for RESET pg_trickle.enabled; ROLLBACK");
	is($node->safe_psql('one', q{SELECT pgtrickle.wait_until_fresh('totals', '1s')}), 'f', 'nothing is refreshed there');
	$node->safe_psql('postgres', "ALTER $for RESET pg_trickle.enabled");
	goes_on("switched on for $for", 'one');
}
# For the server is for all, whatever databases say; and they are found again.
$node->safe_psql('postgres', 'ALTER DATABASE one SET pg_trickle.enabled = on; ALTER SYSTEM SET pg_trickle.enabled = off');
$node->reload;
ok_eventually(sub { processes($node) == 1 }, 'switched off for the server');
$node->safe_psql('postgres', 'ALTER DATABASE one SET pg_trickle.enabled = off');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET pg_trickle.enabled');
$node->reload;
goes_on('switched on for the server');
$node->safe_psql('postgres', 'ALTER DATABASE one RESET ALL');
goes_on('and for the database', 'one');
$node->safe_psql('postgres', 'DROP DATABASE one');

# Ended one by one.
for my $round (1 .. 2)
{
	for my $kind (qw(scheduler worker launcher))
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($_)") for processes($node, $kind);
		goes_on("$kind ended");
		ok_eventually(sub { processes($node, $kind) > 0 }, "there is a $kind again") if $kind ne 'worker';
	}
}

# A refresh does not queue for a lock that DDL holds, nor does anybody behind it; it is made up for. Transactions that end by
# rolling back are those of workers, which did not get the lock.
my $rolled_back = q{SELECT xact_rollback FROM pg_stat_database WHERE datname = 'postgres'};
my $ddl = $node->background_psql('postgres');
$ddl->query_safe('BEGIN; LOCK TABLE orders');
my $before = $node->safe_psql('postgres', $rolled_back);
$node->safe_psql('postgres', q{SELECT pgtrickle.resume_stream_table('small')});
ok($node->poll_query_until('postgres', "SELECT ($rolled_back) > $before"), 'a refresh gave up');
is($node->safe_psql('postgres', q{SELECT status, consecutive_errors FROM pgtrickle.pgt_status() WHERE name = 'public.small'}),
	'ACTIVE|0', 'a lock is no failure');
$ddl->query_safe('COMMIT');
$ddl->quit;
goes_on('after the lock');

# A refresh that is cancelled leaves what was there, and is tried again.
$node->safe_psql('postgres', q{
	CREATE TABLE gate (closed boolean);
	INSERT INTO gate VALUES (true);
	CREATE FUNCTION slow(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN IF x = 777 AND EXISTS (SELECT FROM public.gate) THEN PERFORM pg_sleep(100000); END IF; RETURN x; END $$;
	CREATE MATERIALIZED VIEW slowly WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT id, slow(amount) AS amount FROM orders WHERE id < 5;
	UPDATE orders SET amount = 777 WHERE id = 2});
my $sleeping = q{FROM pg_stat_activity WHERE backend_type = 'pg_trickle worker' AND wait_event = 'PgSleep'};
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 $sleeping"), 'a refresh is under way');
is($node->safe_psql('postgres', 'SELECT amount FROM slowly WHERE id = 2'), '2', 'the old contents stay');
$node->safe_psql('postgres', 'DELETE FROM gate');
is($node->safe_psql('postgres', "SELECT count(pg_cancel_backend(pid)) $sleeping"), '1', 'cancelled');
my $failed = q{SELECT status, split_part(error_message, chr(10), 1) FROM pgtrickle.get_refresh_history('slowly') WHERE status = 'FAILED'};
ok($node->poll_query_until('postgres', $failed, 'FAILED|canceling statement due to user request'), 'written down');
goes_on('tried again');
is($node->safe_psql('postgres', $failed), 'FAILED|canceling statement due to user request', 'once');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW slowly');

# A standby sleeps, and works once promoted, where nobody had refreshed what was pending.
my $standby = standby_node('promoted', $node);
is(scalar(processes($standby)), 0, 'no process on a standby');
$node->safe_psql('postgres', q{SELECT pgtrickle.pause_all()});
$node->safe_psql('postgres', $write);
$node->safe_psql('postgres', "BEGIN; INSERT INTO orders SELECT g, 4, 7 FROM generate_series(900001, 900100) g; PREPARE TRANSACTION 'promoted'");
$node->wait_for_replay_catchup($standby);
$node->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', 'SELECT pgtrickle.resume_all()');
goes_on('after promotion', 'postgres', $standby);
$standby->safe_psql('postgres', "COMMIT PREPARED 'promoted'");
goes_on('the prepared transaction of the old primary', 'postgres', $standby);

# No room.
my $full = trickle_node('full', extension => 0, conf => "pg_trickle.enabled = on\nmax_worker_processes = 4\n");
$full->safe_psql('postgres', $setup);
goes_on('just enough processes', 'postgres', $full);
$full->safe_psql('postgres', 'CREATE DATABASE one');
$full->safe_psql('one', 'CREATE EXTENSION pg_trickle');
# Whichever comes first; from then on the databases take turns.
ok_eventually(sub { $full->log_contains(qr/WARNING: .*could not start pg_trickle (?:scheduler|refresh worker)/) }, 'what cannot be started is reported');
# Longer than until the next attempt. If that came too late to be seen here, nothing would be wrong.
usleep(6_000_000);
my $log = PostgreSQL::Test::Utils::slurp_file($full->logfile);
cmp_ok(scalar(() = $log =~ /could not start pg_trickle scheduler/g), '<=', 1, 'not again and again');
goes_on('the others go on', 'postgres', $full);
$full->safe_psql('postgres', 'DROP EXTENSION pg_trickle');
$full->safe_psql('one', $setup =~ s/CREATE EXTENSION pg_trickle;//r);
goes_on('started when there is room', 'one', $full);

finish();
