# pg_upgrade: it leaves internal triggers behind and brings our own tables along as files. Nothing that is written to the
# new cluster may be missed, before anything of ours has run there, and every view is computed anew once.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $conf = "pg_trickle.refresh_strategy = delta\n";

# Names are such that the dump restores views before and after children of what they read, and one view before the
# trigger function, since a function in schema aaa needs its row type.
my $setup = q{
	CREATE ROLE alice;
	CREATE SCHEMA aaa;
	CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region int NOT NULL);
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, gone text, amount numeric NOT NULL);
	ALTER TABLE orders DROP COLUMN gone;
	CREATE TABLE visits (page int, ms int);
	INSERT INTO customers SELECT g, 'c' || g, g % 5 FROM generate_series(1, 50) g;
	INSERT INTO orders SELECT g, g % 50 + 1, g % 97 FROM generate_series(1, 300) g;
	INSERT INTO visits SELECT g % 5, g % 9 FROM generate_series(1, 100) g;

	CREATE TABLE parts (k int, at int, v text) PARTITION BY RANGE (at);
	CREATE TABLE a_part PARTITION OF parts FOR VALUES FROM (0) TO (10);
	CREATE TABLE z_part PARTITION OF parts FOR VALUES FROM (10) TO (20) PARTITION BY LIST (k);
	CREATE TABLE z_part_1 PARTITION OF z_part FOR VALUES IN (1);
	CREATE TABLE a_part_2 PARTITION OF z_part DEFAULT;
	INSERT INTO parts SELECT g % 3, g % 20, 'v' || g FROM generate_series(1, 60) g;

	CREATE TABLE m_parent (k int, v int);
	CREATE TABLE a_child (a int) INHERITS (m_parent);
	CREATE TABLE z_child (z int) INHERITS (m_parent);
	INSERT INTO m_parent SELECT g, g FROM generate_series(1, 10) g;
	INSERT INTO a_child SELECT g, g, g FROM generate_series(11, 20) g;
	INSERT INTO z_child SELECT g, g, g FROM generate_series(21, 30) g;
	CREATE TABLE m_first (k int);
	CREATE TABLE z_second (k int);
	CREATE TABLE z_of_both () INHERITS (m_first, z_second);
	INSERT INTO z_of_both SELECT generate_series(1, 10);

	CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
	CREATE TABLE made (id int PRIMARY KEY, n int, doubled int GENERATED ALWAYS AS (twice(n)) STORED);
	INSERT INTO made SELECT g, g FROM generate_series(1, 20) g;
	CREATE TABLE secrets (id int PRIMARY KEY, level int);
	CREATE TABLE clearance (role name, level int);
	INSERT INTO secrets SELECT g, g % 4 FROM generate_series(1, 40) g;
	INSERT INTO clearance VALUES ('alice', 2);
	ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
	CREATE POLICY cleared ON secrets TO alice USING (level <= (SELECT max(c.level) FROM clearance c WHERE c.role = 'alice'));
	GRANT SELECT, TRIGGER ON secrets, clearance TO alice;
	GRANT CREATE ON SCHEMA public TO alice;

	CREATE MATERIALIZED VIEW named WITH (pg_trickle.incremental) AS
		SELECT o.id, c.name, o.amount FROM orders o JOIN customers c ON c.id = o.customer;
	CREATE MATERIALIZED VIEW amounts WITH (pg_trickle.incremental) AS SELECT amount, customer % 3 AS third FROM orders;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS
		SELECT customer, count(*) AS n, sum(amount) AS total, max(amount) AS most FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW regions WITH (pg_trickle.incremental) AS
		SELECT c.region, sum(t.total) AS total FROM totals t JOIN customers c ON c.id = t.customer GROUP BY c.region;
	CREATE MATERIALIZED VIEW big_regions WITH (pg_trickle.incremental) AS SELECT region FROM regions WHERE total > 1000;
	-- Needs a primary key, which the dump makes late.
	CREATE MATERIALIZED VIEW by_key WITH (pg_trickle.incremental) AS
		SELECT c.id, c.name, count(*) AS n FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id;
	CREATE MATERIALIZED VIEW b_parts WITH (pg_trickle.incremental) AS SELECT k, count(*) AS n FROM parts GROUP BY k;
	CREATE MATERIALIZED VIEW b_leaf WITH (pg_trickle.incremental) AS SELECT k, v FROM a_part_2;
	CREATE MATERIALIZED VIEW b_family WITH (pg_trickle.incremental) AS SELECT k, v FROM m_parent;
	CREATE MATERIALIZED VIEW b_first WITH (pg_trickle.incremental) AS SELECT k FROM m_first;
	CREATE VIEW slow AS SELECT page, ms FROM visits WHERE ms > 3;
	CREATE VIEW slower AS SELECT * FROM slow WHERE ms > 5;
	CREATE MATERIALIZED VIEW through_views WITH (pg_trickle.incremental) AS SELECT page, ms FROM slower;
	-- The dump makes the view below it without a query first.
	CREATE VIEW keyed_view AS SELECT id, level, count(*) OVER () AS n FROM secrets GROUP BY id;
	CREATE MATERIALIZED VIEW through_keyed WITH (pg_trickle.incremental) AS SELECT id, level FROM keyed_view;
	CREATE MATERIALIZED VIEW functions WITH (pg_trickle.incremental) AS SELECT twice(page) AS p, ms FROM visits;
	CREATE MATERIALIZED VIEW generated WITH (pg_trickle.incremental) AS SELECT id, doubled FROM made;
	CREATE MATERIALIZED VIEW aaa.early WITH (pg_trickle.incremental) AS SELECT page, count(*) AS n FROM visits GROUP BY page;
	CREATE FUNCTION aaa.early_rows() RETURNS SETOF aaa.early LANGUAGE sql STABLE BEGIN ATOMIC SELECT * FROM aaa.early; END;
	CREATE MATERIALIZED VIEW recomputed WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'FULL', pg_trickle.schedule = '1s') AS SELECT count(*) AS n FROM orders;
	CREATE TABLE lonely (k int);
	CREATE MATERIALIZED VIEW recomputed_too WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'FULL', pg_trickle.schedule = '1s') AS SELECT k FROM lonely;
	CREATE MATERIALIZED VIEW later WITH (pg_trickle.incremental) AS SELECT customer, min(amount) AS least FROM orders GROUP BY customer WITH NO DATA;
	CREATE MATERIALIZED VIEW stopped WITH (pg_trickle.incremental) AS SELECT ms FROM visits;
	SET ROLE alice;
	CREATE MATERIALIZED VIEW seen_by_alice WITH (pg_trickle.incremental) AS SELECT id FROM public.secrets;
	RESET ROLE;
	SELECT pgtrickle.alter_stream_table('stopped', status => 'SUSPENDED');
};

