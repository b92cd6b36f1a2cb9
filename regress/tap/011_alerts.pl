# Who listens hears of what goes wrong, each thing once, from our processes only: statements of users send nothing, so what they
# do can be prepared, and their commits wait for nobody.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use Test::More;
use Trickle;

my $node = trickle_node('alerts', conf => "pg_trickle.enabled = on\npg_trickle.max_consecutive_errors = 2\n"
	  . "pg_trickle.stale_alert_factor = 1\npg_trickle.rebuild_mismatched = on\n");
$node->safe_psql('postgres', q{
	CREATE SCHEMA "The desk";
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL);
	INSERT INTO orders SELECT g, g % 10, g FROM generate_series(1, 1000) g;
	CREATE MATERIALIZED VIEW "The desk"."Each ""share""" WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT id, 1000000 / amount AS share FROM orders;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms', pg_trickle.notify) AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
});
wait_until_fresh($node);

my $listener = $node->background_psql('postgres');
my $heard = '';
$listener->query_safe('LISTEN pg_trickle_alert; LISTEN pg_trickle_refresh;');

# psql shows what it has been told whenever it has run something.
sub listen_once { $heard .= $listener->query_safe('SELECT') . "\n"; return }

sub hear
{
	my ($expected, $message) = @_;
	return pass($message) if eventually(sub { listen_once(); $heard =~ $expected });
	diag($heard);
	return fail($message);
}

sub times_heard { my ($expected) = @_; listen_once(); return scalar(() = $heard =~ /$expected/g) }
sub start_anew { listen_once(); $heard = ''; return }

# As one transaction that is prepared first, which a NOTIFY in it would forbid.
sub prepared
{
	my ($sql) = @_;
	$node->safe_psql('postgres', "BEGIN; $sql; PREPARE TRANSACTION 'alerts'; COMMIT PREPARED 'alerts'");
	return;
}

my $share = qr/"stream_table": "\\"The desk\\".\\"Each \\"\\"share\\"\\"\\""/;

# A refresh that changed rows, where that was asked for; not one that changed none, nor one by hand.
prepared('INSERT INTO orders VALUES (1001, 3, 5), (1002, 3, 5)');
hear(qr/"pg_trickle_refresh" with payload "\{"stream_table": "public.totals", "action": "DIFFERENTIAL", "rows_inserted": 0, "rows_updated": 1, "rows_deleted": 0\}"/,
	'a refresh that changed rows');
wait_until_fresh($node);
start_anew();
prepared('UPDATE orders SET id = 2000 WHERE id = 1002');
wait_until_fresh($node);
$node->safe_psql('postgres', 'SELECT pgtrickle.pause_all(); UPDATE orders SET amount = amount + 1 WHERE id = 4; REFRESH MATERIALIZED VIEW totals');
$node->safe_psql('postgres', 'SELECT pgtrickle.resume_all()');
wait_until_fresh($node);
is(times_heard(qr/pg_trickle_refresh/), 0, 'no row changed, or somebody refreshed by hand: nothing is said');

# What TRUNCATE and redefinitions call for. What so small a table loses would be a change, if its rows did not change again after they
# were read.
prepared(q{CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO orders VALUES (0, 0, 1); RETURN NULL; END';
	CREATE TRIGGER z_meddle BEFORE TRUNCATE ON orders EXECUTE FUNCTION meddle();
	TRUNCATE orders});
