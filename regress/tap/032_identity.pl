# A superuser who restores a dump runs nothing of what is in it. What the owner of a database has set for its sessions does
# not reach our processes.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('identity');
$node->safe_psql('postgres', q{
	CREATE ROLE author;
	CREATE SCHEMA work AUTHORIZATION author;
	SET ROLE author;
	CREATE TABLE work.items (a int PRIMARY KEY, b int);
	INSERT INTO work.items SELECT g, g FROM generate_series(1, 50) g;
	-- Takes what it can get.
	CREATE FUNCTION work.take() RETURNS int VOLATILE LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
			EXECUTE 'ALTER ROLE author SUPERUSER';
		END IF;
		RETURN 7;
	END $$;
	CREATE FUNCTION work.k(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN work.take() + a; END';
	CREATE FUNCTION work.is_fine(a int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN work.take() > 0; END';
	CREATE FUNCTION work.sum(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $2';
	CREATE FUNCTION work.body(a int) RETURNS int LANGUAGE sql AS 'SELECT $1 + work.k(1)';
	CREATE DOMAIN work.checked AS int CHECK (work.is_fine(VALUE));
	CREATE FUNCTION work.literal(a int) RETURNS int LANGUAGE sql AS $$SELECT $1 + ('{1}'::work.checked[])[1]$$;
	CREATE MATERIALIZED VIEW work.sums WITH (pg_trickle.incremental) AS
		SELECT a, work.sum(a, work.k(2)) AS s, work.body(b) AS t FROM work.items WHERE b <> work.k(100);
	CREATE MATERIALIZED VIEW work.literals WITH (pg_trickle.incremental) AS SELECT work.literal(a) FROM work.items;
	CREATE INDEX ON work.sums (work.k(1));
	CREATE MATERIALIZED VIEW work.groups WITH (pg_trickle.incremental) AS
		SELECT work.sum(b, work.k(2)) % 5 AS g, sum(work.body(a)), count(*) FROM work.items GROUP BY 1 HAVING count(*) > work.k(-8);
});
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '--file' => $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored OWNER author');
$node->command_ok([ 'psql', '--no-psqlrc', '--set' => 'ON_ERROR_STOP=1', '--quiet', '--file' => $dump, 'restored' ], 'a superuser restores it');
is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'author'}), 'f', 'whose code was not run as superuser');
# A superuser who reads the view has the planner compute what its index is over.
is($node->safe_psql('restored', 'SET ROLE author; SELECT count(*) FROM work.sums'), '50', 'the contents are there');

$node->safe_psql('restored', q{
	SET ROLE author;
	ALTER DATABASE restored SET transaction_timeout = '1ms';
	ALTER DATABASE restored SET statement_timeout = '1ms';
	ALTER DATABASE restored SET row_security = off;
	ALTER DATABASE restored SET default_transaction_read_only = on;
	ALTER DATABASE restored SET default_transaction_isolation = serializable;
	ALTER DATABASE restored SET search_path = work, pg_catalog;
	ALTER DATABASE restored SET role = author;
});
$node->append_conf('postgresql.conf', 'pg_trickle.enabled = on');
$node->restart;
# They are meant for sessions like this one.
my $change = q{
	SET transaction_timeout = 0; SET statement_timeout = 0; SET transaction_read_only = off;
	INSERT INTO work.items SELECT g, g FROM generate_series(51, 5000) g};
local $ENV{PGOPTIONS} = '-c role=author -c transaction_timeout=0 -c statement_timeout=0 -c default_transaction_read_only=off';
$node->safe_psql('restored', $change);
ok($node->poll_query_until('restored', 'SELECT count(*) = 4999 FROM work.sums'), 'views are refreshed by schedule');
is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'author'}), 'f', 'as their owner');
unlike(slurp_file($node->logfile), qr/FATAL: .*timeout/, 'and no process was ended by a timeout');
finish();
