# pg_dump | psql into a new database gives working stream tables, with no helper: the dump is plain DDL, so
# it holds nothing of ours but the options. Then changes are captured and refreshes incremental.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('dump', conf => "pg_trickle.refresh_strategy = delta\n");

$node->safe_psql('postgres', q{
	CREATE ROLE alice; CREATE ROLE "Bob B";
	CREATE SCHEMA alice AUTHORIZATION alice;
	CREATE SCHEMA "odd ""Schema""";
	GRANT USAGE ON SCHEMA "odd ""Schema""" TO "Bob B";
	CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region int NOT NULL);
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers, amount numeric NOT NULL, at timestamptz NOT NULL);
	CREATE TABLE "odd ""Schema"""."Log's %s" ("the ""Line""" text, n int);
	INSERT INTO customers SELECT g, 'c' || g, g % 5 FROM generate_series(1, 50) g;
	INSERT INTO orders SELECT g, g % 50 + 1, g % 97 + 0.50, timestamptz '2024-03-01 00:00+00' + g * interval '37 minutes' FROM generate_series(1, 2000) g;
	INSERT INTO "odd ""Schema"""."Log's %s" SELECT 'line ' || g % 7, g % 3 FROM generate_series(1, 100) g;
	INSERT INTO "odd ""Schema"""."Log's %s" VALUES (NULL, NULL), (NULL, NULL);

	-- Keyed by groups, with indexes and a comment of the user's; by a join; by a bag; a chain over them.
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, pg_trickle.schedule = '1m30s', fillfactor = 70) AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE INDEX totals_total ON totals (total DESC) WHERE n > 1;
	CREATE UNIQUE INDEX totals_mine ON totals (customer);
	COMMENT ON MATERIALIZED VIEW totals IS 'what they spent';
	CREATE MATERIALIZED VIEW named WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'DIFFERENTIAL') AS
		SELECT o.id, c.name, o.amount FROM orders o JOIN customers c ON c.id = o.customer WHERE o.amount > 20;
	CREATE MATERIALIZED VIEW amounts WITH (pg_trickle.incremental) AS SELECT amount, customer % 3 AS third FROM orders;
	CREATE MATERIALIZED VIEW regions WITH (pg_trickle.incremental) AS
		SELECT c.region, sum(t.total) AS total, sum(t.n) AS n FROM totals t JOIN customers c ON c.id = t.customer GROUP BY c.region;
	CREATE MATERIALIZED VIEW best WITH (pg_trickle.incremental) AS SELECT region FROM regions WHERE total > 18000;
	-- Needs the primary key of customers, which a dump creates late.
	CREATE MATERIALIZED VIEW by_customer WITH (pg_trickle.incremental) AS
		SELECT c.id, c.name, count(*) AS n FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id;
	-- Quoted names.
	CREATE MATERIALIZED VIEW "odd ""Schema"""."Lines of %I's" WITH (pg_trickle.incremental) AS
		SELECT "the ""Line""" AS "Line", count(*) AS "How ""Many""" FROM "odd ""Schema"""."Log's %s" GROUP BY 1;
	ALTER MATERIALIZED VIEW "odd ""Schema"""."Lines of %I's" OWNER TO "Bob B";
	GRANT ALL ON "odd ""Schema"""."Log's %s" TO "Bob B";
	-- Not populated.
	CREATE MATERIALIZED VIEW later WITH (pg_trickle.incremental) AS SELECT customer, max(amount) AS most FROM orders GROUP BY customer WITH NO DATA;
	-- Another plain one.
	CREATE MATERIALIZED VIEW plain AS SELECT count(*) AS n FROM orders;

	-- An owner whose sight is limited by row security.
	GRANT SELECT, TRIGGER ON orders, customers TO alice;
	ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
	CREATE POLICY low_regions ON customers TO alice USING (region < 3);
	SET ROLE alice;
	CREATE MATERIALIZED VIEW alice.mine WITH (pg_trickle.incremental) AS SELECT id, name FROM public.customers WITH NO DATA;
	RESET ROLE;
});
# The day of an order depends on a setting, which is pinned when the view is made.
$node->safe_psql('postgres', q{
	SET TimeZone = 'Asia/Tokyo';
	CREATE MATERIALIZED VIEW per_day WITH (pg_trickle.incremental) AS SELECT at::date AS day, count(*) AS n FROM orders GROUP BY 1});
my $tokyo = q{SET TimeZone = 'Asia/Tokyo'};

# Changes are pending when the dump is taken: the restored views are made from the restored tables.
$node->safe_psql('postgres', 'UPDATE orders SET amount = amount + 1 WHERE id % 10 = 0; DELETE FROM orders WHERE id % 17 = 0');

my $dir = PostgreSQL::Test::Utils::tempdir();
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', "$dir/plain.sql" ], 'pg_dump');
$node->command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('postgres'), '-f', "$dir/custom" ], 'pg_dump -Fc');
$node->command_ok([ 'pg_dump', '-s', '-d', $node->connstr('postgres'), '-f', "$dir/schema.sql" ], 'pg_dump --schema-only');

