# wal_level = minimal: what is written into a file made in the same transaction reaches the disk without WAL, so its
# pages have no LSN, by which a refresh tells what it has seen.
use strict;
use warnings FATAL => 'all';

use Test::More;
use Trickle;

my $node = trickle_node('minimal', conf => <<'CONF');
wal_level = minimal
max_wal_senders = 0
wal_skip_threshold = 0
pg_trickle.refresh_strategy = delta
CONF

my $view = 'CREATE MATERIALIZED VIEW copies WITH (pg_trickle.incremental) AS SELECT id, note FROM source';
my $rows = q{INSERT INTO source SELECT g, repeat(md5(g::text), 10) FROM generate_series(1001, 3000) g};
my $rewrite = q{SELECT format('VACUUM FULL %s', oid::regclass) FROM pg_class WHERE relname ~ '^changes_.*[ab]$' AND pg_relation_size(oid) > 0 \gexec};

# again(MESSAGE, STEP...): the steps, on a new table, end with a refresh that sees all there is.
sub again
{
	my ($message, @steps) = @_;
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS source CASCADE; CREATE TABLE source (id int PRIMARY KEY, note text)');
	$node->safe_psql('postgres', $_) for q{INSERT INTO source SELECT g, 'old' FROM generate_series(1, 100) g}, @steps;
	refresh_all($node);
	views_agree($node, $message);
	return;
}

again('changes in the transaction that creates the view', "BEGIN; $view; $rows; COMMIT");
again('a buffer written anew, before any refresh', $view, $rows, $rewrite);
again('a buffer written anew, after a refresh', $view, q{INSERT INTO source VALUES (200, 'one')},
	'REFRESH MATERIALIZED VIEW copies', $rows, $rewrite);
again('a buffer written anew, and written to', $view, 'REFRESH MATERIALIZED VIEW copies', $rows, $rewrite,
	q{UPDATE source SET note = 'new' WHERE id % 7 = 0}, 'REFRESH MATERIALIZED VIEW copies', q{DELETE FROM source WHERE id % 5 = 0});

finish();
