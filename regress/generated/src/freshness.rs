//! Which views equal their queries, as far as the steps alone tell. The author asks before it compares views; the
//! shrinker asks again for every candidate, since without the refresh that made it fresh a view may well be wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::author::{MAIN, SESSIONS};
use crate::sql::ViewId;
use crate::step::{Action, Control, Step};
use crate::world::{Catalog, Family};

/// Views that are fresh in the main session's eyes.
#[derive(Clone, Debug, Default)]
pub struct Freshness {
    fresh: BTreeSet<ViewId>,
    /// The main session's transaction: what was fresh when it began, and at each savepoint.
    marks: Vec<(String, BTreeSet<ViewId>)>,
    /// What the main session's transaction does not see, if its snapshot is fixed.
    missed: Option<BTreeSet<Family>>,
    /// Families changed by the open transactions of other sessions, and by prepared ones.
    pending: [Option<BTreeSet<Family>>; SESSIONS],
    prepared: BTreeMap<String, BTreeSet<Family>>,
}

impl Freshness {
    pub fn contains(&self, view: ViewId) -> bool {
        self.fresh.contains(&view)
    }

    pub fn apply(&mut self, step: &Step, catalog: &Catalog) {
        for family in &step.changes {
            match &mut self.pending[step.session] {
                Some(families) => {
                    families.insert(*family);
                }
                None if step.session == MAIN => self.make_stale(*family, catalog),
                None => self.commit_elsewhere(*family, catalog),
            }
        }
        for view in &step.clears {
            self.fresh.remove(view);
        }
        // Filled from fresh views, or from tables, a view is fresh.
        for view in &step.fills {
            let is_sound = catalog.ancestors(*view).iter().all(|a| catalog.get(*a).is_plain || self.fresh.contains(a));
            if is_sound {
                self.fresh.insert(*view);
            }
        }
        match &step.control {
            Some((control, _)) if step.session == MAIN => self.control_main(control, catalog),
            Some((control, _)) => self.control_other(step.session, control, catalog),
            None => {}
        }
    }

    fn make_stale(&mut self, family: Family, catalog: &Catalog) {
        self.fresh.retain(|v| !catalog.get(*v).families.contains(&family));
    }

    /// What another session commits is seen at once, also after a rollback; a fixed snapshot sees it later.
    fn commit_elsewhere(&mut self, family: Family, catalog: &Catalog) {
        self.make_stale(family, catalog);
        for (_, fresh) in &mut self.marks {
            fresh.retain(|v| !catalog.get(*v).families.contains(&family));
        }
        if let Some(missed) = &mut self.missed {
            missed.insert(family);
        }
    }

    fn control_main(&mut self, control: &Control, catalog: &Catalog) {
        match control {
            Control::Begin { repeatable_read } => {
                self.marks = vec![(String::new(), self.fresh.clone())];
                self.missed = repeatable_read.then(BTreeSet::new);
            }
            Control::Savepoint(name) => self.marks.push((name.clone(), self.fresh.clone())),
            Control::RollBackTo(name) => {
                if let Some(mark) = self.marks.iter().rfind(|m| m.0 == *name) {
                    self.fresh = mark.1.clone();
                }
            }
            Control::Release(name) => self.marks.retain(|m| m.0 != *name),
            Control::Commit | Control::CommitPrepared(_) => self.end_main(catalog),
            Control::RollBack | Control::RollBackPrepared(_) | Control::Kill => {
                if let Some((_, fresh)) = self.marks.first() {
                    self.fresh = fresh.clone();
                }
                self.end_main(catalog);
            }
            // The main session finishes what it prepares at once, so nothing need be told apart meanwhile.
            Control::Prepare(_) => {}
        }
        if let Control::CommitPrepared(gid) | Control::RollBackPrepared(gid) = control {
            self.finish_prepared(gid, matches!(control, Control::CommitPrepared(_)), catalog);
        }
    }

