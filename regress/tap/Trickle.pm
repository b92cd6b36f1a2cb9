# What the TAP tests share: servers that have the extension, ways to stop them hard, and the question they
# all ask: does every stream table equal its query?
#
# Nothing here depends on how fast the machine is: what has to happen first is waited for by its effect, for as long as
# PG_TEST_TIMEOUT_DEFAULT says.
#
# The environment comes from regress/bin/with-server: $TEMP_CONFIG holds the settings a server needs to find
# the extension. A test ends with `finish`, which also looks for failed assertions in the servers' logs.
package Trickle;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Path qw(remove_tree);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  trickle_node standby_node upgraded_node in_background wait_until_done wait_for_lock kill_process kill_backend kill_postmaster
  start_again stream_tables refresh_all wait_until_fresh eventually ok_eventually processes views_agree last_actions finish);

my @nodes;

# One initdb serves all servers of a run.
sub template
{
	my $path = "$ENV{TESTDATADIR}/initdb";
	return $path if -e $path;
	remove_tree("$path.new");
	system_or_bail('initdb', '--no-sync', '--pgdata' => "$path.new", '--auth' => 'trust', '--encoding' => 'UTF8', '--no-locale');
	rename("$path.new", $path) or die "rename: $!";
	return $path;
}

# A started server with the extension in database postgres. Options: streaming => 1 for one that has
# standbys; conf => settings; extension => 0 to leave it out. Views refresh themselves only where the settings say so.
sub trickle_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	push @nodes, $node;
	local $ENV{INITDB_TEMPLATE} = template();
	$node->init(allows_streaming => $options{streaming});
	$node->append_conf('postgresql.conf', "log_statement = none\nmax_prepared_transactions = 10\n"
		  . "shared_buffers = 32MB\nautovacuum_naptime = 1s\npg_trickle.enabled = off\n" . ($options{conf} // ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_trickle') if $options{extension} // 1;
	return $node;
}

# An empty cluster for pg_upgrade, not started. A twin has the system identifier of the others of the run, of which one is a
# copy of the other.
sub upgraded_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	push @nodes, $node;
	local $ENV{INITDB_TEMPLATE} = template();
	$node->init(force_initdb => !$options{twin}, extra => $options{twin} ? undef : [ '--encoding' => 'UTF8', '--no-locale' ]);
	$node->append_conf('postgresql.conf', "log_statement = none\nmax_prepared_transactions = 10\n"
		  . "shared_buffers = 32MB\npg_trickle.enabled = off\n" . ($options{conf} // ''));
	return $node;
}

# A started physical standby of a server made with streaming => 1.
sub standby_node
{
	my ($name, $primary) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	push @nodes, $node;
	$primary->backup($name);
	$node->init_from_backup($primary, $name, has_streaming => 1);
	$node->start;
	return $node;
}

# Statements in a session of their own, which may never come back. Returns its pid and handle.
sub in_background
{
	my ($node, $sql, $dbname) = @_;
	my $session = { in => "SELECT 'pid=' || pg_backend_pid();\n", out => '', err => '' };
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', '-', '-d', $node->connstr($dbname // 'postgres') ],
		'<' => \$session->{in}, '>' => \$session->{out}, '2>' => \$session->{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$session->{run}->pump until $session->{out} =~ /^pid=\d+$/m;
	($session->{pid}) = $session->{out} =~ /^pid=(\d+)$/m;
	$session->{in} .= "$sql\n\\echo all done\n";
	$session->{run}->pump_nb;
	return $session;
}

# Waits until the background session has run all its statements.
sub wait_until_done
{
	my ($session) = @_;
	until ($session->{out} =~ /^all done$/m)
	{
		$session->{run}->pump or die "background session ended: $session->{err}";
	}
	return;
}

# Waits until a backend waits for a lock of this type.
sub wait_for_lock
{
	my ($node, $pid, $type) = @_;
	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock' AND wait_event = '$type'")
	  or die "backend $pid never waited for a lock of type $type";
	return;
}

# kill -9 of one process of the server, which throws everybody out, recovers and goes on. Needs restart_after_crash. Returns
# when the server is back: it accepts connections until the postmaster has noticed, so that is waited for first, by a session
# whose statement does not end by itself.
sub kill_process
{
	my ($node, $pid, @sessions) = @_;
	my $witness = in_background($node, 'SELECT pg_sleep(100000);');
	kill 'KILL', $pid or die "kill: $!";
	$_->{run}->finish for $witness, @sessions;
	$node->poll_query_until('postgres', 'SELECT 1', '1') or die 'the server did not come back';
	return;
}

sub kill_backend { my ($node, $session, @others) = @_; return kill_process($node, $session->{pid}, $session, @others) }

# kill -9 of the postmaster, whose backends follow it.
sub kill_postmaster
{
	my ($node, @sessions) = @_;
	$node->kill9;
	$_->{run}->finish for @sessions;
	start_again($node);
	return;
}

# Until the last backend has noticed that the postmaster is gone, its shared memory is in use.
sub start_again
{
	my ($node) = @_;
	my $start = sub {
		return 1 if $node->start(fail_ok => 1);
		$node->stop('fast', fail_ok => 1);
		return 0;
	};
	eventually($start) or die 'the server did not start again';
	return;
}

# Names and queries of the stream tables that have contents, qualified.
sub stream_tables
{
	my ($node, $dbname) = @_;
	my $rows = $node->safe_psql($dbname // 'postgres', q{
		SET search_path = pg_catalog;
		SELECT pgt_relid::regclass, translate(rtrim(pg_get_viewdef(pgt_relid), ';'), E'\n', ' ')
		FROM pgtrickle.pgt_stream_tables WHERE is_populated ORDER BY pgt_relid});
	return map { [ split /\|/, $_, 2 ] } split /\n/, $rows;
}

# Refreshes every stream table, in one session so that none waits for a connection.
sub refresh_all
{
	my ($node, $dbname) = @_;
	$node->safe_psql($dbname // 'postgres', join ';', map { "REFRESH MATERIALIZED VIEW $_->[0]" } stream_tables($node, $dbname));
	return;
}

# Waits until every stream table, which refresh themselves, holds what has been committed.
sub wait_until_fresh
{
	my ($node, $dbname) = @_;
	my $limit = "${PostgreSQL::Test::Utils::timeout_default}s";
	my @late = grep { $node->safe_psql($dbname // 'postgres', "SELECT pgtrickle.wait_until_fresh('$_->[0]', '$limit')") ne 't' }
	  stream_tables($node, $dbname);
	return is(join(', ', map { $_->[0] } @late), '', 'all views are fresh');
}

# Whether a condition becomes true before the time is up after which a test counts as failed.
sub eventually
{
	my ($condition) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	while (1)
	{
		return 1 if $condition->();
		return 0 if time > $end;
		usleep(50_000);
	}
}

sub ok_eventually { my ($condition, $message) = @_; return ok(eventually($condition), $message) }

# The pids of our processes, of one kind (launcher, scheduler, worker) or all, in one database or all.
sub processes
{
	my ($node, $kind, $dbname) = @_;
	my $where = ($kind ? "= 'pg_trickle $kind'" : "LIKE 'pg_trickle %'") . ($dbname ? " AND datname = '$dbname'" : '');
	return split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type $where ORDER BY pid");
}

# Every stream table equals its query, as a bag, in one snapshot. `settings` is SQL to run before, `except` matches names
# of those that are not compared.
sub views_agree
{
	my ($node, $message, %options) = @_;
	my $dbname = $options{dbname} // 'postgres';
	my @tables = grep { !$options{except} || $_->[0] !~ $options{except} } stream_tables($node, $dbname);
	my $sql = join ' UNION ALL ', map {
		my ($name, $query) = @$_;
		my $quoted = $name =~ s/'/''/gr;
		"(SELECT '$quoted +', d::text FROM (TABLE $name EXCEPT ALL ($query)) d LIMIT 5) UNION ALL "
		  . "(SELECT '$quoted -', d::text FROM (($query) EXCEPT ALL TABLE $name) d LIMIT 5)"
	} @tables;
	my $differences = @tables ? $node->safe_psql($dbname, ($options{settings} // '') . "; $sql") : 'no stream tables';
	return is($differences, '', $message);
}

# How the last refresh of each of these was done.
sub last_actions
{
	my ($node, $dbname, @names) = @_;
	return $node->safe_psql($dbname, join ' UNION ALL ', map { "(SELECT action FROM pgtrickle.get_refresh_history('$_', 1))" } @names);
}

sub finish
{
	for my $node (@nodes)
	{
		my $log = slurp_file($node->logfile);
		unlike($log, qr/TRAP:|PANIC:|terminated by signal (?!9\b)/, $node->name . ': no assertion failed');
		$node->stop('immediate', fail_ok => 1);
	}
	done_testing();
	return;
}

1;
