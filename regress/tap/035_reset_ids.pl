# pg_resetwal sets the transaction ids back. What a view contains and what is pending can no longer be told by them: a refresh
# says so, and what to do, rather than to ask for another attempt for ever.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('reset');
my @views = qw(copies totals above);

# Only what no id of the commit log depends on.
sub set_epoch
{
	my ($epoch) = @_;
	$node->stop;
	command_ok([ 'pg_resetwal', '-e', $epoch, '-D', $node->data_dir ], "the epoch becomes $epoch");
	$node->start;
	return;
}

$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, kind int);
	INSERT INTO orders SELECT g, g % 5 FROM generate_series(1, 40) g;
	CREATE MATERIALIZED VIEW copies WITH (pg_trickle.incremental) AS SELECT id, kind FROM orders;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS SELECT kind, count(*) AS n FROM orders GROUP BY kind;
	CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT n FROM totals;
	DELETE FROM orders WHERE id < 4});
set_epoch(7);
$node->safe_psql('postgres', 'INSERT INTO orders VALUES (50, 1)');
refresh_all($node);
views_agree($node, 'ids go on further on');
$node->safe_psql('postgres', 'INSERT INTO orders VALUES (51, 1)');
set_epoch(2);
$node->safe_psql('postgres', 'INSERT INTO orders VALUES (52, 2)');
for my $view (@views)
{
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\nREFRESH MATERIALIZED VIEW $view");
	like($stderr, qr/ERROR:  55000: .* after transaction ids have been set back/, "$view: refused");
	like($stderr, qr/HINT:  Set pg_trickle.incremental to false/, "$view: with the way out");
}
$node->safe_psql('postgres', join ';', map { "ALTER MATERIALIZED VIEW $_ SET (pg_trickle.incremental = false)" } reverse @views);
$node->safe_psql('postgres', join ';', map { "ALTER MATERIALIZED VIEW $_ SET (pg_trickle.incremental = true)" } @views);
refresh_all($node);
views_agree($node, 'adopted again');
$node->safe_psql('postgres', 'INSERT INTO orders VALUES (53, 2); DELETE FROM orders WHERE id = 10; SET pg_trickle.refresh_strategy = delta; '
	  . join ';', map { "REFRESH MATERIALIZED VIEW $_" } @views);
views_agree($node, 'and goes on');
is(last_actions($node, 'postgres', @views), join("\n", ('DIFFERENTIAL') x 3), 'incrementally');

finish();
