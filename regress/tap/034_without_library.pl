# What changes rows without a statement on them while nobody of ours can look: a server without the library refreshes views in
# place and rewrites tables, and a crash empties unlogged ones. No view may take what it has for fresh afterwards.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('without', conf => "pg_trickle.refresh_strategy = delta\n");
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, kind int, amount int);
	INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 40) g;
	CREATE TABLE missing (a int, b int);
	INSERT INTO missing VALUES (NULL, 1), (1, 2);
	CREATE TABLE made (id int, v int GENERATED ALWAYS AS (id + 1) STORED);
	INSERT INTO made VALUES (1), (2);
	CREATE TABLE other (k int);
	CREATE TABLE strict (id int, a int);
	INSERT INTO strict VALUES (1, NULL), (2, 2);
	CREATE MATERIALIZED VIEW constrained WITH (pg_trickle.incremental) AS
		SELECT x.id AS x, y.id AS y FROM strict x JOIN strict y ON x.a IS NOT DISTINCT FROM y.a;
	CREATE MATERIALIZED VIEW copies WITH (pg_trickle.incremental) AS SELECT id, amount FROM orders;
	CREATE UNIQUE INDEX ON copies (id);
	CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT count(*), sum(amount) FROM copies;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS SELECT kind, sum(amount) AS s FROM orders GROUP BY kind;
	CREATE UNIQUE INDEX ON totals (kind);
	CREATE MATERIALIZED VIEW above_totals WITH (pg_trickle.incremental) AS SELECT s % 7 AS rest, count(*) FROM totals GROUP BY 1;
	-- Rows that a unique index lets in twice.
	CREATE MATERIALIZED VIEW bag WITH (pg_trickle.incremental) AS SELECT a, b FROM missing;
	CREATE UNIQUE INDEX ON bag (a);
	CREATE MATERIALIZED VIEW generated WITH (pg_trickle.incremental) AS SELECT v FROM made;
	CREATE MATERIALIZED VIEW untouched WITH (pg_trickle.incremental) AS SELECT k FROM other;
});
my $change = q{
	INSERT INTO orders VALUES ((SELECT max(id) + 1 FROM orders), 1, 1000);
	UPDATE orders SET amount = amount + 5 WHERE id = 7;
	DELETE FROM orders WHERE id = (SELECT min(id) FROM orders);
	INSERT INTO missing VALUES (NULL, 5);
	INSERT INTO other VALUES (1)};
my @all = qw(above above_totals bag generated constrained untouched);

sub without_library
{
	my (@sql) = @_;
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
	$node->restart;
	$node->safe_psql('postgres', $_) for @sql;
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'pg_trickle'");
	$node->restart;
	return;
}

# With changes pending, which such a refresh brings in, behind the back of the views above.
$node->safe_psql('postgres', $change);
$node->safe_psql('postgres', 'UPDATE strict SET a = 2 WHERE a IS NULL');
without_library((map { "REFRESH MATERIALIZED VIEW CONCURRENTLY $_" } qw(copies totals bag)), 'ALTER TABLE made ALTER v SET EXPRESSION AS (id + 10)',
	'ALTER TABLE strict ALTER a SET NOT NULL');
refresh_all($node);
views_agree($node, 'refreshed in place by a server without the library');
is(last_actions($node, 'postgres', @all), join("\n", ('REINITIALIZE') x 5, 'DIFFERENTIAL'), 'what may have changed was computed anew');
$node->safe_psql('postgres', $change);
refresh_all($node);
views_agree($node, 'and after changes');
is(last_actions($node, 'postgres', @all), join("\n", ('DIFFERENTIAL') x 3, ('REINITIALIZE') x 2, 'DIFFERENTIAL'), 'incrementally');

# The first refresh after that computes all of it.
$node->safe_psql('postgres', $change);
without_library('REFRESH MATERIALIZED VIEW CONCURRENTLY copies', 'REFRESH MATERIALIZED VIEW CONCURRENTLY totals');
$node->safe_psql('postgres', 'SET pg_trickle.refresh_strategy = full; REFRESH MATERIALIZED VIEW above; REFRESH MATERIALIZED VIEW above_totals');
views_agree($node, 'refreshed in place, then in full', except => qr/bag|untouched/);
refresh_all($node);

# In a server with the library nothing needs to be looked at, nor after a restart where nothing has been altered.
$node->safe_psql('postgres', $_) for $change, 'ANALYZE', 'VACUUM';
$node->restart;
refresh_all($node);
views_agree($node, 'after a restart');
is(last_actions($node, 'postgres', qw(above above_totals bag untouched)), join("\n", ('DIFFERENTIAL') x 4), 'incrementally too');

# A crash empties what is unlogged just then, whether or not somebody has refreshed meanwhile.
for my $refreshed (0, 1)
{
	my $mode = $refreshed ? 'refreshed' : 'not refreshed';
	$node->safe_psql('postgres', $_) for 'ALTER TABLE missing SET UNLOGGED', 'ALTER TABLE orders SET UNLOGGED', $change;
	refresh_all($node) if $refreshed;
	$node->stop('immediate');
	$node->start;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM missing'), 0, "$mode: the crash has emptied the table");
	$node->safe_psql('postgres', 'ALTER TABLE missing SET LOGGED; ALTER TABLE orders SET LOGGED');
	refresh_all($node);
	views_agree($node, "$mode: unlogged during a crash");
	$node->safe_psql('postgres', 'INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 40) g; INSERT INTO missing VALUES (NULL, 7), (3, 4)');
	refresh_all($node);
	views_agree($node, "$mode: and filled again");
	is(last_actions($node, 'postgres', qw(bag)), 'DIFFERENTIAL', "$mode: incrementally");
}

finish();
