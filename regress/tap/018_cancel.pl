# A cancel is heard at once wherever a statement may take long: while one row is written many times, handed on to the
# views that read this one, while what outgrew work_mem comes back from a sort, and while rows are captured one by one.
#
# Each statement runs once to its end, which tells how long it takes, and then again. When it has come to the loop in
# question it is cancelled. To hear that only at the loop's end would take a good part of the whole time; the bound is a
# quarter of it, to be met in one of several attempts, so that a machine busy with other things does not matter.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('cancel', conf => "pg_trickle.refresh_strategy = delta\nmax_wal_size = 2GB\nautovacuum = off\n");
$node->safe_psql('postgres', q{
	CREATE TABLE copies (a int);
	CREATE MATERIALIZED VIEW copied WITH (pg_trickle.incremental) AS SELECT a FROM copies;
	CREATE TABLE read_on (a int);
	CREATE MATERIALIZED VIEW below WITH (pg_trickle.incremental) AS SELECT a FROM read_on;
	CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT a FROM below;
	CREATE TABLE sorted (a int);
	CREATE MATERIALIZED VIEW over_sort WITH (pg_trickle.incremental) AS SELECT a FROM sorted;
	CREATE TABLE parts (a int) PARTITION BY LIST (a);
	CREATE TABLE part PARTITION OF parts DEFAULT;
	CREATE MATERIALIZED VIEW of_parts WITH (pg_trickle.incremental) AS SELECT a FROM parts;
	INSERT INTO copies SELECT 1 FROM generate_series(1, 600000);
	INSERT INTO read_on SELECT 1 FROM generate_series(1, 600000);
	INSERT INTO sorted SELECT g FROM generate_series(1, 20000) g;
	INSERT INTO sorted SELECT 0 FROM generate_series(1, 600000);

	CREATE FUNCTION milliseconds(since timestamptz) RETURNS float LANGUAGE sql AS $$
		SELECT extract(epoch FROM clock_timestamp() - since) * 1000 $$;
	-- Cancels what a session is doing, and waits until it does nothing more.
	CREATE FUNCTION cancel(session int) RETURNS float LANGUAGE plpgsql AS $$
		DECLARE start timestamptz := clock_timestamp();
		BEGIN
			PERFORM pg_cancel_backend(session);
			LOOP
				PERFORM pg_stat_clear_snapshot();
				EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = session AND state = 'active');
				PERFORM pg_sleep(0.002);
			END LOOP;
			RETURN milliseconds(start);
		END $$;
});

use constant ATTEMPTS => 5;

# `reached` gives, before the statement runs in session %d, an SQL condition that holds once it has come to the loop.
sub heard_at_once
{
	my ($what, $statement, $reached) = @_;
	my $whole = $node->safe_psql('postgres', qq{
		BEGIN;
		SELECT clock_timestamp() AS start \\gset
		$statement;
		SELECT milliseconds(:'start');
		ROLLBACK});
	my ($heard, $canceled);
	for (1 .. ATTEMPTS)
	{
		my $condition = $reached->();
		my $session = in_background($node, "BEGIN; $statement;");
		$node->poll_query_until('postgres', 'SELECT ' . sprintf($condition, $session->{pid})
			  . " OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $session->{pid} AND query ~ 'REFRESH|INSERT')")
		  or die "$what: never got there";
		$heard = $node->safe_psql('postgres', "SELECT cancel($session->{pid})");
		$session->{run}->finish;
		$canceled = $session->{err} =~ /canceling statement due to user request/;
		last if $canceled && $heard < $whole / 4;
	}
	ok($canceled && $heard < $whole / 4, "$what: heard after $heard ms of a statement of $whole ms");
	return;
}

my $writing = sub { q{EXISTS (SELECT FROM pgtrickle.pg_stat_progress_stream_table WHERE pid = %d AND phase = 'writing rows')} };
heard_at_once('many copies of a row', 'REFRESH MATERIALIZED VIEW copied', $writing);
heard_at_once('many copies handed on', 'REFRESH MATERIALIZED VIEW below', $writing);
heard_at_once('many copies in a sort', 'SET LOCAL work_mem = 64; REFRESH MATERIALIZED VIEW over_sort', $writing);

# Rolled back rows leave the buffer as long as it was.
my $buffer = q{pg_relation_size((SELECT segment_a FROM pgtrickle_internal.source WHERE relid = 'parts'::regclass))};
heard_at_once('rows captured one by one', 'INSERT INTO parts SELECT 1 FROM generate_series(1, 400000)', sub {
	my $size = $node->safe_psql('postgres', "SELECT $buffer");
	return "$buffer > $size + 500000 AND %d > 0";
});

# What was canceled has left nothing behind.
refresh_all($node);
views_agree($node, 'the views are right afterwards');

finish();
