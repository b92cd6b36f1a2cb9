# ALTER EXTENSION UPDATE: SQL objects of another version than the library's lose no change and refuse the rest; updating them
# works while writers and scheduler go on, and leaves what CREATE EXTENSION makes.
#
# A library of release 0.1.0 is not at hand. A database that it left is made from one of the present release: an update
# script written here runs the frozen script of 0.1.0 over it and puts the rows of the tables back. That this is
# what 0.1.0 leaves is checked as well.
use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use Trickle;

# The library with more scripts beside those it is installed with.
my $scripts = PostgreSQL::Test::Utils::tempdir() . '/extension';
make_path($scripts);
my ($stage) = slurp_file($ENV{TEMP_CONFIG}) =~ /^extension_control_path = '(.*?):/m;
copy($_, $scripts) or die "copy: $!" for glob("$stage/extension/*"), glob('regress/data/releases/*.sql');
my ($version) = slurp_file("$scripts/pg_trickle.control") =~ /^default_version = '(.*)'/m;

sub script
{
	my ($from, $to, $sql) = @_;
	append_to_file("$scripts/pg_trickle--$from--$to.sql", $sql);
	return;
}

# Everything of the extension but what holds together with triggers, indexes and change buffers is made anew.
my $release = slurp_file("$scripts/pg_trickle--0.1.0.sql");
$release =~ s/^\\echo.*$//m;
$release =~ s/^(CREATE|GRANT USAGE ON|REVOKE ALL ON) SCHEMA .*?;$//msg;
$release =~ s/^CREATE FUNCTION (pgtrickle\.row_image_hash|pgtrickle_internal\.capture)\(.*?;$//msg;
script($version, '0.1.0', qq{
	CREATE SCHEMA saved;
	ALTER EXTENSION pg_trickle DROP SCHEMA saved;
	DO \$\$
	DECLARE
		object record;
	BEGIN
		FOR object IN
			SELECT oid, relname, relkind, relnamespace::regnamespace AS schema FROM pg_depend JOIN pg_class ON oid = objid
			WHERE deptype = 'e' AND classid = 'pg_class'::regclass AND relname !~ '^(changes|state)_[0-9]'
			  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_trickle') ORDER BY relkind DESC, oid
		LOOP
			-- What depends on what was dropped goes with it.
			CONTINUE WHEN NOT EXISTS (SELECT FROM pg_class WHERE oid = object.oid);
			EXECUTE format('ALTER EXTENSION pg_trickle DROP %s %s',
				CASE object.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, object.oid::regclass);
			IF object.relkind <> 'v' THEN
				EXECUTE format('CREATE TABLE saved.%I AS TABLE %s', object.relname, object.oid::regclass);
				EXECUTE format('ALTER EXTENSION pg_trickle DROP TABLE saved.%I', object.relname);
			END IF;
			EXECUTE format('DROP %s %s CASCADE', CASE object.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
				format('%s.%I', object.schema, object.relname));
		END LOOP;
		FOR object IN
			SELECT oid FROM pg_depend JOIN pg_proc ON oid = objid
			WHERE deptype = 'e' AND classid = 'pg_proc'::regclass AND proname NOT IN ('row_image_hash', 'capture')
			  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_trickle')
		LOOP
			CONTINUE WHEN NOT EXISTS (SELECT FROM pg_proc WHERE oid = object.oid);
			EXECUTE format('ALTER EXTENSION pg_trickle DROP FUNCTION %s', object.oid::regprocedure);
			EXECUTE format('DROP FUNCTION %s CASCADE', object.oid::regprocedure);
		END LOOP;
	END \$\$;
	$release
	DO \$\$
	DECLARE
		object record;
	BEGIN
		-- There were no hidden relations.
		DELETE FROM saved.state WHERE is_output;
		-- A frontier had no format.
		UPDATE saved.stream_table SET frontier = substr(frontier, 2);
		FOR object IN
			SELECT r.oid, r.relkind, s.relname, (SELECT string_agg(quote_ident(a.attname), ', ') FROM pg_attribute a
				WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
			FROM pg_class s JOIN pg_class r ON r.relname = CASE s.relname WHEN 'refresh_history' THEN 'pgt_refresh_history' ELSE s.relname END
				AND r.relnamespace IN ('pgtrickle'::regnamespace, 'pgtrickle_internal'::regnamespace)
			WHERE s.relnamespace = 'saved'::regnamespace
		LOOP
			IF object.relkind = 'S' THEN
				EXECUTE format('SELECT setval(%L, last_value, is_called) FROM saved.%I', object.oid::regclass, object.relname);
			ELSE
				EXECUTE format('INSERT INTO %s SELECT %s FROM saved.%I', object.oid::regclass, object.columns, object.relname);
			END IF;
		END LOOP;
	END \$\$;
	DROP SCHEMA saved CASCADE;
});

# A release to come: tables have more columns.
script($version, '99', q{
	ALTER TABLE pgtrickle_internal.stream_table ADD COLUMN more text NOT NULL DEFAULT 'as ever';
	ALTER TABLE pgtrickle_internal.source ADD COLUMN more int[];
	ALTER TABLE pgtrickle_internal.reinit ADD COLUMN more text NOT NULL DEFAULT 'as ever';
	ALTER TABLE pgtrickle_internal.dependency ADD COLUMN more boolean NOT NULL DEFAULT false;
	ALTER TABLE pgtrickle_internal.state ADD COLUMN more boolean NOT NULL DEFAULT false;
	UPDATE pgtrickle_internal.installation SET catalog_version = 99;
});
script('99', $version, q{
	ALTER TABLE pgtrickle_internal.stream_table DROP COLUMN more;
	ALTER TABLE pgtrickle_internal.source DROP COLUMN more;
	ALTER TABLE pgtrickle_internal.reinit DROP COLUMN more;
	ALTER TABLE pgtrickle_internal.dependency DROP COLUMN more;
	ALTER TABLE pgtrickle_internal.state DROP COLUMN more;
	UPDATE pgtrickle_internal.installation SET catalog_version = 2;
});

my $node = trickle_node('update', extension => 0,
	conf => "extension_control_path = '" . ($scripts =~ s,/extension$,,r) . ":\$system'\npg_trickle.enabled = on\n");

# What a user of the extension can depend on, and what the library relies on, of every member.
sub members
{
	my ($dbname) = @_;
	return $node->safe_psql($dbname, q{
		SET search_path = pg_catalog;
		WITH member AS (
			SELECT classid, objid, objsubid, i.type || ' ' || i.identity AS name
			FROM pg_depend d, LATERAL pg_identify_object(classid, objid, objsubid) i
			WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
			  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_trickle') AND i.identity !~ '(changes|state|block)_[0-9]')
		SELECT name, 'comment', obj_description(objid, classid::regclass::text) FROM member
		UNION ALL SELECT name, 'acl', (SELECT relacl::text FROM pg_class WHERE oid = objid AND classid = 'pg_class'::regclass
			UNION ALL SELECT nspacl::text FROM pg_namespace WHERE oid = objid AND classid = 'pg_namespace'::regclass
			UNION ALL SELECT proacl::text FROM pg_proc WHERE oid = objid AND classid = 'pg_proc'::regclass) FROM member
		UNION ALL SELECT name, 'function', pg_get_functiondef(objid) FROM member WHERE classid = 'pg_proc'::regclass
		UNION ALL SELECT name, 'view', pg_get_viewdef(objid) FROM member JOIN pg_class ON oid = objid
			WHERE classid = 'pg_class'::regclass AND relkind = 'v'
		UNION ALL SELECT name, 'table', concat_ws(' ', relkind, relpersistence, relrowsecurity, relforcerowsecurity, reloptions)
			FROM member JOIN pg_class ON oid = objid WHERE classid = 'pg_class'::regclass
		UNION ALL SELECT name, 'sequence', concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
			FROM member JOIN pg_sequence ON seqrelid = objid AND classid = 'pg_class'::regclass
		UNION ALL SELECT name, 'column ' || attnum, concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attstorage,
				attcollation::regcollation, attacl::text, attoptions::text, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
			FROM member JOIN pg_attribute ON attrelid = objid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
			WHERE classid = 'pg_class'::regclass AND attnum > 0
		UNION ALL SELECT name, 'constraint ' || conname, pg_get_constraintdef(c.oid) FROM member JOIN pg_constraint c ON conrelid = objid
			WHERE classid = 'pg_class'::regclass
		UNION ALL SELECT name, 'index ' || indexrelid::regclass, pg_get_indexdef(indexrelid) FROM member JOIN pg_index ON indrelid = objid
			WHERE classid = 'pg_class'::regclass
		UNION ALL SELECT name, 'policy', p.polname || pg_get_expr(polqual, polrelid) FROM member JOIN pg_policy p ON polrelid = objid
			WHERE classid = 'pg_class'::regclass
		ORDER BY 1, 2, 3});
}

# Where the member objects of two databases differ.
sub compare
{
	my ($one, $other, $message) = @_;
	my %lines;
	$lines{$_}++ for split /\n/, members($one);
	$lines{$_}-- for split /\n/, members($other);
	is(join("\n", map { ($lines{$_} > 0 ? "$one: " : "$other: ") . $_ } sort grep { $lines{$_} } keys %lines), '', $message);
	return;
}

# A statement is refused for the versions, before it did anything.
sub refused
{
	my ($dbname, $sql, $hint, $message) = @_;
	my (undef, undef, $error) = $node->psql($dbname, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ], on_error_stop => 1);
	like($error, qr/ERROR:  55000: the SQL objects of extension "pg_trickle" are (older|newer) than its library\nDETAIL:  The catalog version of this database is \d+; library version [0-9.]+ works with \d+\.\nHINT:  \Q$hint/,
		$message // $sql);
	return;
}

my $source = q{
	CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL, note text);
	CREATE TABLE customers (id int PRIMARY KEY, name text);
	CREATE TABLE events (day int, kind int) PARTITION BY LIST (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
	CREATE TABLE other (a int, b int);
	INSERT INTO customers SELECT g, 'customer ' || g FROM generate_series(0, 20) g;
	INSERT INTO orders SELECT g, g % 10, g FROM generate_series(1, 1000) g;
	INSERT INTO events SELECT 1, g % 3 FROM generate_series(1, 100) g;
	INSERT INTO other SELECT g, g % 3 FROM generate_series(1, 100) g;
	CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
	CREATE MATERIALIZED VIEW named WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT name, amount FROM orders JOIN customers ON customer = customers.id WHERE amount % 2 = 0;
	CREATE MATERIALIZED VIEW kinds WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT kind, count(*) AS n FROM events GROUP BY kind;
	CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT sum(n) AS n, sum(total) AS total FROM totals;
	CREATE MATERIALIZED VIEW others WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT b, max(a) FROM other GROUP BY b;
	CREATE MATERIALIZED VIEW sizes WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT n, count(*) FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) s GROUP BY n;
	CREATE MATERIALIZED VIEW without WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT customer FROM orders EXCEPT ALL SELECT id FROM customers;
	CREATE MATERIALIZED VIEW perhaps WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT name, n FROM customers LEFT JOIN (SELECT customer, count(*) AS n FROM orders GROUP BY customer) s ON customer = customers.id;
	CREATE MATERIALIZED VIEW first WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
		SELECT name, id FROM (SELECT id, customer, row_number() OVER (PARTITION BY customer ORDER BY id) AS nth FROM orders) s
		JOIN customers USING (id) WHERE nth = 1;
	CREATE MATERIALIZED VIEW empty WITH (pg_trickle.incremental) AS SELECT amount FROM orders WITH NO DATA;
	CREATE MATERIALIZED VIEW ordinary AS SELECT count(*) AS n FROM orders;
};
# What a user may do who does not know of any of it.
my $changes = q{
	INSERT INTO orders SELECT max(id) + 1, 3, 30 FROM orders;
	UPDATE orders SET amount = amount + 1 WHERE id % 7 = 0;
	DELETE FROM orders WHERE id % 101 = 1;
	UPDATE customers SET name = name || '!' WHERE id = 3;
	TRUNCATE other;
	INSERT INTO other VALUES (5, 1);
	REFRESH MATERIALIZED VIEW ordinary;
	EXPLAIN REFRESH MATERIALIZED VIEW ordinary;
	CREATE MATERIALIZED VIEW ordinary_too WITH (fillfactor = 80) AS SELECT 1 AS a;
	DROP MATERIALIZED VIEW ordinary_too;
};
my $ddl = q{
	ALTER TABLE orders ADD COLUMN more int DEFAULT 4;
	ALTER TABLE orders ALTER COLUMN note TYPE varchar(20), ALTER COLUMN amount SET DEFAULT 3;
	ALTER TABLE orders RENAME COLUMN note TO remark;
	CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
	INSERT INTO events VALUES (2, 1), (2, 2);
	CREATE TABLE events_3 AS SELECT 3 AS day, 2 AS kind;
	ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES IN (3);
	ALTER TABLE events DETACH PARTITION events_1;
	CREATE INDEX ON orders (customer);
	ALTER TABLE customers ADD UNIQUE (name);
	ALTER TABLE customers DISABLE TRIGGER ALL;
	UPDATE customers SET name = name || '?' WHERE id = 4;
};
my @statements = (
	'CREATE MATERIALIZED VIEW more WITH (pg_trickle.incremental) AS SELECT amount FROM orders',
	'ALTER MATERIALIZED VIEW ordinary SET (pg_trickle.incremental)',
	q{ALTER MATERIALIZED VIEW totals SET (pg_trickle.schedule = '1h')},
	'ALTER MATERIALIZED VIEW totals SET (pg_trickle.incremental = false)',
	'REFRESH MATERIALIZED VIEW totals',
	'REFRESH MATERIALIZED VIEW CONCURRENTLY totals',
	'REFRESH MATERIALIZED VIEW totals WITH NO DATA',
	'EXPLAIN REFRESH MATERIALIZED VIEW totals',
	'EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW totals',
	map { "SELECT * FROM pgtrickle.$_" } (
		q{create_stream_table('more', 'SELECT amount FROM orders')},
		q{create_stream_table_if_not_exists('more', 'SELECT amount FROM orders')},
		q{create_or_replace_stream_table('totals', 'SELECT amount FROM orders')},
		q{alter_stream_table('totals', schedule => '1h')},
		q{alter_stream_table('totals', status => 'SUSPENDED')},
		q{refresh_stream_table('totals')},
		q{resume_stream_table('totals')},
		q{drop_stream_table('totals')},
		'pause_all()',
		'resume_all()',
		q{refresh_if_stale('totals', '0')},
		q{wait_until_fresh('totals')},
		q{explain_st('totals')},
		q{explain_refresh_mode('totals')},
		q{validate_query('SELECT amount FROM orders')},
		q{get_refresh_history('totals')},
		q{get_staleness('totals')},
		q{list_sources('totals')},
		'change_buffer_sizes()',
		'dependency_tree()',
		'stream_tables_info',
		'quick_health'));
my $catalog = q{
	SELECT 'view', relid::regclass, status, captured FROM pgtrickle_internal.stream_table
	UNION ALL SELECT 'table', oid::regclass, relnamespace::text, true FROM pg_class WHERE relnamespace = 'pgtrickle_internal'::regnamespace
	ORDER BY 1, 2};

sub all_refused
{
	my ($dbname, $hint) = @_;
	my $before = $node->safe_psql($dbname, $catalog);
	refused($dbname, $_, $hint) for @statements;
	is($node->safe_psql($dbname, $catalog), $before, 'what was refused did nothing');
	return;
}

# An update while writers write, one of them in a long transaction, and the scheduler refreshes.
sub update_under_load
{
	my ($dbname, $statement, %options) = @_;
	my $before = $node->safe_psql($dbname, 'SELECT max(id) FROM orders');
	# A script that alters a table this one has written to would wait for it.
	my $long = $options{long} ? $node->background_psql($dbname) : undef;
	$long->query_safe(q{BEGIN; INSERT INTO orders VALUES (-1, 1, 1); TRUNCATE other; SAVEPOINT s;
		INSERT INTO orders VALUES (-2, 1, 2); ROLLBACK TO s; INSERT INTO orders VALUES (-3, 2, 4)}) if $long;
	# Stops when it is told to.
	my $loop = q{DO $$
		BEGIN
			SET LOCAL lock_timeout = '10s';
			WHILE EXISTS (SELECT FROM running) LOOP
				INSERT INTO orders SELECT nextval('ids'), i % 10, i FROM generate_series(1, 5) i;
				UPDATE orders SET amount = amount + 1 WHERE id = (SELECT id FROM orders WHERE id > 1000 ORDER BY random() LIMIT 1);
				DELETE FROM orders WHERE id = currval('ids') - 50;
				COMMIT;
				SET LOCAL lock_timeout = '10s';
			END LOOP;
		END $$;};
	$node->safe_psql($dbname, 'DROP SEQUENCE IF EXISTS ids; CREATE SEQUENCE ids START 10000000; CREATE TABLE running ()');
	$node->safe_psql($dbname, "SELECT setval('ids', max(id) + 1000000) FROM orders; INSERT INTO running DEFAULT VALUES");
	my @writers = map { in_background($node, $loop, $dbname) } 1 .. 2;
	$node->poll_query_until($dbname, "SELECT max(id) > $before + 1000100 FROM orders") or die 'writers do not write';
	my ($status, undef, $error) = $node->psql($dbname, $statement);
	is("$status $error", '0 ', "$statement, writers writing");
	my $reached = $node->safe_psql($dbname, 'SELECT max(id) FROM orders');
	$node->poll_query_until($dbname, "SELECT max(id) > $reached + 100 FROM orders") or die 'writers have stopped';
	$node->safe_psql($dbname, 'DELETE FROM running');
	wait_until_done($_) for @writers;
	$_->{run}->finish for @writers;
	$long->query_safe('COMMIT'), $long->quit if $long;
	$node->safe_psql($dbname, 'DROP TABLE running');
	return;
}

my $listener;

# psql shows what it has been told whenever it has run something.
sub hear
{
	my ($expected, $message) = @_;
	my $heard = '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$heard .= $listener->query_safe('SELECT') . "\n";
		return pass($message) if $heard =~ $expected;
		usleep(100_000);
	}
	diag($heard);
	return fail($message);
}

sub wait_for_log
{
	my ($pattern, $offset, $message) = @_;
	$node->wait_for_log($pattern, $offset);
	pass($message);
	return;
}

$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(fresh release old new stopped);
$node->safe_psql('fresh', 'CREATE EXTENSION pg_trickle');

# The objects of 0.1.0 under this library: its functions are there, and say what there is to do.
$node->safe_psql('release', q{CREATE EXTENSION pg_trickle VERSION '0.1.0'});
my $update = 'Execute ALTER EXTENSION pg_trickle UPDATE in this database.';
refused('release', q{SELECT pgtrickle.create_stream_table('v', 'SELECT 1 AS a')}, $update);
is($node->safe_psql('release', 'SELECT pgtrickle.version()'), $version, 'the version of the library can be asked for');

# A database that 0.1.0 left.
$node->safe_psql('old', "CREATE EXTENSION pg_trickle; $source");
wait_until_fresh($node, 'old');
my $log = -s $node->logfile;
$listener = $node->background_psql('old');
$listener->query_safe('LISTEN pg_trickle_alert');
$node->safe_psql('old', q{ALTER EXTENSION pg_trickle UPDATE TO '0.1.0'});
compare('old', 'release', 'the objects that the test works with are those of 0.1.0');
wait_for_log(qr/WARNING:  the SQL objects of extension "pg_trickle" are older than its library/,
	$log, 'the scheduler says that it pauses');
all_refused('old', $update);
is($node->safe_psql('old', q{SELECT severity FROM pgtrickle.health_check() WHERE check_name = 'scheduler'}), 'ERROR', 'health_check shows it');
$node->safe_psql('old', $changes);
$node->safe_psql('old', $ddl);
isnt($node->safe_psql('old', 'SELECT sum(n) FROM totals'), $node->safe_psql('old', 'SELECT count(*) FROM orders'), 'nothing is refreshed');

# Who may not update the extension does not keep others from anything.
$node->safe_psql('old', 'CREATE ROLE nobody_special LOGIN');
my ($status, undef, $error) = $node->psql('old', 'SET ROLE nobody_special; ALTER EXTENSION pg_trickle UPDATE');
like($error, qr/must be owner of extension pg_trickle/, 'only its owner updates the extension');

# Rolled back, it is as if it had not been.
my $session = $node->background_psql('old', on_error_stop => 0);
$session->query_safe('BEGIN; SAVEPOINT s; ALTER EXTENSION pg_trickle UPDATE; SELECT pgtrickle.pause_all(); ROLLBACK TO s');
like($session->query('SELECT pgtrickle.pause_all()') . $session->{stderr}, qr/are older than its library/, 'the session that rolls back knows');
$session->quit;
refused('old', 'REFRESH MATERIALIZED VIEW totals', $update, 'and so do others');

# A session that has been told to update knows at once.
my $known = $node->background_psql('old', on_error_stop => 0);
$known->query('SELECT pgtrickle.refresh_stream_table($$totals$$)');
like($known->{stderr}, qr/are older than its library/, 'a session that was refused');
$known->{stderr} = '';
my $history = $node->safe_psql('old', 'SELECT count(*), sum(rows_inserted), min(refresh_id), max(refresh_id) FROM pgtrickle.pgt_refresh_history');
$node->safe_psql('old', 'CREATE TABLE former AS TABLE pgtrickle.pgt_refresh_history');
update_under_load('old', 'ALTER EXTENSION pg_trickle UPDATE', long => 1);
is($node->safe_psql('old', q{SELECT count(*), sum(h.rows_inserted), min(h.refresh_id), max(h.refresh_id)
	FROM former f JOIN pgtrickle.pgt_refresh_history h USING (pgt_relid, refresh_id)}), $history, 'the history is where it was');
is($node->safe_psql('old', q{SELECT count(*) FROM pgtrickle.pg_stat_stream_tables s
	WHERE refreshes < (SELECT count(*) FROM former f WHERE f.pgt_relid = s.pgt_relid) OR rows_inserted IS NULL}), '0', '... and counting goes on from there');
$node->safe_psql('old', 'DROP TABLE former');
$known->query('SELECT pgtrickle.refresh_stream_table($$totals$$)');
is($known->{stderr}, '', '... goes on after the update');
$known->quit;
hear(qr/"event": "versions_differ", "detail": "The catalog version of this database is 1;.*"hint": "Execute ALTER EXTENSION.*"event": "versions_agree"/s,
	'who listens is told of both');
$listener->quit;
compare('old', 'fresh', 'an update leaves what CREATE EXTENSION makes');
wait_until_fresh($node, 'old');
views_agree($node, 'stream tables of 0.1.0 are exact after the update', dbname => 'old');
is($node->safe_psql('old', q{SELECT count(*) FROM pgtrickle_internal.stream_table st WHERE frontier IS NOT NULL AND NOT EXISTS (
	SELECT FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = relid AND action = 'REINITIALIZE')}), '0', 'all were computed anew');
is($node->safe_psql('old', q{SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE status = 'FAILED'}), '0', 'no refresh has failed');
is($node->safe_psql('old', q{SELECT check_name, detail FROM pgtrickle.health_check() WHERE check_name IN ('capture', 'scheduler', 'versions')
	AND severity <> 'OK'}), '', 'all is well');
is($node->safe_psql('old', 'SELECT DISTINCT format FROM pgtrickle_internal.state'), '1', 'the state tables are of the present format');
$node->safe_psql('old', $changes =~ s/CREATE MATERIALIZED VIEW.*//sr);
wait_until_fresh($node, 'old');
views_agree($node, '... and go on', dbname => 'old');
$node->safe_psql('old', 'REFRESH MATERIALIZED VIEW empty; SELECT pgtrickle.create_stream_table($$late$$, $$SELECT id FROM orders$$)');
views_agree($node, '... as do those that were empty, and new ones', dbname => 'old');

# An update waits for a refresh in progress, and no writer waits for it.
my $refresher = $node->background_psql('new');
$refresher->query_safe("CREATE EXTENSION pg_trickle; $source");
wait_until_fresh($node, 'new');
$refresher->query_safe('BEGIN; INSERT INTO orders VALUES (-10, 1, 1); REFRESH MATERIALIZED VIEW totals');
$log = -s $node->logfile;
my $updater = in_background($node, q{ALTER EXTENSION pg_trickle UPDATE TO '99';}, 'new');
wait_for_lock($node, $updater->{pid}, 'relation');
$node->safe_psql('new', "SET lock_timeout = '5s'; INSERT INTO orders VALUES (-11, 1, 1); TRUNCATE other; INSERT INTO events VALUES (1, 1)");
$refresher->query_safe('INSERT INTO orders VALUES (-12, 2, 1); REFRESH MATERIALIZED VIEW above; COMMIT');
wait_until_done($updater);
$updater->{run}->finish;
$refresher->quit;

# Newer objects than the library's.
my $newer = 'Install the library of the newer version and restart the server.';
wait_for_log(qr/WARNING:  the SQL objects of extension "pg_trickle" are newer than its library/, $log, 'the scheduler says that it pauses');
all_refused('new', $newer);
is($node->safe_psql('new', q{SELECT severity, detail FROM pgtrickle.health_check() WHERE check_name = 'versions'}),
	"ERROR|catalog version 99; library version $version works with 2: $newer", 'health_check says so');
is($node->safe_psql('new', q{SELECT count(*) > 5, (SELECT count(*) > 0 FROM pgtrickle.pg_stat_stream_tables) FROM pgtrickle.health_check()}), 't|t', '... and what else there is');
$node->safe_psql('new', $changes);
$node->safe_psql('new', $ddl);
is($node->safe_psql('new', 'SELECT DISTINCT more FROM pgtrickle_internal.reinit'), 'as ever', 'its rows are read as those from before the update');
$node->safe_psql('new', 'DROP MATERIALIZED VIEW named, without, perhaps, first; DROP TABLE customers');
is($node->safe_psql('new', q{SELECT count(*) FROM pgtrickle_internal.source WHERE relid NOT IN (SELECT oid FROM pg_class)}), '0',
	'what is dropped is forgotten');
# A server that starts with it, as after putting an older library back.
$node->restart;
$node->safe_psql('new', 'INSERT INTO orders VALUES (-13, 2, 1)');
refused('new', 'REFRESH MATERIALIZED VIEW totals', $newer, 'as after a restart');
update_under_load('new', "ALTER EXTENSION pg_trickle UPDATE TO '$version'");
wait_until_fresh($node, 'new');
views_agree($node, 'nothing was lost meanwhile', dbname => 'new');

# DROP EXTENSION works whatever the versions are.
for my $other ('0.1.0', '99')
{
	$node->safe_psql('stopped', "CREATE EXTENSION pg_trickle; $source; ALTER EXTENSION pg_trickle UPDATE TO '$other'; $changes");
	my $rows = $node->safe_psql('stopped', 'TABLE totals ORDER BY 1');
	($status, undef, $error) = $node->psql('stopped', 'DROP EXTENSION pg_trickle');
	is("$status $error", '0 ', "DROP EXTENSION of version $other");
	is($node->safe_psql('stopped', q{SELECT count(*) FROM pg_class WHERE relname ~ '^(changes|state)_[0-9]' OR reloptions::text ~ 'pg_trickle'}),
		'0', 'nothing is left');
	is($node->safe_psql('stopped', 'SELECT count(*) FROM pg_trigger'), '0', 'no trigger either');
	is($node->safe_psql('stopped', 'TABLE totals ORDER BY 1'), $rows, 'the views keep their rows');
	$node->safe_psql('stopped', 'DROP TABLE orders, customers, events, other CASCADE; DROP MATERIALIZED VIEW IF EXISTS ordinary');
}

my $logged = slurp_file($node->logfile);
unlike($logged, qr/ERROR:  deadlock detected/, 'there was no deadlock');
unlike($logged, qr/ERROR:  (?:XX000|no relation|relation pgtrickle|null in catalog)/, 'nothing that cannot happen happened');
finish();
