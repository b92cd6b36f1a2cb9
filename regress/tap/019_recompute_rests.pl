# A view that takes long to compute is not recomputed again and again because a default schedule would have it: it rests in
# proportion to what its recompute took, and so do those that would have it recomputed. A schedule that was set is kept to.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $node = trickle_node('rests', conf => "pg_trickle.enabled = on\npg_trickle.max_parallel_refreshes = 2\n");

# Half a second and more, as capture cannot see what the function reads, so that the view is recomputed to know. `reader` asks
# for it each second; `branch` makes a diamond with it, whose tip is `tip`; `beside` has nothing to do with it.
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL);
	INSERT INTO orders SELECT g, g FROM generate_series(1, 100) g;
	CREATE FUNCTION slowly() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN 1; END $$;
	CREATE MATERIALIZED VIEW slow WITH (pg_trickle.incremental) AS SELECT sum(amount) * (SELECT slowly()) AS total FROM orders;
	CREATE MATERIALIZED VIEW branch WITH (pg_trickle.incremental) AS SELECT count(*) AS n FROM orders;
	CREATE MATERIALIZED VIEW reader WITH (pg_trickle.incremental) AS SELECT total FROM slow;
	CREATE MATERIALIZED VIEW tip WITH (pg_trickle.incremental) AS SELECT n, total FROM slow, branch;
	CREATE MATERIALIZED VIEW beside WITH (pg_trickle.incremental) AS SELECT id, amount FROM orders WHERE amount > 50;
});

my $recomputes = q{FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = 'slow'::regclass AND initiated_by = 'SCHEDULER' AND status = 'COMPLETED'};
# For each recompute but the first, how many times the one before had taken lay between them.
my $rests = "SELECT (extract(epoch FROM start_time - lag(end_time) OVER w)) * 1000 / lag(duration_ms) OVER w AS times, refresh_id $recomputes WINDOW w AS (ORDER BY refresh_id)";

ok($node->poll_query_until('postgres', "SELECT count(*) >= 1 $recomputes"), 'recomputed');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 4 FROM unnest(ARRAY['slow', 'reader', 'branch', 'tip']) view
	WHERE EXISTS (SELECT FROM pgtrickle.explain_st(view) WHERE property = 'next_recompute_not_before' AND value IS NOT NULL)}),
	'it says so, and so do those that rest with it');
is($node->safe_psql('postgres', q{SELECT value IS NULL FROM pgtrickle.explain_st('beside') WHERE property = 'next_recompute_not_before'}), 't', 'nobody else does');

# What a writer changed is brought in meanwhile.
$node->safe_psql('postgres', 'UPDATE orders SET amount = amount + 1 WHERE id > 50');
is($node->safe_psql('postgres', q{SELECT pgtrickle.wait_until_fresh('beside', '180s')}), 't', 'the rest goes on');
ok($node->poll_query_until('postgres', "SELECT count(*) >= 3 $recomputes"), 'and the view is recomputed again in the end');
is($node->safe_psql('postgres', "SELECT count(*) FROM ($rests) r WHERE times < 10"), '0', 'never before it has rested ten times as long');
is($node->safe_psql('postgres', q{SELECT count(*) FROM tip, reader WHERE tip.total <> reader.total}), '0', 'its readers agree');

# A scheduler that begins goes by the history.
$node->restart;
ok($node->poll_query_until('postgres', "SELECT count(*) >= 4 $recomputes"), 'after a restart as well');
is($node->safe_psql('postgres', "SELECT count(*) FROM ($rests) r WHERE times < 10"), '0', 'it rests over a restart');

# A schedule that a reader was given is everybody's above it.
my $last = $node->safe_psql('postgres', "SELECT max(refresh_id) $recomputes");
$node->safe_psql('postgres', q{ALTER MATERIALIZED VIEW reader SET (pg_trickle.schedule = '100ms')});
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM ($rests) r WHERE times < 5 AND refresh_id > $last"), 'a schedule that was set is kept to');
is($node->safe_psql('postgres', q{SELECT value IS NULL FROM pgtrickle.explain_st('slow') WHERE property = 'next_recompute_not_before'}), 't', 'and nothing else is said');

finish();
