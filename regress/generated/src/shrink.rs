//! Shrinks a failing episode: leaves out tables, views, runs of steps, savepoints, and items of lists, as long as the
//! rest still fails in the same way.
//!
//! A shorter episode counts only if every statement it has left runs as it should: a step that another one needs
//! cannot be dropped without it, which keeps the result a sensible script.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::episode::Episode;
use crate::freshness::prune_checks;
use crate::run::{Failure, Outcome};
use crate::sql::{Sql, ViewId};
use crate::step::{Action, Step};
use crate::world::TableId;

/// Runs an episode; `None` if the server could not be reached.
pub type Run<'a> = dyn FnMut(&Episode) -> Option<Outcome> + 'a;

pub struct Shrinker<'a> {
    run: &'a mut Run<'a>,
    wanted: Failure,
    best: Episode,
    deadline: Instant,
    pub runs: usize,
}

/// The smallest episode found that fails like `failure`, and its outcome; `None` if it did not fail again.
pub fn shrink<'a>(
    episode: &Episode,
    failure: &Failure,
    budget: Duration,
    run: &'a mut Run<'a>,
) -> Option<(Episode, Outcome, usize)> {
    let mut shrinker =
        Shrinker { run, wanted: failure.clone(), best: episode.clone(), deadline: Instant::now() + budget, runs: 0 };
    if !shrinker.accept(episode.clone()) {
        return None;
    }
    loop {
        let before = shrinker.size();
        shrinker.drop_tables();
        shrinker.drop_views();
        shrinker.drop_runs();
        shrinker.drop_controls();
        shrinker.narrow_checks();
        shrinker.shorten_lists();
        if shrinker.size() == before || shrinker.is_late() {
            break;
        }
    }
    let outcome = (shrinker.run)(&shrinker.best)?;
    Some((shrinker.best, outcome, shrinker.runs))
}

/// Two failures are alike if both are wrong results, crashes, or the same error but for the names and numbers in it.
pub fn alike(a: &Failure, b: &Failure) -> bool {
    gist(a) == gist(b) || (a.is_crash() && b.is_crash())
}

/// What failures of one kind have in common: an error's message without quoted names and digits.
pub fn gist(failure: &Failure) -> String {
    match failure {
        Failure::Mismatch(_) => "wrong result".to_string(),
        Failure::Lost(_) => "connection lost".to_string(),
        Failure::Collateral(_) => "session ended by the server".to_string(),
        Failure::Error { code, message } => {
            let unquoted: String = message.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
            format!("{code} {}", unquoted.replace(|c: char| c.is_ascii_digit(), ""))
        }
    }
}

