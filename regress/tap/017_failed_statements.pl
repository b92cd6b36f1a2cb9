# Statements that fail leave nothing behind: a session in which eleven thousand have failed, each in one of the ways that
# lead through us, has no more memory contexts than before and has hardly grown.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Trickle;

my $node = trickle_node('failed_statements');
$node->safe_psql('postgres', q{
	CREATE TABLE numbers (a int, b int);
	INSERT INTO numbers SELECT g, g FROM generate_series(1, 10) g;
	CREATE MATERIALIZED VIEW quotients WITH (pg_trickle.incremental) AS SELECT a, 1 / b AS quotient FROM numbers;
	CREATE MATERIALIZED VIEW sums WITH (pg_trickle.incremental) AS SELECT a, sum(b) AS sum FROM numbers GROUP BY a;
	INSERT INTO numbers VALUES (11, 0);
});

# What a statement hands on to its end is dropped when the server's part of it fails; a long schedule makes that weigh.
my $schedule = join(',', ('0') x 4000) . ' * * * *';
my @failing = (
	'ALTER TABLE numbers ADD COLUMN a int',
	'DROP TABLE numbers',
	'INSERT INTO numbers VALUES (1, 1 / 0)',
	'CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental, pg_trickle.nonsense) AS SELECT a FROM numbers',
	"CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental, pg_trickle.schedule = ''$schedule'', fillfactor = 1) AS SELECT a FROM numbers",
	'CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT a, 1 / b AS quotient FROM numbers',
	q{ALTER MATERIALIZED VIEW quotients SET (pg_trickle.schedule = ''nonsense'')},
	'ALTER MATERIALIZED VIEW quotients SET (pg_trickle.incremental = false, fillfactor = 1)',
	'REFRESH MATERIALIZED VIEW quotients',
	'EXPLAIN (ANALYZE) REFRESH MATERIALIZED VIEW quotients',
	q{SELECT pgtrickle.validate_query(''SELECT nonsense'')});

# Each of them so many times, as statements of their own.
sub failures
{
	my ($times) = @_;
	return join '', map { "SELECT '$_' FROM generate_series(1, $times) \\gexec\n" } @failing;
}

my $look = q{
	SELECT count(*), sum(total_bytes), sum(total_bytes) FILTER (WHERE name IN ('TopMemoryContext', 'CacheMemoryContext')),
		substring(pg_read_file('/proc/self/status', true) FROM 'RssAnon:\s+(\d+)') FROM pg_backend_memory_contexts;
};
my ($out, $err);
$node->psql('postgres', failures(50) . $look . failures(1000) . $look, stdout => \$out, stderr => \$err, on_error_stop => 0);
my @failures = $err =~ /ERROR:/g;
is(scalar @failures, 1050 * @failing, 'all of them fail');
my ($before, $after) = map { [ split /\|/, $_, -1 ] } grep { /^\d+\|/ } split /\n/, $out;
my ($contexts, $bytes, $cached) = map { $after->[$_] - $before->[$_] } 0 .. 2;
cmp_ok($contexts, '<', 20, 'memory contexts');
cmp_ok($bytes, '<', 1 << 20, 'bytes in memory contexts');
cmp_ok($cached, '<', 1 << 20, 'bytes in those that last as long as the session');
SKIP:
{
	skip 'only Linux says how large a process is', 1 if $before->[3] eq '';
	cmp_ok($after->[3] - $before->[3], '<', 4 << 10, 'kB of the process');
}

$node->safe_psql('postgres', 'DELETE FROM numbers WHERE b = 0');
refresh_all($node);
views_agree($node, 'the views are right afterwards');

finish();
