# kill -9 of a backend and of the postmaster while changes are captured, while a refresh computes, applies
# and has just committed, and while buffers are trimmed. Refreshes commit asynchronously: one may be undone by
# the crash, with its frontier. After recovery the next refresh makes every view equal to its query.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use Trickle;

# Deltas even where a recompute would be cheaper: it would hide what a delta gets wrong.
my $node = trickle_node('crash', conf => "restart_after_crash = on\npg_trickle.refresh_strategy = delta\n");

# gate() waits while somebody holds lock 1: a stop in the middle of whatever evaluates it. A view calls it for
# the amount 77 while the delta is computed, an index for a total of 7777 while it is applied.
$node->safe_psql('postgres', q{
	CREATE FUNCTION gate(x bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN x; END $$;
	CREATE TABLE customers (id int PRIMARY KEY, region int NOT NULL);
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL, note text);
	CREATE TABLE visits (page int, ms int);
	INSERT INTO customers SELECT g, g % 7 FROM generate_series(1, 200) g;
	INSERT INTO orders SELECT g, g % 200 + 1, g % 50, repeat('x', 100) FROM generate_series(1, 20000) g;
	INSERT INTO visits SELECT g % 5, g % 9 FROM generate_series(1, 2000) g;
	CREATE TABLE letters (id int PRIMARY KEY, body text);
	CREATE FUNCTION wide(n int) RETURNS text LANGUAGE sql AS $$
		SELECT string_agg(md5((n + g)::text), '') FROM generate_series(1, 700) g $$;
	INSERT INTO letters SELECT g, wide(g) FROM generate_series(1, 300) g;
	CREATE MATERIALIZED VIEW letter_copies WITH (pg_trickle.incremental) AS SELECT id, body FROM letters;
	CREATE MATERIALIZED VIEW per_customer WITH (pg_trickle.incremental) AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE INDEX ON per_customer ((CASE WHEN total = 7777 THEN gate(total) END));
	CREATE MATERIALIZED VIEW per_region WITH (pg_trickle.incremental) AS
		SELECT region, sum(CASE WHEN amount = 77 THEN gate(77) ELSE amount END) AS total, count(*) AS n
		FROM orders JOIN customers ON customers.id = customer GROUP BY region;
	CREATE MATERIALIZED VIEW top_customers WITH (pg_trickle.incremental) AS
		SELECT p.customer, c.region, p.total FROM per_customer p JOIN customers c ON c.id = p.customer WHERE p.total > 2000;
	CREATE MATERIALIZED VIEW slow_visits WITH (pg_trickle.incremental) AS SELECT page, ms FROM visits WHERE ms > 3;
});

my $write = q{
	INSERT INTO orders SELECT g, g % 200 + 1, g % 50, 'new' FROM generate_series(100001, 110000) g;
	UPDATE orders SET amount = amount + 1 WHERE id % 3 = 0;
	DELETE FROM orders WHERE id % 5 = 0;
	INSERT INTO visits SELECT 6, 6 FROM generate_series(1, 1000);
	DELETE FROM visits WHERE page = 1;
};
my $committed = q{
	UPDATE orders SET customer = customer % 200 + 1 WHERE id % 11 = 0;
	UPDATE customers SET region = region + 1 WHERE id % 13 = 0;
	INSERT INTO visits VALUES (7, 7), (7, 7), (7, 1);
};

sub check
{
	my ($message) = @_;
	refresh_all($node);
	views_agree($node, $message);
	return;
}

check('before any crash');

my %crashes = (
	'a backend' => sub { kill_backend($node, @_) },
	'the postmaster' => sub { kill_postmaster($node, @_) });

