# Anybody who listens in a transaction that does not end can have the queue of notifications fill up, after which every
# transaction that notifies fails. Refreshes go on; only nobody is told of them.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use Test::More;
use Trickle;

my $node = trickle_node('queue', conf => "pg_trickle.enabled = on\npg_trickle.max_consecutive_errors = 2\nmax_notify_queue_pages = 64\n");
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL);
	INSERT INTO orders SELECT g, g % 10 FROM generate_series(1, 1000) g;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms', pg_trickle.notify) AS
		SELECT customer, count(*) AS n FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW quiet WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT id FROM orders WHERE customer = 3;
	CREATE ROLE anybody LOGIN;
});
wait_until_fresh($node);

my $listener = $node->background_psql('postgres', extra_params => [ '-U', 'anybody' ]);
$listener->query_safe('LISTEN anything');
$listener->query_safe('BEGIN; SELECT 1');
my $fill = join '', map { "SET ROLE anybody; SELECT pg_notify('anything', repeat('x', 7900) || $_);\n" } 1 .. 80;
my ($status, $stdout, $stderr) = $node->psql('postgres', $fill, on_error_stop => 0);
like($stderr, qr/too many notifications in the NOTIFY queue/, 'the queue is full');

$node->safe_psql('postgres', 'INSERT INTO orders SELECT g, g % 10 FROM generate_series(1001, 1100) g');
wait_until_fresh($node);
views_agree($node, 'refreshed by delta');
# What is to be told of a recompute.
$node->safe_psql('postgres', 'TRUNCATE orders; INSERT INTO orders SELECT g, g % 10 FROM generate_series(1, 500) g');
wait_until_fresh($node);
views_agree($node, 'computed anew');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE status <> 'COMPLETED'}), '0', 'and nothing failed');
$listener->query_safe('ROLLBACK');
$listener->quit;
finish();
