# What wakes the scheduler, and what does not: prepared transactions that other sessions and apply workers commit, ordinary
# transactions of a subscription, the ticks of a cron expression; and, with hundreds of views, nothing at all.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use Trickle;

my $on = "pg_trickle.enabled = on\nmax_worker_processes = 16\n";
my $orders = 'CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL)';
my $total = 'CREATE MATERIALIZED VIEW total WITH (pg_trickle.incremental, pg_trickle.schedule = \'10ms\') AS SELECT count(*) AS n, sum(amount) AS amount FROM orders';

# Nobody but the transaction in question does anything that would wake the scheduler.
sub becomes
{
	my ($node, $sql, $expected, $message) = @_;
	return ok($node->poll_query_until('postgres', $sql, $expected), $message);
}

# COMMIT PREPARED, by a session that has nothing to do with it.
my $node = trickle_node('wakeups', conf => $on);
$node->safe_psql('postgres', "$orders; $total");
$node->safe_psql('postgres', q{BEGIN; INSERT INTO orders VALUES (1, 10), (2, 20); PREPARE TRANSACTION 'one'});
$node->safe_psql('postgres', q{BEGIN; INSERT INTO orders VALUES (3, 40); PREPARE TRANSACTION 'two'});
$node->safe_psql('postgres', q{SELECT pgtrickle.wait_until_fresh('total')});
is($node->safe_psql('postgres', 'SELECT n FROM total'), '0', 'prepared is not committed');
$node->safe_psql('postgres', q{COMMIT PREPARED 'one'});
becomes($node, 'SELECT n, amount FROM total', '2|30', 'COMMIT PREPARED wakes the scheduler');
$node->restart;
$node->safe_psql('postgres', q{COMMIT PREPARED 'two'});
becomes($node, 'SELECT n, amount FROM total', '3|70', 'and so after a restart');

# A subscription.
my $publisher = trickle_node('publisher', streaming => 'logical', extension => 0);
$publisher->safe_psql('postgres', "$orders; CREATE PUBLICATION pub FOR TABLE orders");
my $connection = $publisher->connstr . ' dbname=postgres';
$node->safe_psql('postgres', "TRUNCATE orders; CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub WITH (two_phase)");
$node->wait_for_subscription_sync($publisher, 'sub');
$publisher->safe_psql('postgres', 'INSERT INTO orders VALUES (1, 1), (2, 2)');
becomes($node, 'SELECT n, amount FROM total', '2|3', 'what an apply worker commits');
$publisher->safe_psql('postgres', q{BEGIN; INSERT INTO orders VALUES (3, 4); PREPARE TRANSACTION 'three'});
$publisher->wait_for_catchup('sub');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '1', 'an apply worker prepares');
$publisher->safe_psql('postgres', q{COMMIT PREPARED 'three'});
becomes($node, 'SELECT n, amount FROM total', '3|7', 'and commits what it prepared');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION sub');

# Cron, to the second: changes that come all the time are brought in by its ticks only.
my $start = time;
$node->safe_psql('postgres', q{
	CREATE MATERIALIZED VIEW ticking WITH (pg_trickle.incremental, pg_trickle.schedule = '* * * * * *') AS SELECT sum(amount) AS amount FROM orders});
my ($refreshes, $changes) = (0, 0);
my $ticks = sub {
	$node->safe_psql('postgres', 'UPDATE orders SET amount = amount + 1 WHERE id = 1');
	$changes++;
	$refreshes = $node->safe_psql('postgres', q{
		SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = 'ticking'::regclass AND initiated_by = 'SCHEDULER'});
	return $refreshes >= 4;
};
ok_eventually($ticks, 'cron ticks');
cmp_ok($refreshes, '<=', time - $start + 1, "and once a second, for $changes changes");
wait_until_fresh($node);
views_agree($node, 'the last tick brings the rest');

# Many views, in a database that nobody is connected to.
my $many = 300;
$node->safe_psql('postgres', 'CREATE DATABASE many');
$node->safe_psql('postgres', 'ALTER SYSTEM SET autovacuum = off');
$node->reload;
$node->safe_psql('many', qq{
	CREATE EXTENSION pg_trickle;
	CREATE TABLE orders (id int PRIMARY KEY, part int NOT NULL, amount int NOT NULL);
	INSERT INTO orders SELECT g, g % $many, g FROM generate_series(1, 3000) g;
	DO \$\$ BEGIN
		FOR n IN 0 .. $many - 1 LOOP
			EXECUTE format('CREATE MATERIALIZED VIEW part_%s WITH (pg_trickle.incremental, pg_trickle.schedule = ''50ms'') AS
				SELECT count(*) AS n, sum(amount) AS amount FROM orders WHERE part = %s', n, n);
		END LOOP;
	END \$\$});
$node->safe_psql('many', 'UPDATE orders SET amount = amount + 1, part = (part + 7) % ' . $many);

sub all_fresh
{
	my ($message) = @_;
	return is($node->safe_psql('many', q{
		WITH views AS MATERIALIZED (SELECT pgt_name FROM pgtrickle.pgt_stream_tables)
		SELECT count(*) FROM views WHERE NOT pgtrickle.wait_until_fresh(pgt_name, '180s')}), '0', $message);
}

# Transactions of that database, and the processor time of its scheduler in ticks.
sub activity
{
	my $commits = $node->safe_psql('postgres', q{SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'many'});
	my ($scheduler) = processes($node, 'scheduler', 'many');
	return ($commits, (split ' ', slurp_file("/proc/$scheduler/stat") =~ s/.*\) //sr)[ 11, 12 ]);
}

all_fresh("$many views are fresh");
# Statistics come late: what counts is that it becomes quiet.
my ($before, $quiet) = ('', 0);
my $rests = sub {
	my $now = join ' ', activity();
	$quiet = $now eq $before ? $quiet + 1 : 0;
	$before = $now;
	usleep(1_000_000);
	return $quiet >= 10;
};
ok_eventually($rests, 'nothing changes: no transaction, and the scheduler takes no time');
$node->safe_psql('many', 'UPDATE orders SET amount = amount + 1');
all_fresh('and are fresh again');
views_agree($node, 'exactly', dbname => 'many');

# A restart, which nothing but the start itself tells the launcher of: more databases than it starts schedulers at a time.
my @databases = map { "again_$_" } 1 .. 5;
for my $database (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION pg_trickle; $orders; $total");
}
$node->restart;
becomes($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_trickle scheduler' AND datname LIKE 'again%'",
	scalar @databases, 'every database has a scheduler after a restart');

finish();
