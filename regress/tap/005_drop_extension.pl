# DROP EXTENSION, and DROP .. CASCADE of a source, leave nothing of ours: no relation, function, schema,
# trigger, type, reloption or dependency. The views stay with their rows, as plain materialized views.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $node = trickle_node('drop', extension => 0);
$node->safe_psql('postgres', q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL);
	CREATE TABLE events (day int, kind int) PARTITION BY LIST (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
	CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
	INSERT INTO orders SELECT g, g % 10, g FROM generate_series(1, 100) g;
	INSERT INTO events SELECT g % 2 + 1, g % 3 FROM generate_series(1, 100) g;
});

my $views = q{
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, fillfactor = 80) AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW amounts WITH (pg_trickle.incremental) AS SELECT amount FROM orders WHERE amount > 50;
	CREATE MATERIALIZED VIEW kinds WITH (pg_trickle.incremental) AS SELECT kind, count(*) AS n FROM events GROUP BY kind;
	CREATE MATERIALIZED VIEW big WITH (pg_trickle.incremental, pg_trickle.schedule = '1m') AS
		SELECT customer, total FROM totals WHERE total > 500;
	INSERT INTO orders SELECT max(id) + 1, 1, 1 FROM orders;
	UPDATE events SET day = 3 - day;
	REFRESH MATERIALIZED VIEW big;
};

# Everything in the catalogs that could be ours, but not the user's tables and views and what hangs on them.
sub catalog
{
	return $node->safe_psql('postgres', q{
		SET search_path = pg_catalog;
		SELECT 'class ' || oid::regclass FROM pg_class WHERE relnamespace <> 'public'::regnamespace AND relkind NOT IN ('i', 't')
		UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger
		UNION ALL SELECT 'namespace ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
		UNION ALL SELECT 'proc ' || oid::regprocedure FROM pg_proc
		UNION ALL SELECT 'type ' || oid::regtype FROM pg_type WHERE typnamespace <> 'public'::regnamespace
		UNION ALL SELECT 'operator ' || oid::regoperator FROM pg_operator
		UNION ALL SELECT 'options ' || unnest(reloptions) FROM pg_class
		UNION ALL SELECT 'extension ' || extname FROM pg_extension
		UNION ALL SELECT 'acl ' || count(*) FROM pg_default_acl
		UNION ALL SELECT 'dependency ' || count(*) FROM pg_depend d
			WHERE NOT EXISTS (SELECT FROM pg_identify_object(d.classid, d.objid, d.objsubid) i WHERE i.identity IS NOT NULL)
		ORDER BY 1});
}
my $ours = q{
	SELECT relname FROM pg_class WHERE relnamespace = 'pgtrickle_internal'::regnamespace AND relname ~ '^(changes|state)_[0-9]'
	UNION ALL SELECT tgname FROM pg_trigger
	UNION ALL SELECT 'view ' || pgt_name FROM pgtrickle.pgt_stream_tables
	UNION ALL SELECT 'reads ' || source_relid FROM pgtrickle.pgt_dependencies};

my $before = catalog();
$node->safe_psql('postgres', "CREATE EXTENSION pg_trickle; $views");
isnt($node->safe_psql('postgres', $ours), '', 'there is something to leave behind');

$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW big, totals, amounts; DROP TABLE events CASCADE');
is($node->safe_psql('postgres', $ours), '', 'dropping views and sources leaves nothing');

$node->safe_psql('postgres', q{
	CREATE TABLE events (day int, kind int) PARTITION BY LIST (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
	CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
	INSERT INTO events SELECT g % 2 + 1, g % 3 FROM generate_series(1, 100) g;
});
$node->safe_psql('postgres', $views);
my $contents = 'SELECT sum(n), sum(total) FROM totals';
my $rows = $node->safe_psql('postgres', $contents);

# A session that has written before, and whose plans know the triggers, writes on.
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{
	PREPARE change AS UPDATE orders SET amount = amount + 1 WHERE id = $1;
	EXECUTE change(1); EXECUTE change(1); EXECUTE change(1); EXECUTE change(1); EXECUTE change(1); EXECUTE change(1)});

my ($status) = $node->psql('postgres', 'BEGIN; DROP EXTENSION pg_trickle; ROLLBACK');
is($status, 0, 'dropping can be rolled back');
refresh_all($node);
views_agree($node, 'the stream tables work on after that');
$rows = $node->safe_psql('postgres', $contents);

($status, undef, my $error) = $node->psql('postgres', 'DROP EXTENSION pg_trickle');
is($error, '', 'DROP EXTENSION needs no CASCADE');
is(catalog() =~ s/^options fillfactor=80\n//mr, $before, 'DROP EXTENSION leaves nothing');
is($node->safe_psql('postgres', $contents), $rows, 'the views keep their rows');
$writer->query_safe('EXECUTE change(2)');
$writer->quit;
$node->safe_psql('postgres', 'INSERT INTO orders SELECT max(id) + 1, 1, 1000 FROM orders; REFRESH MATERIALIZED VIEW totals');
is($node->safe_psql('postgres', 'SELECT sum(total) FROM totals'), $node->safe_psql('postgres', 'SELECT sum(amount) FROM orders'),
	'... and are plain materialized views');

# And back again: the views are adopted.
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_trickle;
	ALTER MATERIALIZED VIEW totals SET (pg_trickle.incremental);
	UPDATE orders SET amount = amount + 1});
refresh_all($node);
views_agree($node, 'a view that was released is adopted again');
$node->safe_psql('postgres', 'DROP TABLE orders, events CASCADE');
is($node->safe_psql('postgres', $ours), '', 'dropping the sources leaves nothing');
$node->safe_psql('postgres', 'DROP EXTENSION pg_trickle CASCADE');
is(catalog(), $before, 'nor does dropping the extension with CASCADE');

# Many views of one table: each is looked at once, not once for every other one.
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_trickle;
	CREATE TABLE one (a int PRIMARY KEY, b int);
	SELECT format('CREATE MATERIALIZED VIEW many_%s WITH (pg_trickle.incremental) AS SELECT a, b FROM one WHERE a > %1$s', g)
	FROM generate_series(1, 250) g \gexec
});
my $peak = q{SELECT substring(pg_read_file('/proc/self/status', true) FROM 'VmHWM:\s+(\d+)')};
my ($least, $most) = split /\n/, $node->safe_psql('postgres', "$peak; DROP EXTENSION pg_trickle CASCADE; $peak");
SKIP:
{
	skip 'only Linux says how much memory a process had at most', 1 unless $least;
	cmp_ok($most - $least, '<', 100 << 10, 'kB to drop the extension with 250 views of one table');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_matviews'), '250', 'which stay');

finish();