hear(qr/\{"event": "reinitialize_needed", "stream_table": "public.totals", "reason": "SOURCE_TRUNCATED: A table it reads was truncated\."\}/, 'a recompute');
hear(qr/\{"event": "reinitialize_needed", $share, "reason": "SOURCE_TRUNCATED: A table it reads was truncated\."\}/, 'and of the other view');
$node->safe_psql('postgres', 'INSERT INTO orders SELECT g, g % 10, g FROM generate_series(1, 1000) g');
wait_until_fresh($node);
# A row that refreshes did not write: the change of it does not fit.
start_anew();
$node->safe_psql('postgres', q{SELECT pgtrickle.pause_all()});
my $state = $node->safe_psql('postgres', q{SELECT relid::regclass FROM pgtrickle_internal.state WHERE view = 'totals'::regclass});
$node->safe_psql('postgres', "DELETE FROM $state WHERE k1 = 7; DELETE FROM orders WHERE customer = 7 AND id < 100; SELECT pgtrickle.resume_all()");
hear(qr/\{"event": "reinitialize_needed", "stream_table": "public.totals", "reason": "MISMATCH: [^"]+"\}/, 'contents that a change does not fit');
wait_until_fresh($node);
views_agree($node, 'computed anew');

# Failures: of the delta, then of the recompute it orders.
start_anew();
prepared('UPDATE orders SET amount = 0 WHERE id = 1');
hear(qr/\{"event": "refresh_failed", $share, "sqlstate": "22012"\}/, 'a failure');
hear(qr/\{"event": "auto_suspended", $share, "consecutive_errors": 2\}/, 'the last one');
is(times_heard(qr/auto_suspended/), 1, 'once');
is(times_heard(qr/"resumed"/), 0, 'and nothing else');
$node->safe_psql('postgres', 'UPDATE orders SET amount = 1 WHERE id = 1');
prepared(q{SELECT pgtrickle.resume_stream_table('"The desk"."Each ""share"""')});
hear(qr/\{"event": "resumed", $share\}/, 'it goes on');
wait_until_fresh($node);
is(times_heard(qr/"resumed"/), 1, 'told once');
# It must not be suspended before it is helped.
$node->safe_psql('postgres', 'ALTER SYSTEM SET pg_trickle.max_consecutive_errors = 1000');
$node->reload;
start_anew();
prepared('UPDATE orders SET amount = 0 WHERE id = 1');
hear(qr/"refresh_failed"/, 'it fails again');
$node->safe_psql('postgres', 'UPDATE orders SET amount = 1 WHERE id = 1');
wait_until_fresh($node);
hear(qr/\{"event": "resumed", $share\}/, 'a view that recovers by itself');

# Data that get old, because somebody locks what they come from.
start_anew();
$node->safe_psql('postgres', 'SELECT pgtrickle.pause_all(); UPDATE orders SET amount = amount + 1');
my $ddl = $node->background_psql('postgres');
$ddl->query_safe('BEGIN; LOCK TABLE orders');
$node->safe_psql('postgres', 'SELECT pgtrickle.resume_all()');
hear(qr/\{"event": "stale_data", "stream_table": "public.totals", "seconds": \d+\}/, 'stale data');
hear(qr/\{"event": "stale_data", $share, "seconds": \d+\}/, 'of both views');
$ddl->query_safe('COMMIT');
$ddl->quit;
wait_until_fresh($node);
is(times_heard(qr/"stale_data"/), 2, 'each once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pgtrickle.pgt_status() WHERE consecutive_errors > 0}), '0', 'which is no failure');

# A buffer that grows, because somebody has stopped a reader; the other one is fresh. In one transaction, or a slow machine would
# tell of it halfway, and again.
start_anew();
$node->safe_psql('postgres', q{
	BEGIN;
	CREATE TABLE wide (id int PRIMARY KEY, filler text);
	INSERT INTO wide SELECT g, repeat('x', 1000) FROM generate_series(1, 1000) g;
	CREATE MATERIALIZED VIEW kept WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT id, length(filler) FROM wide;
	CREATE MATERIALIZED VIEW stopped WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT id, filler FROM wide;
	SELECT pgtrickle.alter_stream_table('stopped', status => 'SUSPENDED');
	DO $$ BEGIN FOR i IN 1 .. 8 LOOP UPDATE wide SET filler = repeat(i::text, 1000); END LOOP; END $$;
	COMMIT});
hear(qr/\{"event": "buffer_growth_warning", "stream_table": "public.stopped", "source_table": "public.wide", "buffer_bytes": \d+, "limit_bytes": \d+\}/,
	'a buffer that grows');
is(times_heard(qr/"stale_data", "stream_table": "public.stopped"/), 0, 'who is stopped by hand is not stale');
is(times_heard(qr/buffer_growth/), 1, 'once');

# All of this came from our processes.
my %pids = map { $_ => 1 } processes($node);
my @strangers = grep { !$pids{$_} } $heard =~ /process with PID (\d+)/g;
is("@strangers", '', 'from our processes');

$listener->quit;
finish();
