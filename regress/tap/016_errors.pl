# What clients and administrators see of an error, on a server whose environment asks for stack traces.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

local $ENV{RUST_BACKTRACE} = 'full';
my $node = trickle_node('errors', conf => "pg_trickle.enabled = on\n");
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL);
	INSERT INTO orders SELECT g, g FROM generate_series(1, 100) g;
	CREATE FUNCTION share(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF $1 = 0 THEN
			RAISE EXCEPTION 'zero is refused' USING DETAIL = 'It is the number of nothing.', ERRCODE = 'UX001';
		END IF;
		RETURN 1000 / $1;
	END $$;
	CREATE MATERIALIZED VIEW shares WITH (pg_trickle.incremental, pg_trickle.schedule = '1d') AS SELECT id, share(amount) FROM orders;
	CREATE MATERIALIZED VIEW often WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT id, share(amount) AS s FROM orders;
	INSERT INTO orders VALUES (0, 0);
});

# All of an error that psql shows, without its prefix.
sub error_of
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $err =~ s/^psql:<stdin>:\d+: //mgr;
}
my @statements = (
	[ 'a refresh', 'REFRESH MATERIALIZED VIEW shares', qr/\AERROR:  UX001: zero is refused\nDETAIL:  It is the number of nothing\.\nCONTEXT:  PL\/pgSQL function public\.share\(integer\) line 4 at RAISE\nrefresh of materialized view "public.shares"\nLOCATION:  exec_stmt_raise, pl_exec.c:\d+\z/ ],
	[ 'an error without DETAIL', q{SELECT * FROM pgtrickle.validate_query('SELECT nope')}, qr/\AERROR:  42703: column "nope" does not exist\nLINE 1: SELECT nope\n +\^\nQUERY:  SELECT nope\nLOCATION:  errorMissingColumn, parse_relation.c:\d+\z/ ],
	[ 'an error of ours', q{SELECT pgtrickle.refresh_stream_table('orders')}, qr/\AERROR:  42809: "orders" is not a materialized view\nDETAIL:  Stream tables are materialized views\.\nHINT:  [^\n]*\nLOCATION:  [^\n]*\z/ ],
	[ 'an error inside a statement of ours', q{CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT 1 / (amount - 1) AS x FROM orders}, qr/\AERROR:  22012: division by zero\nCONTEXT:  refresh of materialized view "public.v"\nLOCATION:  int4div, int.c:\d+\z/ ]);
like(error_of($_->[1]), $_->[2], "$_->[0] has no stack trace") for @statements;

# A cancel and an end of the session are reported as ever.
$node->safe_psql('postgres', 'CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(180); RETURN 1; END $$');
for my $end ([ 'pg_cancel_backend', qr/ERROR:  57014: canceling statement due to user request/ ], [ 'pg_terminate_backend', qr/FATAL:  57P01: terminating connection due to administrator command/ ])
{
	my $session = in_background($node, "\\set VERBOSITY verbose\nCREATE MATERIALIZED VIEW slow WITH (pg_trickle.incremental) AS SELECT id, slow(amount) AS x FROM orders;");
	$node->poll_query_until('postgres', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $session->{pid}");
	$node->safe_psql('postgres', "SELECT $end->[0]($session->{pid})");
	eval { $session->{run}->finish };
	like($session->{err}, $end->[1], "$end->[0] is heard");
	unlike($session->{err}, qr/DETAIL/, "without DETAIL");
}

# What the scheduler writes down.
$node->poll_query_until('postgres', q{SELECT status = 'ERROR' FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'often'});
my $text = "zero is refused\nDETAIL:  It is the number of nothing.\nCONTEXT:  PL/pgSQL function public.share(integer) line 4 at RAISE\nrefresh of materialized view \"public.often\"";
is($node->safe_psql('postgres', q{SELECT last_error_message FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'often'}), $text, 'last_error_message has DETAIL and CONTEXT');
is($node->safe_psql('postgres', q{SELECT error_message FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = 'often'::regclass AND status = 'FAILED' LIMIT 1}), $text, 'so has the history');
like(slurp_file($node->logfile), qr/LOG:  zero is refused\n[^\n]*DETAIL:  It is the number of nothing\.\n[^\n]*CONTEXT:  PL\/pgSQL function public\.share\(integer\) line 4 at RAISE\n\trefresh of materialized view "public.often"/, 'and the log');
unlike(slurp_file($node->logfile), qr/stack backtrace|DETAIL:  *\n? +0:|___rust_try|rust_begin_unwind/, 'no stack trace anywhere');

finish();
