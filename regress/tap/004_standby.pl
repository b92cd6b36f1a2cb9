# A physical standby with changes pending is promoted after the primary died: data and frontier went
# together, so the next refresh is exact, whatever the standby missed.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $conf = "pg_trickle.refresh_strategy = delta\n";
my $primary = trickle_node('primary', streaming => 1, conf => $conf);
$primary->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL);
	INSERT INTO orders SELECT g, g % 100, g % 50 FROM generate_series(1, 5000) g;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW amounts WITH (pg_trickle.incremental) AS SELECT customer, amount FROM orders WHERE amount > 10;
	CREATE MATERIALIZED VIEW big WITH (pg_trickle.incremental) AS SELECT customer, total FROM totals WHERE total > 1100;
});

my $standby = standby_node('standby', $primary);

# Refreshed, then changed again: by a finished, a prepared and an open transaction.
$primary->safe_psql('postgres', q{
	UPDATE orders SET amount = amount + 1 WHERE id % 7 = 0;
	INSERT INTO orders SELECT g, g % 120, g % 50 FROM generate_series(5001, 6000) g;
	REFRESH MATERIALIZED VIEW big; REFRESH MATERIALIZED VIEW amounts;
	DELETE FROM orders WHERE id % 11 = 0;
	UPDATE orders SET customer = customer + 1 WHERE id % 13 = 0;
	BEGIN; UPDATE orders SET amount = 0 WHERE id = 2; PREPARE TRANSACTION 'promoted';
});
my $open = in_background($primary, 'BEGIN; UPDATE orders SET amount = amount + 1000 WHERE id % 2 = 1; DELETE FROM orders WHERE id % 17 = 0;');
wait_until_done($open);
$primary->safe_psql('postgres', 'INSERT INTO orders VALUES (7001, 1, 1)');
$primary->wait_for_replay_catchup($standby);

# The standby shows what the primary's view showed, and refreshes nothing.
my $rows = 'SELECT count(*), sum(n), sum(total) FROM totals';
is($standby->safe_psql('postgres', $rows), $primary->safe_psql('postgres', $rows), 'the view can be read on the standby');
my ($status, undef, $error) = $standby->psql('postgres', 'REFRESH MATERIALIZED VIEW totals');
isnt($status, 0, 'no refresh on a standby');
like($error, qr/cannot execute .* (during recovery|in a read-only transaction)/, '... and it says why');

# The primary dies with commits that the standby never gets: all of a refresh and its changes, or nothing.
$standby->stop;
$primary->safe_psql('postgres', 'UPDATE orders SET amount = 9 WHERE id % 34 = 4; REFRESH MATERIALIZED VIEW totals');
$primary->kill9;
$open->{run}->finish;
$standby->start;
$standby->promote;

refresh_all($standby);
views_agree($standby, 'exact after promotion');
$standby->safe_psql('postgres', q{COMMIT PREPARED 'promoted'});
refresh_all($standby);
views_agree($standby, 'exact after the prepared transaction committed on the new primary');
is($standby->safe_psql('postgres', 'SELECT total FROM totals WHERE customer = 2'),
	$standby->safe_psql('postgres', 'SELECT sum(amount) FROM orders WHERE customer = 2'), 'a total by hand');
$standby->safe_psql('postgres', q{
	UPDATE orders SET amount = amount + 2 WHERE id % 3 = 0;
	CREATE MATERIALIZED VIEW later WITH (pg_trickle.incremental) AS SELECT amount, count(*) AS n FROM orders GROUP BY amount;
	DELETE FROM orders WHERE id % 5 = 0});
refresh_all($standby);
views_agree($standby, 'old and new views go on');
is(last_actions($standby, 'postgres', 'totals', 'later'), "DIFFERENTIAL\nDIFFERENTIAL", 'incrementally');

finish();