my $dump = slurp_file("$dir/plain.sql");
like($dump, qr/CREATE MATERIALIZED VIEW public\.totals\s+WITH \(.*"?pg_trickle\.incremental"?='?true'?/, 'the options stand in the dump');
unlike($dump, qr/pgtrickle_internal|pgtrickle\.(?!row_image_hash)|changes_\d|state_\d|CREATE TRIGGER/,
	'nothing internal does');

# Changes to a restored database, of every kind, that each view must notice.
my $change = q{
	INSERT INTO orders SELECT g, g % 50 + 1, g % 31, timestamptz '2024-03-09 14:30+00' FROM generate_series(9001, 9100) g;
	UPDATE orders SET amount = amount * 2, customer = customer % 50 + 1 WHERE id % 9 = 0;
	DELETE FROM orders WHERE id % 19 = 0;
	UPDATE customers SET name = name || '!', region = region + 1 WHERE id % 4 = 0;
	INSERT INTO "odd ""Schema"""."Log's %s" VALUES ('line 1', 1), (NULL, 5);
	DELETE FROM "odd ""Schema"""."Log's %s" WHERE n = 2;
};
my @names = ('totals', 'named', 'amounts', 'regions', 'best', 'by_customer', 'per_day', q{"odd ""Schema"""."Lines of %I''s"});
my $shape = q{
	SET search_path = pg_catalog;
	SELECT c.oid::regclass, c.reloptions, pg_get_userbyid(relowner), relacl, relispopulated, obj_description(c.oid, 'pg_class'), pg_get_viewdef(c.oid),
		(SELECT string_agg(pg_get_indexdef(indexrelid), ' ' ORDER BY pg_get_indexdef(indexrelid)) FROM pg_index WHERE indrelid = c.oid)
	FROM pg_class c WHERE relkind = 'm' ORDER BY c.oid::regclass::text COLLATE "C"};

sub restored
{
	my ($name, @command) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0");
	local $ENV{PGTZ} = 'Asia/Tokyo';
	$node->command_ok([ @command, '-d', $node->connstr($name) ], "$name: restored without an error");
	return;
}

sub works
{
	my ($name) = @_;
	is($node->safe_psql($name, $shape), $node->safe_psql('postgres', $shape), "$name: definitions, options, owners, rights and indexes are back");
	views_agree($node, "$name: every view equals its query", dbname => $name, settings => $tokyo);
	$node->safe_psql($name, $change);
	refresh_all($node, $name);
	views_agree($node, "$name: and does after changes", dbname => $name, settings => $tokyo);
	is(last_actions($node, $name, @names), join("\n", ('DIFFERENTIAL') x @names), "$name: incrementally");

	$node->safe_psql($name, 'REFRESH MATERIALIZED VIEW later; REFRESH MATERIALIZED VIEW alice.mine');
	is($node->safe_psql($name, 'SELECT count(*) FROM alice.mine'), $node->safe_psql($name, 'SELECT count(*) FROM customers WHERE region < 3'),
		"$name: a view sees what its owner may see");
	$node->safe_psql($name, $change =~ s/INSERT INTO orders.*?;//sr);
	refresh_all($node, $name);
	is($node->safe_psql($name, 'SELECT name FROM alice.mine ORDER BY id'),
		$node->safe_psql($name, 'SELECT name FROM customers WHERE region < 3 ORDER BY id'), "$name: also incrementally");
	is($node->safe_psql($name, 'TABLE later EXCEPT ALL SELECT customer, max(amount) FROM orders GROUP BY customer'), '',
		"$name: a view that was not populated works when it is");
	return;
}

restored('plain', 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql");
works('plain');
restored('custom', 'pg_restore', '--exit-on-error', '--jobs=2', "$dir/custom");
works('custom');

# Without data: the views exist, unpopulated, and work when there is some.
restored('schema', 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/schema.sql");
is($node->safe_psql('schema', 'SELECT count(*) FILTER (WHERE is_populated), count(*) > 8 FROM pgtrickle.pgt_stream_tables'), '0|t',
	'schema: stream tables without contents');
($_) = $node->psql('schema', 'SELECT * FROM totals');
isnt($_, 0, 'schema: which cannot be read');
$node->safe_psql('schema', q{
	INSERT INTO customers VALUES (1, 'one', 1), (2, 'two', 2);
	INSERT INTO orders VALUES (1, 1, 5000, '2024-01-01'), (2, 2, 15000, '2024-01-02');
	REFRESH MATERIALIZED VIEW totals; REFRESH MATERIALIZED VIEW regions; REFRESH MATERIALIZED VIEW best;
	REFRESH MATERIALIZED VIEW named; REFRESH MATERIALIZED VIEW by_customer;
	INSERT INTO orders VALUES (3, 1, 15000, '2024-01-02'); UPDATE customers SET name = 'Two' WHERE id = 2});
refresh_all($node, 'schema');
views_agree($node, 'schema: populated and refreshed', dbname => 'schema');
is($node->safe_psql('schema', 'TABLE best'), '1', 'schema: a row by hand');

# The original goes on as before.
$node->safe_psql('postgres', $change);
refresh_all($node);
views_agree($node, 'the dumped database still works', settings => $tokyo);

finish();
