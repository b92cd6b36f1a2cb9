# kill -9 of the launcher, a scheduler, a worker and the postmaster, again and again, while sessions write. In the end every
# view equals its query, without anybody having refreshed one. The branches of a diamond agree for every reader.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('kills', conf => "restart_after_crash = on\npg_trickle.enabled = on\n");
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL);
	CREATE TABLE customers (id int PRIMARY KEY, region int NOT NULL);
	INSERT INTO customers SELECT g, g % 4 FROM generate_series(0, 49) g;
	INSERT INTO orders SELECT g, g % 50, g % 100 FROM generate_series(1, 5000) g;
	CREATE MATERIALIZED VIEW counts WITH (pg_trickle.incremental, pg_trickle.schedule = '20ms') AS
		SELECT customer, count(*) AS n FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, pg_trickle.schedule = '70ms') AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW means WITH (pg_trickle.incremental, pg_trickle.schedule = '30ms') AS
		SELECT counts.customer, counts.n, totals.total FROM counts JOIN totals USING (customer);
	CREATE MATERIALIZED VIEW regions WITH (pg_trickle.incremental) AS
		SELECT region, sum(total) AS total, sum(n) AS n FROM means JOIN customers ON customers.id = customer GROUP BY region;
	CREATE MATERIALIZED VIEW cheap WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT id, amount FROM orders WHERE amount < 10;
});

# Writers that go on wherever the server lets them.
sub write_for
{
	my ($seconds, $writer) = @_;
	my $file = "$ENV{TESTDATADIR}/write_$writer.sql";
	append_to_file($file, q{
\set id random(1, 5000)
\set customer random(0, 49)
UPDATE orders SET amount = (amount + 7) % 100, customer = :customer WHERE id = :id;
BEGIN; DELETE FROM orders WHERE id = :id + 1; SAVEPOINT s; UPDATE orders SET amount = 0 WHERE id < :id; ROLLBACK TO s; COMMIT;
INSERT INTO orders VALUES (:id + 1, :customer, :customer) ON CONFLICT DO NOTHING;
UPDATE customers SET region = (region + 1) % 4 WHERE id = :customer;
}) unless -e $file;
	return IPC::Run::start([ 'pgbench', '-n', '-T', $seconds, '-c', '1', '--max-tries=1', '-f', $file, $node->connstr('postgres') ],
		'>' => '/dev/null', '2>' => '/dev/null');
}

# Both branches in one snapshot.
my $disagree = q{SELECT count(*) FROM counts FULL JOIN totals USING (customer) WHERE counts.n IS DISTINCT FROM totals.n};

my ($reads, $wrong) = (0, 0);
sub read_again
{
	my ($times) = @_;
	my $enough = $reads + $times;
	my $read = sub {
		my ($status, $out) = $node->psql('postgres', $disagree);
		if ($status == 0)
		{
			$reads++;
			$wrong++ if $out ne '0';
		}
		return $reads >= $enough;
	};
	return eventually($read) || die 'nobody can read';
}

for my $round (1 .. 2)
{
	for my $victim (qw(worker scheduler launcher postmaster))
	{
		my @writers = map { write_for(5, $_) } 1 .. 2;
		read_again(10);
		if ($victim eq 'postmaster')
		{
			$node->kill9;
			start_again($node);
		}
		else
		{
			my $pid;
			next unless ok_eventually(sub { ($pid) = processes($node, $victim); $pid }, "there is a $victim");
			kill_process($node, $pid);
		}
		read_again(10);
		$_->finish for @writers;
	}
	# What crashes interrupted is written by nobody now.
	@_ = write_for(2, 1)->finish;
	wait_until_fresh($node);
	views_agree($node, "exact after round $round");
}
is($wrong, 0, "the branches of the diamond agreed each of $reads times");
is($node->safe_psql('postgres', q{SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE initiated_by = 'MANUAL'}), '0', 'nobody refreshed by hand');
is($node->safe_psql('postgres', q{SELECT string_agg(name || ' ' || status, ', ') FROM pgtrickle.pgt_status() WHERE status <> 'ACTIVE' OR consecutive_errors > 0}), '',
	'and nothing went wrong');

finish();