# Every kind of change, of every source; the first argument makes keys differ.
sub changes
{
	my ($n) = @_;
	return qq{
		INSERT INTO orders SELECT $n * 1000 + g, g % 50 + 1, g % 31 FROM generate_series(1, 100) g;
		UPDATE orders SET amount = amount * 2, customer = customer % 50 + 1 WHERE id % 9 = 0;
		DELETE FROM orders WHERE id % 19 = $n;
		UPDATE customers SET name = name || '!', region = region + 1 WHERE id % 4 = 0;
		INSERT INTO visits SELECT g % 5, $n FROM generate_series(1, 20) g;
		DELETE FROM visits WHERE ms = 7;
		UPDATE visits SET ms = ms + 1 WHERE page = 2;
		INSERT INTO parts SELECT g % 3, g % 20, 'w$n' FROM generate_series(1, 10) g;
		UPDATE parts SET k = 1 - k WHERE at IN (12, 13) AND k < 2;
		UPDATE parts SET at = (at + 7) % 20 WHERE v = 'v$n';
		INSERT INTO a_part VALUES (7, $n, 'direct');
		INSERT INTO a_part_2 VALUES (8, 12, 'direct');
		INSERT INTO m_parent VALUES ($n, 0);
		INSERT INTO z_child VALUES ($n, 1, 1);
		UPDATE m_parent SET v = v + 1 WHERE k % 3 = 0;
		DELETE FROM a_child WHERE k = 11 + $n;
		INSERT INTO m_first VALUES ($n);
		INSERT INTO z_of_both VALUES ($n);
		UPDATE z_second SET k = k + 100 WHERE k = $n;
		UPDATE m_first SET k = k + 1000 WHERE k = $n + 1;
		INSERT INTO made VALUES ($n + 100, $n);
		INSERT INTO secrets SELECT $n * 100 + g, g % 4 FROM generate_series(1, 8) g;
		UPDATE clearance SET level = $n % 4;
	};
}

# What the triggers are, by name.
my $triggers = q{
	SELECT tgrelid::regclass, tgtype, tgenabled FROM pg_trigger
	WHERE tgfoid = 'pgtrickle_internal.capture'::regproc ORDER BY 1, 2};
my $unhealthy = q{SELECT source_table, alert FROM pgtrickle.check_cdc_health() WHERE alert IS NOT NULL};

sub old_node
{
	my ($name) = @_;
	my $old = trickle_node($name, conf => $conf);
	$old->safe_psql('postgres', $setup);
	$old->safe_psql('postgres', changes(1));
	refresh_all($old);
	agree($old, "$name: before");
	$old->safe_psql('postgres', changes(2));
	$old->safe_psql('postgres', 'SELECT pgtrickle.pause_all()');
	# A database that has nothing of ours.
	$old->safe_psql('postgres', 'CREATE DATABASE other');
	$old->safe_psql('other', 'CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1)');
	return $old;
}

# Every view equals its query, as its owner sees it.
sub agree
{
	my ($node, $message) = @_;
	views_agree($node, $message, except => qr/alice/);
	my $differences = $node->safe_psql('postgres', q{
		SET ROLE alice;
		(TABLE seen_by_alice EXCEPT ALL SELECT id FROM secrets) UNION ALL (SELECT id FROM secrets EXCEPT ALL TABLE seen_by_alice)});
	return is($differences, '', "$message, alice's too");
}

