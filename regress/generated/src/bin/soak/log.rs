//! The server's log: what must not be there.

use std::fs::read_to_string;
use std::path::Path;

/// What every line of the log begins with, so that it can be judged.
pub const PREFIX: &str = "%m [%p] %e|%b| ";

/// Never.
const ALARMS: &[&str] =
    &["TRAP:", "PANIC:", "terminated by signal", "leak", "still referenced", "still active", "panicked"];

/// What our processes may report: that they are cancelled, or told to go.
const OF_OURS: &[&str] = &["57014", "57P01", "57P03"];

/// And sessions, beside what they do on purpose.
const OF_SESSIONS: &[&str] = &["57014", "57P01", "55P03", "40P01", "40001", "23505", "25P01", "22012"];

/// The lines that are not expected.
pub fn unexpected(path: &Path) -> Result<Vec<String>, std::io::Error> {
    let text = read_to_string(path)?;
    Ok(text.lines().filter(|line| !is_expected(line)).map(str::to_string).collect())
}

fn is_expected(line: &str) -> bool {
    if ALARMS.iter().any(|alarm| line.contains(alarm)) {
        return false;
    }
    let mut parts = line.splitn(3, '|');
    let (Some(head), Some(kind), Some(message)) = (parts.next(), parts.next(), parts.next()) else { return true };
    let grave = ["WARNING:", "ERROR:", "FATAL:"].iter().any(|level| message.trim_start().starts_with(level));
    let code = head.rsplit(' ').next().unwrap_or("");
    let may = if kind.starts_with("pg_trickle") { OF_OURS } else { OF_SESSIONS };
    !grave || may.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::is_expected;

    #[test]
    fn lines() {
        let line = |code: &str, kind: &str, text: &str| {
            is_expected(&format!("2026-01-01 00:00:00.000 UTC [7] {code}|{kind}| {text}"))
        };
        assert!(line("00000", "client backend", "LOG:  duration: 3000 ms"));
        assert!(line("57P01", "pg_trickle worker", "FATAL:  terminating background worker"));
        assert!(line("40P01", "client backend", "ERROR:  deadlock detected"));
        assert!(!line("40P01", "pg_trickle worker", "ERROR:  deadlock detected"));
        assert!(!line("XX000", "client backend", "ERROR:  cannot happen"));
        assert!(!line("01000", "client backend", "WARNING:  relcache reference leak"));
        assert!(!line("00000", "postmaster", "LOG:  server process was terminated by signal 6"));
        assert!(is_expected("STATEMENT:  a | b | c"));
    }
}
