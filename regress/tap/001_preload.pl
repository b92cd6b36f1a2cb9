# Without shared_preload_libraries there are no hooks: a stream table would silently be a plain view. Every
# way in says so, and what was captured by existing triggers meanwhile is not lost.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $node = trickle_node('preload');

sub preload
{
	my ($libraries) = @_;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
	$node->restart;
	return;
}

# Fails with an error that names the setting to change.
sub refused
{
	my ($dbname, $sql, $message) = @_;
	my ($status, undef, $error) = $node->psql($dbname, $sql);
	isnt($status, 0, "$message is refused");
	like($error, qr/shared_preload_libraries/, "$message: the error says why");
	like($error, qr/HINT:/, "$message: and what to do");
	return;
}

$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL);
	INSERT INTO orders SELECT g, g FROM generate_series(1, 100) g;
	CREATE MATERIALIZED VIEW small WITH (pg_trickle.incremental) AS SELECT id, amount FROM orders WHERE amount < 10;
	CREATE MATERIALIZED VIEW bag WITH (pg_trickle.incremental) AS SELECT amount / 10 AS tens FROM orders;
	CREATE MATERIALIZED VIEW tens WITH (pg_trickle.incremental) AS SELECT tens, count(*) FROM bag GROUP BY tens;
	CREATE MATERIALIZED VIEW emptied WITH (pg_trickle.incremental) AS SELECT id FROM orders;
	CREATE MATERIALIZED VIEW rewritten WITH (pg_trickle.incremental) AS SELECT id FROM orders;
	INSERT INTO orders VALUES (200, 5);
	DELETE FROM orders WHERE id = 1;
});

preload('');
$node->safe_psql('postgres', 'CREATE DATABASE other');
refused('other', 'CREATE EXTENSION pg_trickle', 'CREATE EXTENSION');
refused('postgres', q{SELECT pgtrickle.create_stream_table('t', 'SELECT id FROM orders')}, 'create_stream_table');
refused('postgres', q{SELECT pgtrickle.refresh_stream_table('small')}, 'refresh_stream_table');

# Writers of captured tables are told, rather than their changes lost.
refused('postgres', 'UPDATE orders SET amount = amount + 1', 'a write to a captured table');

# To such a server they are plain views. What is pending must not be applied to what it makes of them.
$node->safe_psql('postgres', $_) foreach ('REFRESH MATERIALIZED VIEW bag', 'REFRESH MATERIALIZED VIEW small',
	'REFRESH MATERIALIZED VIEW emptied WITH NO DATA', 'VACUUM FULL rewritten');

preload('pg_trickle');
$node->safe_psql('other', 'CREATE EXTENSION pg_trickle');
$node->safe_psql('postgres', 'INSERT INTO orders VALUES (101, 5)');
refresh_all($node);
views_agree($node, 'nothing was lost or doubled while the library was not preloaded');
is(last_actions($node, 'postgres', qw(bag tens small)), join("\n", ('REINITIALIZE') x 3), 'rows that were replaced are compared');

# In a server with the library a new file holds the same rows.
$node->safe_psql('postgres', $_) foreach ('VACUUM FULL bag', 'INSERT INTO orders VALUES (102, 6)');
refresh_all($node);
views_agree($node, 'rewritten');
is(last_actions($node, 'postgres', qw(bag tens small)), join("\n", ('DIFFERENTIAL') x 3), 'rows that were moved are not compared');

finish();
