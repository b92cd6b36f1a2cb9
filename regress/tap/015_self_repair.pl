# Capture triggers that are lost or disabled behind the server's back: no view may be wrong from then on, and capture
# repairs itself.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('repair', conf => "pg_trickle.refresh_strategy = delta\n");
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int);
	CREATE TABLE parts (k int, v int) PARTITION BY LIST (k);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	CREATE TABLE parent (k int);
	CREATE TABLE child () INHERITS (parent);
	CREATE TABLE untouched (k int);
	INSERT INTO orders SELECT g, g % 7, g FROM generate_series(1, 300) g;
	INSERT INTO parts SELECT 1, g FROM generate_series(1, 20) g;
	INSERT INTO child SELECT generate_series(1, 20);
	CREATE MATERIALIZED VIEW copies WITH (pg_trickle.incremental) AS SELECT id, amount FROM orders;
	CREATE MATERIALIZED VIEW amounts WITH (pg_trickle.incremental) AS SELECT amount FROM orders;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS SELECT customer, sum(amount) AS s FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW few WITH (pg_trickle.incremental) AS SELECT customer FROM totals WHERE s > 100;
	CREATE MATERIALIZED VIEW of_parts WITH (pg_trickle.incremental) AS SELECT k, count(*) AS n, sum(v) AS s FROM parts GROUP BY k;
	CREATE MATERIALIZED VIEW of_parents WITH (pg_trickle.incremental) AS SELECT k FROM parent;
	CREATE MATERIALIZED VIEW of_untouched WITH (pg_trickle.incremental) AS SELECT k FROM untouched;
});

my $capture = q{tgfoid = 'pgtrickle_internal.capture'::regproc};
my $broken = q{SELECT count(*) FROM pgtrickle.check_cdc_health() WHERE alert IS NOT NULL};
my $n = 0;

# Sessions of their own, which have not seen the triggers before.
sub change
{
	$n++;
	$node->safe_psql('postgres', qq{
		INSERT INTO orders SELECT $n * 1000 + g, g, g + $n FROM generate_series(1, 20) g;
		UPDATE orders SET amount = amount + 1 WHERE id % 5 = $n % 5;
		DELETE FROM orders WHERE id % 41 = $n;
		INSERT INTO parts VALUES (1, $n);
		UPDATE parts SET v = v + 1 WHERE v % 3 = 0;
		INSERT INTO child VALUES ($n);
		UPDATE parent SET k = k + 100 WHERE k % 10 = $n;
		INSERT INTO untouched VALUES ($n)});
	return;
}