for my $victim (sort keys %crashes)
{
	my $crash = $crashes{$victim};

	# Capture: one transaction is open, another committed, a third prepared.
	$node->safe_psql('postgres', $committed);
	$node->safe_psql('postgres', q{
		BEGIN; UPDATE orders SET amount = amount + 5 WHERE id = 1; INSERT INTO visits VALUES (8, 8); PREPARE TRANSACTION 'survivor'});
	my $writer = in_background($node, "BEGIN; $write");
	wait_until_done($writer);
	$crash->($writer);
	check("$victim killed with an open writer");
	$node->safe_psql('postgres', q{COMMIT PREPARED 'survivor'});
	check("... and a transaction prepared before");

	# Delta: computed up to the change that waits at the gate.
	my $keeper = in_background($node, 'SELECT FROM pg_advisory_lock(1);');
	wait_until_done($keeper);
	$node->safe_psql('postgres', "$committed; UPDATE orders SET amount = 77 WHERE id IN (2, 4001)");
	my $refresher = in_background($node, 'REFRESH MATERIALIZED VIEW per_region;');
	wait_for_lock($node, $refresher->{pid}, 'advisory');
	$crash->($refresher, $keeper);
	check("$victim killed while a delta was computed");

	# Apply: half of the groups are written when customer 101 gets to the index.
	$keeper = in_background($node, 'SELECT FROM pg_advisory_lock(1);');
	wait_until_done($keeper);
	$node->safe_psql('postgres', q{
		UPDATE orders SET amount = amount + 3 WHERE id % 2 = 0;
		UPDATE orders SET amount = amount + 7777 - (SELECT sum(amount) FROM orders WHERE customer = 101)
		WHERE id = (SELECT min(id) FROM orders WHERE customer = 101)});
	$refresher = in_background($node, 'REFRESH MATERIALIZED VIEW top_customers;');
	wait_for_lock($node, $refresher->{pid}, 'advisory');
	$crash->($refresher, $keeper);
	check("$victim killed while a delta was applied");

	# Commit: the refresh came through, its commit may not have reached the disk.
	$node->safe_psql('postgres', $committed);
	$refresher = in_background($node, 'REFRESH MATERIALIZED VIEW per_region; REFRESH MATERIALIZED VIEW top_customers;');
	wait_until_done($refresher);
	$crash->($refresher);
	check("$victim killed just after a refresh");
}

# Everything at once: writers whose statements fill segment after segment, some with TOAST, and refreshes that trim them. The
# postmaster dies at a moment of its own choosing.
my $scripts = PostgreSQL::Test::Utils::tempdir();
append_to_file("$scripts/bulk.sql", q{
\set n random(1, 1000000)
INSERT INTO orders SELECT :n * 1000 + g, g % 200 + 1, g % 50, 'bulk' FROM generate_series(1, 900) g ON CONFLICT (id) DO UPDATE SET amount = 0;
DELETE FROM orders WHERE id / 1000 = :n AND id % 10 <> 0;
});
append_to_file("$scripts/small.sql", q{
\set n random(1, 20000)
BEGIN;
UPDATE orders SET amount = amount + 1 WHERE id = :n;
INSERT INTO visits VALUES (:n % 5, :n % 9);
SAVEPOINT s;
DELETE FROM visits WHERE page = :n % 5 AND ms = :n % 9;
ROLLBACK TO SAVEPOINT s;
COMMIT;
});
append_to_file("$scripts/letters.sql", q{
\set n random(1, 20000)
UPDATE letters SET body = wide(:n) WHERE id BETWEEN :n % 10 + 1 AND :n % 10 + 3;
UPDATE letters SET body = repeat(md5((:n + id)::text), 40) WHERE id > 20;
});
append_to_file("$scripts/refresh.sql", q{
REFRESH MATERIALIZED VIEW letter_copies;
REFRESH MATERIALIZED VIEW top_customers;
REFRESH MATERIALIZED VIEW per_region;
REFRESH MATERIALIZED VIEW slow_visits;
});

for my $round (1 .. 4)
{
	my $load = IPC::Run::start(
		[ 'pgbench', '-n', '-T', 60, '-c', 4, '-j', 1, '-d', $node->connstr('postgres'),
			'-f', "$scripts/bulk.sql\@2", '-f', "$scripts/letters.sql\@2", '-f', "$scripts/small.sql\@6", '-f', "$scripts/refresh.sql\@2" ],
		'>' => \my $out, '2>' => \my $err);
	usleep(400_000 + 370_000 * $round);
	$node->kill9;
	$load->finish;
	start_again($node);
	check("the postmaster killed under load, round $round");
	$node->safe_psql('postgres', 'UPDATE letters SET body = wide(id) WHERE id <= 20');
	check("... and written to again");
}

finish();