impl Shrinker<'_> {
    fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    fn size(&self) -> usize {
        let text = |s: &Step| match &s.action {
            Action::Run(sql) => sql.as_statement(&self.best.catalog).len(),
            Action::Copy { lines, .. } => lines.len(),
            Action::Check(views) => views.iter().map(|v| self.best.catalog.get(*v).outputs.len()).sum(),
            Action::Reconnect | Action::Kill => 1,
        };
        self.best.steps.iter().map(|s| 10 + text(s)).sum()
    }

    /// Keeps the candidate if it still fails as wanted. Steps after the failure are cut off.
    fn accept(&mut self, mut candidate: Episode) -> bool {
        if self.is_late() && self.runs > 0 {
            return false;
        }
        prune_checks(&mut candidate.steps, &candidate.catalog);
        self.runs += 1;
        let outcome = (self.run)(&candidate);
        match outcome.and_then(|o| o.failure) {
            Some((position, failure)) if alike(&failure, &self.wanted) => {
                candidate.steps.truncate(position + 1);
                self.best = candidate;
                true
            }
            _ => false,
        }
    }

    fn accept_without(&mut self, unwanted: impl Fn(&Step) -> bool) -> bool {
        let mut candidate = self.best.clone();
        candidate.steps.retain(|s| !unwanted(s));
        candidate.steps.len() < self.best.steps.len() && self.accept(candidate)
    }

    fn drop_tables(&mut self) {
        let tables: BTreeSet<TableId> = self.best.steps.iter().flat_map(|s| s.tables.clone()).collect();
        for table in tables.into_iter().rev() {
            self.accept_without(|s| s.tables.contains(&table));
        }
    }

    fn drop_views(&mut self) {
        let views: BTreeSet<ViewId> = self.best.steps.iter().flat_map(|s| s.views.clone()).collect();
        for view in views.into_iter().rev() {
            self.accept_without(|s| s.views.contains(&view));
        }
    }

    /// Delta debugging: ever shorter runs of steps, from the end.
    fn drop_runs(&mut self) {
        let mut length = self.best.steps.len() / 2;
        while length > 0 && !self.is_late() {
            let mut end = self.best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(length);
                let mut candidate = self.best.clone();
                candidate.steps.drain(start..end.min(candidate.steps.len()));
                self.accept(candidate);
                end = start.min(self.best.steps.len());
            }
            length /= 2;
        }
    }

    /// The statements that begin and end a transaction go together, leaving what is in it; so do a savepoint's.
    fn drop_controls(&mut self) {
        let transactions: BTreeSet<u32> =
            self.best.steps.iter().filter_map(|s| s.control.as_ref().map(|c| c.1)).collect();
        for transaction in transactions {
            self.accept_without(|s| s.control.as_ref().is_some_and(|c| c.1 == transaction));
        }
        let savepoints: BTreeSet<String> = self.best.steps.iter().filter_map(savepoint).collect();
        for name in savepoints {
            self.accept_without(|s| savepoint(s).as_ref() == Some(&name));
        }
    }

    /// Compares fewer views, and fewer columns of them.
    fn narrow_checks(&mut self) {
        for position in 0..self.best.steps.len() {
            let Some(Action::Check(views)) = self.best.steps.get(position).map(|s| s.action.clone()) else { continue };
            for view in views {
                let mut candidate = self.best.clone();
                if let Action::Check(kept) = &mut candidate.steps[position].action {
                    kept.retain(|v| *v != view);
                    if !kept.is_empty() {
                        self.accept(candidate);
                    }
                }
                if position >= self.best.steps.len() {
                    return;
                }
            }
        }
        for view in 0..self.best.catalog.definitions.len() {
            let mut output = self.best.catalog.definitions[view].outputs.len();
            while output > 0 && self.best.catalog.definitions[view].outputs.len() > 1 {
                output -= 1;
                let mut candidate = self.best.clone();
                candidate.catalog.definitions[view].outputs.remove(output);
                self.accept(candidate);
            }
        }
    }

    /// Leaves out rows, columns, conditions: halves of each list first, then single items.
    fn shorten_lists(&mut self) {
        let is_used = |episode: &Episode, view: usize| episode.steps.iter().any(|s| s.views.contains(&ViewId(view)));
        for view in 0..self.best.catalog.definitions.len() {
            if is_used(&self.best, view) {
                self.shorten(&|episode| Some(&mut episode.catalog.definitions[view].query));
            }
        }
        for position in (0..self.best.steps.len()).rev() {
            self.shorten(&|episode| episode.steps.get_mut(position).and_then(Step::sql_mut));
            self.shorten_copy(position);
        }
    }

    fn shorten(&mut self, find: &dyn Fn(&mut Episode) -> Option<&mut Sql>) {
        let mut target = 0;
        while !self.is_late() {
            let mut probe = self.best.clone();
            let Some((length, least)) =
                find(&mut probe).and_then(|sql| nth_list(sql, target, |l| (l.items.len(), l.least)))
            else {
                return;
            };
            self.shorten_list(find, target, length, least);
            target += 1;
        }
    }

    fn shorten_list(
        &mut self,
        find: &dyn Fn(&mut Episode) -> Option<&mut Sql>,
        target: usize,
        length: usize,
        least: usize,
    ) {
        let (mut length, mut chunk) = (length, length.div_ceil(2));
        while chunk > 0 {
            let mut end = length;
            while end > 0 && length > least {
                let start = end.saturating_sub(chunk.min(length - least));
                let mut candidate = self.best.clone();
                if let Some(sql) = find(&mut candidate) {
                    nth_list(sql, target, |l| l.items.drain(start..end).count());
                }
                if self.accept(candidate) {
                    length -= end - start;
                }
                end = start;
            }
            chunk /= 2;
        }
    }

    fn shorten_copy(&mut self, position: usize) {
        loop {
            let mut candidate = self.best.clone();
            match candidate.steps.get_mut(position).map(|s| &mut s.action) {
                Some(Action::Copy { lines, .. }) if lines.len() > 1 => lines.truncate(lines.len() / 2),
                _ => return,
            }
            if !self.accept(candidate) {
                return;
            }
        }
    }
}