# By what a source lost its triggers, how many sources it concerns, and what undoes nothing.
my @ways = (
	[ 'deleted', 3, "DELETE FROM pg_trigger WHERE $capture AND tgrelid IN ('orders'::regclass, 'parts_1'::regclass, 'child'::regclass)" ],
	[ 'disabled', 3, "UPDATE pg_trigger SET tgenabled = 'D' WHERE $capture AND tgrelid IN ('orders'::regclass, 'parts_1'::regclass, 'child'::regclass)" ],
	[ 'of another function', 1, "UPDATE pg_trigger SET tgfoid = 'suppress_redundant_updates_trigger'::regproc
		WHERE $capture AND tgrelid = 'orders'::regclass AND tgname LIKE 'pg_trickle_update%'" ]);

# By hand.
for (@ways)
{
	my ($way, $sources, $sql) = @$_;
	change();
	refresh_all($node);
	views_agree($node, "before triggers are $way");
	$node->safe_psql('postgres', $sql);
	is($node->safe_psql('postgres', $broken), $sources, "$way: capture is not healthy");
	change() unless $way =~ /function/;
	my (undef, undef, $stderr) = $node->psql('postgres', 'REFRESH MATERIALIZED VIEW totals');
	like($stderr, qr/WARNING:  changes of "?(public\.)?orders"? may not have been captured/, "$way: a refresh says so");
	refresh_all($node);
	views_agree($node, "$way: every view equals its query");
	is(last_actions($node, 'postgres', 'of_untouched'), 'DIFFERENTIAL', "$way: others go on");
	change() unless $way =~ /function/;
	refresh_all($node);
	views_agree($node, "$way: and does after changes that are not captured either");
	$node->safe_psql('postgres', q{DELETE FROM pg_trigger WHERE tgfoid = 'suppress_redundant_updates_trigger'::regproc});
	is($node->safe_psql('postgres', 'SELECT pgtrickle.repair_capture()'), $sources, "$way: repaired");
	is($node->safe_psql('postgres', $broken), 0, "$way: healthy again");
	refresh_all($node);
	change();
	refresh_all($node);
	views_agree($node, "$way: changes are captured again");
	is(last_actions($node, 'postgres', qw(copies totals of_parts of_parents)), join("\n", ('DIFFERENTIAL') x 4), "$way: incrementally");
}

# A session that has refreshed before looks again after an invalidation, be it of a partition only.
my $session = $node->background_psql('postgres');
$session->query('REFRESH MATERIALIZED VIEW of_parts');
$node->safe_psql('postgres', "DELETE FROM pg_trigger WHERE $capture AND tgrelid = 'parts_1'::regclass");
$node->safe_psql('postgres', 'INSERT INTO parts VALUES (1, 77); ANALYZE parts_1');
$session->query('REFRESH MATERIALIZED VIEW of_parts');
is($session->query('SELECT n, s FROM of_parts'), $node->safe_psql('postgres', 'SELECT count(*), sum(v) FROM parts'), 'after an invalidation');
is($node->safe_psql('postgres', 'SELECT pgtrickle.repair_capture()'), 1, 'after an invalidation: repaired');
$session->query('REFRESH MATERIALIZED VIEW of_parts');
$node->safe_psql('postgres', 'INSERT INTO parts VALUES (1, 78); ANALYZE parts_1');
$session->query('REFRESH MATERIALIZED VIEW of_parts');
is($session->query('SELECT n, s FROM of_parts'), $node->safe_psql('postgres', 'SELECT count(*), sum(v) FROM parts'), 'after another one');
is(last_actions($node, 'postgres', 'of_parts'), 'DIFFERENTIAL', 'after another one: incrementally');
$session->quit;

# A server without the library does DDL on what is captured, of which nobody is told.
sub without_library
{
	my ($sql) = @_;
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
	$node->restart;
	$node->safe_psql('postgres', $sql);
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'pg_trickle'");
	$node->restart;
	return;
}
without_library(q{
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2); INSERT INTO parts_2 VALUES (2, 2), (2, 3);
	CREATE TABLE child_2 () INHERITS (parent); INSERT INTO child_2 VALUES (1000);
	ALTER TABLE orders DISABLE TRIGGER ALL; INSERT INTO orders VALUES (-1, -1, -1)});
refresh_all($node);
views_agree($node, 'DDL without the library: every view equals its query');
change();
$node->safe_psql('postgres', 'INSERT INTO parts_2 VALUES (2, 4); INSERT INTO child_2 VALUES (1001); UPDATE parent SET k = k + 1');
refresh_all($node);
views_agree($node, 'DDL without the library: and does after changes');
is($node->safe_psql('postgres', 'SELECT pgtrickle.repair_capture()'), 3, 'DDL without the library: repaired');
refresh_all($node);
change();
$node->safe_psql('postgres', 'INSERT INTO parts_2 VALUES (2, 5); INSERT INTO child_2 VALUES (1002); UPDATE parent SET k = k + 1');
refresh_all($node);
views_agree($node, 'DDL without the library: captured again');
is(last_actions($node, 'postgres', qw(copies totals of_parts of_parents)), join("\n", ('DIFFERENTIAL') x 4), 'DDL without the library: incrementally');

# A server of another major version: the index that finds rows by their hash is made anew, once; others are not. The first
# refresh finds it out for all views, unless it is rolled back.
refresh_all($node);
my $files = q{SELECT relfilenode FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE indrelid IN ('amounts'::regclass, 'copies'::regclass) ORDER BY indrelid::regclass::text};
my ($hash, $key) = split /\n/, $node->safe_psql('postgres', $files);
my $due = q{SELECT count(*) FROM pgtrickle.pgt_stream_tables WHERE needs_reinit};
$node->safe_psql('postgres', 'UPDATE pgtrickle_internal.installation SET system_identifier = 1, server_catversion = 1');
$node->safe_psql('postgres', 'BEGIN; REFRESH MATERIALIZED VIEW copies; ROLLBACK; REFRESH MATERIALIZED VIEW copies');
is(last_actions($node, 'postgres', 'copies'), 'REINITIALIZE', 'another major version: computed anew');
is($node->safe_psql('postgres', $due), 6, 'another major version: so will be the others');
is($node->safe_psql('postgres', 'SELECT system_identifier = (pg_control_system()).system_identifier FROM pgtrickle_internal.installation'), 't',
	'another major version: known from now on');
refresh_all($node);
views_agree($node, 'another major version: every view equals its query');
is($node->safe_psql('postgres', $due), 0, 'another major version: all are computed anew');
my ($new_hash, $new_key) = split /\n/, $node->safe_psql('postgres', $files);
isnt($new_hash, $hash, 'another major version: the index over hashes is made anew');
is($new_key, $key, 'another major version: the one over a key is not');

# By itself, as soon as there is a scheduler; nobody waits for it, and it waits for nobody.
$node->safe_psql('postgres', $ways[0][2]);
change();
my $writer = in_background($node, 'BEGIN; INSERT INTO orders VALUES (-2, -2, -2);');
wait_until_done($writer);
my $listener = $node->background_psql('postgres');
my $heard = $listener->query_safe('LISTEN pg_trickle_alert');
$node->append_conf('postgresql.conf', "pg_trickle.enabled = on\n");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pgtrickle.check_cdc_health() WHERE alert IS NOT NULL"),
	'what nobody writes to is repaired');
$node->safe_psql('postgres', q{SET lock_timeout = '10s'; INSERT INTO orders VALUES (-3, -3, -3)});
is($node->safe_psql('postgres', 'SELECT pgtrickle.refresh_stream_table($$copies$$); SELECT count(*) FROM copies WHERE id = -3'), "\n1",
	'meanwhile refreshes are right');
$writer->{in} .= "COMMIT;\n\\echo committed\n";
$writer->{run}->pump_nb until $writer->{out} =~ /^committed$/m;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pgtrickle.check_cdc_health() WHERE alert IS NOT NULL"),
	'then all is');
wait_until_fresh($node);
views_agree($node, 'repaired by itself');
$heard .= $listener->query_safe('SELECT');
like($heard, qr/"event": "capture_repaired", "stream_table": "public.totals", "source_table": "public.orders"/, 'and told');
change();
wait_until_fresh($node);
views_agree($node, 'and goes on');
$writer->{in} .= "\\q\n";
$writer->{run}->finish;
$listener->quit;

finish();