# The upgraded server, running. With `twin`, it has the system identifier of the old one, as two copies of one
# directory have: then nothing but the triggers can tell.
sub upgraded
{
	my ($old, $mode, %options) = @_;
	my $name = $old->name =~ s/old/new/r;
	my $new = upgraded_node($name, twin => $options{twin}, conf => $conf);
	$old->stop;
	chdir PostgreSQL::Test::Utils::tempdir() or die "chdir: $!";
	command_ok([ 'pg_upgrade', '--no-sync', $mode, '-d', $old->data_dir, '-D', $new->data_dir, '-b', $ENV{BINDIR}, '-B', $ENV{BINDIR},
			'-s', $new->host, '-p', $old->port, '-P', $new->port ], "$name: pg_upgrade $mode");
	$new->append_conf('postgresql.conf', $options{settings}) if $options{settings};
	$new->start;
	return $new;
}

my @names = map { $_ eq 'aaa.early' ? $_ : "public.$_" }
  qw(named amounts totals regions big_regions by_key b_parts b_leaf b_family b_first through_views functions generated aaa.early);

# By hand: no process of ours has run.
sub works_by_hand
{
	my ($old, $mode, %options) = @_;
	my $before = $old->safe_psql('postgres', $triggers);
	my $new = upgraded($old, $mode, %options);
	my $name = $new->name;
	is($new->safe_psql('postgres', $unhealthy), '', "$name: triggers are there from the start");
	$new->safe_psql('postgres', changes(3));
	is($new->safe_psql('postgres', q{
			SELECT source_table FROM pgtrickle.change_buffer_sizes() b
			WHERE pending_rows = 0 AND EXISTS (SELECT FROM pg_class c WHERE c.oid = b.source_oid AND c.relkind <> 'm')}),
		'', "$name: changes are captured from the start");
	refresh_all($new);
	agree($new, "$name: every view equals its query");
	is(last_actions($new, 'postgres', @names), join("\n", ('REINITIALIZE') x @names), "$name: all were computed anew")
	  unless $options{twin};
	$new->safe_psql('postgres', changes(4));
	refresh_all($new);
	agree($new, "$name: and does after changes");
	is(last_actions($new, 'postgres', @names), join("\n", ('DIFFERENTIAL') x @names), "$name: incrementally");

	$new->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW later');
	$new->safe_psql('postgres', changes(5));
	refresh_all($new);
	agree($new, "$name: with the view that had no data");
	is($new->safe_psql('postgres', "SELECT status FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'stopped'"), 'SUSPENDED',
		"$name: what was suspended is");
	is($new->safe_psql('postgres', 'SELECT count(*) FROM pgtrickle_internal.paused'), '1', "$name: and what was paused");
	is($new->safe_psql('postgres', 'SELECT pgtrickle.repair_capture()'), '0', "$name: no change may have been lost");
	is($new->safe_psql('postgres', $triggers), $before, "$name: no trigger is left that is not needed");
	is($new->safe_psql('postgres', 'SELECT * FROM pgtrickle.health_check() WHERE severity = $$ERROR$$'), '', "$name: healthy");
	unlike(slurp_file($new->logfile), qr/ERROR:|WARNING:/, "$name: nothing to complain about");
	return;
}

works_by_hand(old_node('copy_old'), '--copy');
works_by_hand(old_node('twin_old'), '--swap', twin => 1);

# By itself: the scheduler finds another server, and has everything computed anew.
my $old = old_node('link_old');
my $before = $old->safe_psql('postgres', $triggers);
my $new = upgraded($old, '--link', settings => "pg_trickle.enabled = on\n");
$new->safe_psql('postgres', changes(3));
$new->safe_psql('postgres', q{SELECT pgtrickle.resume_all(); SELECT pgtrickle.resume_stream_table('stopped')});
wait_until_fresh($new);
agree($new, 'link_new: every view equals its query');
$new->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM pgtrickle_internal.reinit)});
is($new->safe_psql('postgres', q{
		SELECT count(DISTINCT pgt_relid) FROM pgtrickle.pgt_refresh_history
		WHERE action = 'REINITIALIZE' AND initiated_by = 'SCHEDULER'}),
	$new->safe_psql('postgres', q{SELECT count(*) FROM pgtrickle.pgt_stream_tables WHERE is_populated}),
	'link_new: all were computed anew');
ok($new->poll_query_until('postgres', "SELECT count(*) = " . scalar(split /\n/, $before) . " FROM pg_trigger
		WHERE tgfoid = 'pgtrickle_internal.capture'::regproc"), 'link_new: triggers that are not needed go');
is($new->safe_psql('postgres', $triggers), $before, 'link_new: the others stay');
$new->safe_psql('postgres', changes(4));
wait_until_fresh($new);
agree($new, 'link_new: and does after changes');
is($new->safe_psql('postgres', $unhealthy), '', 'link_new: capture is healthy');
unlike(slurp_file($new->logfile), qr/ERROR:/, 'link_new: no error');

finish();