/// Applies a function to the n-th list of a statement, counted from the outside in.
fn nth_list<T>(sql: &mut Sql, n: usize, mut apply: impl FnMut(&mut crate::sql::List) -> T) -> Option<T> {
    let (mut seen, mut result) = (0, None);
    sql.any_list(&mut |list| {
        seen += 1;
        if seen == n + 1 {
            result = Some(apply(list));
        }
        seen > n
    });
    result
}

fn savepoint(step: &Step) -> Option<String> {
    step.control.as_ref().and_then(|c| c.0.savepoint()).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::MAIN;
    use crate::world::Catalog;

    fn statement(step: &Step) -> String {
        match &step.action {
            Action::Run(sql) => sql.as_statement(&Catalog::default()),
            _ => String::new(),
        }
    }

    /// A server that breaks when row 7 is inserted after the index was made, and refuses to insert without the table.
    fn broken_server(episode: &Episode) -> Option<Outcome> {
        let error = |code: &str| Failure::Error { code: code.to_string(), message: "row 7 of \"x\"".to_string() };
        let (mut table, mut index) = (false, false);
        let mut outcome = Outcome::default();
        for (position, step) in episode.steps.iter().enumerate() {
            let text = statement(step);
            table |= text == "CREATE TABLE";
            index |= text == "CREATE INDEX";
            let failure = match text.contains("INSERT") {
                true if !table => Some(error("42P01")),
                true if index && text.contains('7') => Some(error("XX000")),
                _ => None,
            };
            if let Some(failure) = failure {
                outcome.failure = Some((position, failure));
                break;
            }
        }
        Some(outcome)
    }

    fn episode() -> Episode {
        let rows = (0..20).map(|i| Sql::from(format!("({i})"))).collect();
        let mut insert = Sql::from("INSERT ");
        insert.append(Sql::list(", ", 1, rows));
        let texts = ["CREATE TABLE", "ANALYZE", "CREATE INDEX", "VACUUM"].map(Sql::from);
        let steps = texts.into_iter().chain([insert, Sql::from("REFRESH")]);
        let steps = steps.enumerate().map(|(id, sql)| Step { id, session: MAIN, ..Step::run(sql) }).collect();
        Episode { number: 0, settings: vec![], steps, catalog: Catalog::default(), roles: vec![] }
    }

    #[test]
    fn what_is_needed_stays_and_nothing_else() {
        let failure = broken_server(&episode()).unwrap().failure.unwrap().1;
        let (small, _, _) = shrink(&episode(), &failure, Duration::from_secs(60), &mut broken_server).unwrap();
        let texts: Vec<String> = small.steps.iter().map(statement).collect();
        assert_eq!(texts, ["CREATE TABLE", "CREATE INDEX", "INSERT (7)"]);
    }

    #[test]
    fn errors_are_alike_but_for_names_and_numbers() {
        let error = |message: &str| Failure::Error { code: "XX000".to_string(), message: message.to_string() };
        assert!(alike(&error("tuple 3 of \"a\" is gone"), &error("tuple 14 of \"b c\" is gone")));
        assert!(!alike(&error("tuple 3 is gone"), &error("tuple 3 is stale")));
        assert!(!alike(&error(""), &Failure::Mismatch(vec![])));
    }
}
