//! What must be true in the end: every view fresh and equal to its query, none failed, buffers trimmed, nothing in the log.

use fastrand::Rng;

use crate::session::{Failed, Session};
use crate::stage::Stage;
use crate::world::VIEWS;
use crate::writer;

/// Writers are gone. Nobody refreshes anything by hand from here on.
pub struct Ending<'a> {
    session: Session<'a>,
    verdicts: Vec<(String, Result<(), String>)>,
}

impl<'a> Ending<'a> {
    pub fn new(stage: &'a Stage) -> Ending<'a> {
        Ending { session: Session::new(stage, "soak"), verdicts: vec![] }
    }

    fn judge(&mut self, what: String, found: String) {
        let verdict = if found.is_empty() { Ok(()) } else { Err(found) };
        self.verdicts.push((what, verdict));
    }

    pub fn into_verdicts(self) -> Vec<(String, Result<(), String>)> {
        self.verdicts
    }

    /// Everything prepared is ended, and every view becomes fresh by itself; then all equal their queries.
    pub fn views(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        writer::end_those_older(&mut self.session, rng, "-1s");
        let began = self.session.query("SELECT clock_timestamp()")?[0][0].clone().unwrap_or_default();
        let mut late = String::new();
        for view in self.names()? {
            let fresh = self.session.query(&format!("SELECT pgtrickle.wait_until_fresh('{view}', '600s')"))?;
            if fresh[0][0].as_deref() != Some("t") {
                late.push_str(&format!("{view} "));
            }
        }
        self.judge("all views become fresh by themselves".into(), late);
        let compared = format!("every view equals its query, {} of them", VIEWS.len());
        let different = self.differences()?;
        self.judge(compared, different);
        let by_hand = self.text(&format!(
            "SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE initiated_by <> 'SCHEDULER' AND start_time > '{began}'"
        ))?;
        self.judge("nobody helped".into(), if by_hand == "0" { String::new() } else { by_hand });
        let sick = self.text(
            "SELECT string_agg(concat_ws(' ', pgt_name, status, consecutive_errors, last_error_message), '; ') \
             FROM pgtrickle.pgt_stream_tables WHERE status <> 'ACTIVE' OR consecutive_errors > 0",
        )?;
        self.judge("no view is in trouble".into(), sick);
        Ok(())
    }

    fn names(&mut self) -> Result<Vec<String>, Failed> {
        let rows = self.session.query("SELECT pgt_name FROM pgtrickle.pgt_stream_tables ORDER BY pgt_id")?;
        Ok(rows.into_iter().flatten().flatten().collect())
    }

    /// Rows that some view has too many or too few of, in one snapshot; those made on the way included.
    fn differences(&mut self) -> Result<String, Failed> {
        let definitions = self
            .session
            .query("SELECT pgt_name, rtrim(defining_query, ';') FROM pgtrickle.pgt_stream_tables ORDER BY pgt_id")?;
        let mut found = String::new();
        self.session.run("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
        for definition in definitions {
            let [Some(view), Some(query)] = &definition[..] else { continue };
            for (sign, difference) in [
                ("+", format!("TABLE {view} EXCEPT ALL ({query})")),
                ("-", format!("({query}) EXCEPT ALL TABLE {view}")),
            ] {
                for row in self.session.query(&format!("SELECT d::text FROM ({difference}) d LIMIT 5"))? {
                    found.push_str(&format!("{view} {sign}{} ", row[0].as_deref().unwrap_or("NULL")));
                }
            }
        }
        self.session.run("COMMIT")?;
        Ok(found)
    }

    fn text(&mut self, sql: &str) -> Result<String, Failed> {
        Ok(self.session.query(sql)?.first().and_then(|row| row[0].clone()).unwrap_or_default())
    }

    /// A few small changes, so that there is a refresh to trim after; then there is hardly anything in the buffers.
    pub fn buffers(&mut self, largest: u64, most: u64, rest: u64) -> Result<(), Failed> {
        let mut left = u64::MAX;
        for round in 0..20 {
            self.session.run(&format!("UPDATE orders SET amount = {round} WHERE id = (SELECT min(id) FROM orders)"))?;
            self.session.run(&format!("UPDATE customers SET region = {} WHERE id = 1", round % 5))?;
            self.session.run("INSERT INTO clicks VALUES (1, 1, 1)")?;
            self.session.run("INSERT INTO events VALUES (1, 0, 1, 1), (1, 2, 1, 1), (1, 4, 1, 1), (1, 5, 1, 1)")?;
            self.session.run(&format!("INSERT INTO payments VALUES (-{round} - 1, 1, 1) ON CONFLICT DO NOTHING"))?;
            for view in self.names()? {
                self.session.run(&format!("SELECT pgtrickle.wait_until_fresh('{view}', '600s')"))?;
            }
            left = buffered(&mut self.session)?;
            if left <= rest {
                break;
            }
        }
        let found = if left <= rest { String::new() } else { format!("{left} bytes") };
        self.judge(format!("buffers are trimmed: {} kB left", left / 1024), found);
        let found = if largest <= most { String::new() } else { format!("more than {} kB", most / 1024) };
        self.judge(format!("the backlog was bounded: at most {} kB", largest / 1024), found);
        Ok(())
    }
}

/// The bytes that all change buffers take.
pub fn buffered(session: &mut Session) -> Result<u64, Failed> {
    let sum = "SELECT coalesce(sum(bytes), 0)::bigint FROM \
               (SELECT max(buffer_bytes) AS bytes FROM pgtrickle.change_buffer_sizes() GROUP BY source_oid) b";
    let rows = session.query(sum)?;
    Ok(rows[0][0].as_deref().and_then(|bytes| bytes.parse().ok()).expect("a number"))
}
