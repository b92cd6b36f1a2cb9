# Tables fed by logical replication: the apply worker fires no statement triggers, so capture goes by rows
# there. A table gets into a subscription, and out of it, before and after views read it; local statements
# write to it as well. Nothing is lost or doubled.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $publisher = trickle_node('publisher', streaming => 'logical', extension => 0);
my $subscriber = trickle_node('subscriber', conf => "pg_trickle.refresh_strategy = delta\n");

my $tables = q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL, note text);
	CREATE TABLE customers (id int PRIMARY KEY, region int NOT NULL);
	CREATE TABLE events (day int NOT NULL, kind int NOT NULL, amount int NOT NULL, PRIMARY KEY (day, kind, amount)) PARTITION BY LIST (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
	CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
};
$publisher->safe_psql('postgres', $tables);
$publisher->safe_psql('postgres', q{
	INSERT INTO orders SELECT g, g % 20, g % 50, repeat('x', g) FROM generate_series(1, 500) g;
	INSERT INTO customers SELECT g, g % 3 FROM generate_series(0, 19) g;
	INSERT INTO events SELECT g % 2 + 1, g % 4, g FROM generate_series(1, 100) g;
	CREATE PUBLICATION one FOR TABLE orders, events;
	CREATE PUBLICATION two FOR TABLE customers});

# The views come before the subscription; the first rows arrive by COPY.
$subscriber->safe_psql('postgres', $tables);
$subscriber->safe_psql('postgres', q{
	INSERT INTO orders VALUES (1001, 1, 1), (1002, 2, 2);
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW regions WITH (pg_trickle.incremental) AS
		SELECT o.id, c.region, o.amount FROM orders o JOIN customers c ON c.id = o.customer;
	CREATE MATERIALIZED VIEW kinds WITH (pg_trickle.incremental) AS SELECT kind, count(*) AS n, sum(amount) AS total FROM events GROUP BY kind});
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION one");
$subscriber->wait_for_subscription_sync($publisher, 'sub');

sub arrive
{
	my ($message) = @_;
	$publisher->wait_for_catchup('sub');
	refresh_all($subscriber);
	views_agree($subscriber, $message);
	return;
}

my $write = q{
	UPDATE orders SET amount = amount + 1, customer = (customer + 1) % 20 WHERE id % 7 = 0 AND id < 1000;
	DELETE FROM orders WHERE id % 31 = 0 AND id < 1000;
	INSERT INTO orders SELECT max(id) + 1, 3, 3, 'new' FROM orders WHERE id < 1000;
	UPDATE events SET day = 3 - day WHERE amount % 5 = 0;
	BEGIN; UPDATE orders SET amount = 0; SAVEPOINT s; DELETE FROM orders; ROLLBACK TO s; UPDATE orders SET amount = amount + id; COMMIT;
	BEGIN; DELETE FROM orders; ROLLBACK;
};
my $local = q{
	UPDATE orders SET amount = amount + 5 WHERE id > 1000;
	INSERT INTO orders SELECT max(id) + 1, 4, 4 FROM orders;
	UPDATE customers SET region = region + 1 WHERE id % 2 = 0;
};

arrive('the first copy');
$publisher->safe_psql('postgres', $write);
arrive('changes');
$publisher->safe_psql('postgres', $write);
$subscriber->safe_psql('postgres', $local);
arrive('changes on both sides');
is($subscriber->safe_psql('postgres', 'SELECT sum(total) FROM totals'), $subscriber->safe_psql('postgres', 'SELECT sum(amount) FROM orders'), 'a total by hand');

# A table that views read enters the subscription, with changes pending.
$subscriber->safe_psql('postgres', "$local; TRUNCATE customers; ALTER SUBSCRIPTION sub ADD PUBLICATION two");
$subscriber->wait_for_subscription_sync($publisher, 'sub');
$publisher->safe_psql('postgres', "$write; UPDATE customers SET region = region + 10 WHERE id % 3 = 0; DELETE FROM customers WHERE id = 5");
arrive('another table');

# A view of a table that is subscribed already.
$subscriber->safe_psql('postgres', q{
	CREATE MATERIALIZED VIEW per_region WITH (pg_trickle.incremental) AS
		SELECT region, count(*) AS n FROM customers GROUP BY region});
$publisher->safe_psql('postgres', "$write; UPDATE customers SET region = region + 1");
arrive('another view');

$publisher->safe_psql('postgres', "$write; TRUNCATE customers; INSERT INTO customers VALUES (1, 1), (2, 1)");
arrive('TRUNCATE');

# Tables leave the subscription; statements are all that is left.
$publisher->safe_psql('postgres', $write);
$publisher->wait_for_catchup('sub');
$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION sub DROP PUBLICATION two; $local; UPDATE customers SET region = 9 WHERE id = 1");
arrive('a table left');
$publisher->safe_psql('postgres', $write);
$publisher->wait_for_catchup('sub');
$subscriber->safe_psql('postgres', "DROP SUBSCRIPTION sub; $local");
$subscriber->safe_psql('postgres', 'DELETE FROM orders WHERE id % 2 = 0; UPDATE events SET day = 3 - day');
refresh_all($subscriber);
views_agree($subscriber, 'the subscription is gone');

finish();