    fn end_main(&mut self, catalog: &Catalog) {
        self.marks.clear();
        for family in self.missed.take().unwrap_or_default() {
            self.make_stale(family, catalog);
        }
    }

    fn control_other(&mut self, session: usize, control: &Control, catalog: &Catalog) {
        match control {
            Control::Begin { .. } => self.pending[session] = Some(BTreeSet::new()),
            Control::Commit => {
                for family in self.pending[session].take().unwrap_or_default() {
                    self.commit_elsewhere(family, catalog);
                }
            }
            Control::RollBack | Control::Kill => self.pending[session] = None,
            Control::Prepare(gid) => {
                let families = self.pending[session].take().unwrap_or_default();
                self.prepared.insert(gid.clone(), families);
            }
            Control::CommitPrepared(gid) => self.finish_prepared(gid, true, catalog),
            Control::RollBackPrepared(gid) => self.finish_prepared(gid, false, catalog),
            // Changes rolled back to a savepoint still count as changes: that only makes for fewer comparisons.
            Control::Savepoint(_) | Control::RollBackTo(_) | Control::Release(_) => {}
        }
    }

    fn finish_prepared(&mut self, gid: &str, commit: bool, catalog: &Catalog) {
        for family in self.prepared.remove(gid).unwrap_or_default() {
            if commit {
                self.commit_elsewhere(family, catalog);
            }
        }
    }
}

/// Takes out of every comparison the views that are not certain to be fresh, and comparisons of nothing.
pub fn prune_checks(steps: &mut Vec<Step>, catalog: &Catalog) {
    let mut freshness = Freshness::default();
    for step in steps.iter_mut() {
        freshness.apply(step, catalog);
        if let Action::Check(views) = &mut step.action {
            views.retain(|v| freshness.contains(*v));
        }
    }
    steps.retain(|s| s.action != Action::Check(vec![]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Sql;
    use crate::world::tests::view;

    const T: Family = Family(0);
    const V: ViewId = ViewId(0);

    fn play(steps: Vec<Step>) -> bool {
        let mut definition = view("v", Sql::default(), &[]);
        definition.families.insert(T);
        let catalog = Catalog { definitions: vec![definition] };
        let mut freshness = Freshness::default();
        steps.iter().for_each(|s| freshness.apply(s, &catalog));
        freshness.contains(V)
    }

    fn change(session: usize) -> Step {
        Step { session, changes: vec![T], ..Step::run("") }
    }

    fn fill() -> Step {
        Step { fills: vec![V], ..Step::run("") }
    }

    fn control(session: usize, control: Control) -> Step {
        Step { session, ..Step::run("").control(control, 1) }
    }

    const BEGIN: Control = Control::Begin { repeatable_read: false };

    #[test]
    fn a_change_makes_stale_and_a_refresh_fresh() {
        assert!(play(vec![change(MAIN), fill()]));
        assert!(!play(vec![fill(), change(MAIN)]));
    }

    #[test]
    fn a_rollback_brings_freshness_back_only_with_its_begin() {
        assert!(play(vec![fill(), control(MAIN, BEGIN), change(MAIN), control(MAIN, Control::RollBack)]));
        assert!(!play(vec![fill(), change(MAIN), control(MAIN, Control::RollBack)]));
    }

    #[test]
    fn other_sessions_count_when_they_commit() {
        assert!(play(vec![control(1, BEGIN), change(1), fill()]));
        assert!(!play(vec![control(1, BEGIN), change(1), fill(), control(1, Control::Commit)]));
        assert!(!play(vec![fill(), change(1)]));
    }

    #[test]
    fn under_an_old_snapshot_a_refresh_lasts_until_commit() {
        let old = Control::Begin { repeatable_read: true };
        assert!(play(vec![control(MAIN, old.clone()), change(1), fill()]));
        assert!(!play(vec![control(MAIN, old), change(1), fill(), control(MAIN, Control::Commit)]));
    }
}
