//! Which databases have a scheduler where there is no room for one in each.
//!
//! Processes run out: a scheduler takes one, and so does each of its workers. Once that has been noticed there is a *limit* for the
//! number of schedulers, so that each finds a worker, and databases take turns: one that waits and has something to do gets the
//! place of a scheduler that has nothing to do, or has had its time. Without a limit nobody gives way.

use super::graph::Oid;
use super::{SECOND, Time};

/// How long a scheduler stays at least when it has nothing to do.
const IDLE: i64 = SECOND / 2;
/// How long it stays at least when it has.
const SLICE: i64 = 10 * SECOND;
/// How long one that was asked to go is waited for before another one is asked.
const PATIENCE: i64 = SECOND;
/// How long no process can be started before the limit is lowered, and how long all is well before it is raised.
pub const LOWER: i64 = 5 * SECOND;
const RAISE: i64 = 60 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its scheduler runs since then, and was asked to give way.
    Running { since: Time, idle: bool, asked: Option<Time> },
    /// It has none since then. `needed`: there is something to do, or nobody knows.
    Waiting { since: Time, needed: bool },
}

#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub database: Oid,
    pub state: State,
}

/// What is to be done now, and when to look again if nobody calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub start: Vec<Oid>,
    pub give_way: Vec<Oid>,
    pub next: Option<Time>,
}

/// Who starts and who gives way, if there may be `limit` schedulers; who has waited longest comes first.
pub fn plan(places: &[Place], limit: Option<usize>, now: Time) -> Plan {
    let waits = |place: &Place| match place.state {
        State::Waiting { since, needed } => Some((!needed, since, place.database)),
        State::Running { .. } => None,
    };
    let mut waiting: Vec<_> = places.iter().filter_map(waits).collect();
    waiting.sort_unstable();
    let running = places.len() - waiting.len();
    let free = limit.map_or(waiting.len(), |limit| limit.saturating_sub(running)).min(waiting.len());
    let start = waiting[..free].iter().map(|(.., database)| *database).collect();
    let Some(limit) = limit else { return Plan { start, ..Plan::default() } };
    let in_need = waiting[free..].iter().filter(|(needless, ..)| !needless).count();
    let (give_way, next) = who_gives_way(places, in_need.max(running.saturating_sub(limit)), now);
    Plan { start, give_way, next }
}

/// So many schedulers that go, those that have nothing to do first; when the next one may.
fn who_gives_way(places: &[Place], wanted: usize, now: Time) -> (Vec<Oid>, Option<Time>) {
    let mut asked_before = 0;
    let mut looks = Vec::new();
    let mut candidates = Vec::new();
    for place in places {
        match place.state {
            State::Running { asked: Some(at), .. } if at.saturating_add(PATIENCE) > now => {
                asked_before += 1;
                looks.push(at.saturating_add(PATIENCE));
            }
            State::Running { asked: Some(_), .. } => (),
            State::Running { since, idle, .. } => {
                let from = since.saturating_add(if idle { IDLE } else { SLICE });
                candidates.push((!idle, since, from, place.database));
            }
            State::Waiting { .. } => (),
        }
    }
    candidates.sort_unstable();
    let wanted = wanted.saturating_sub(asked_before);
    let may = |(.., from, _): &&(bool, Time, Time, Oid)| *from <= now;
    let give_way: Vec<Oid> = candidates.iter().filter(may).take(wanted).map(|(.., database)| *database).collect();
    if give_way.len() < wanted {
        looks.extend(candidates.iter().map(|(.., from, _)| *from).filter(|from| *from > now));
    }
    (give_way, looks.into_iter().min())
}

/// How many schedulers there may be, by what has been noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    limit: Option<usize>,
    changed: Time,
    /// Since when no scheduler could be started, and when anything could not for the last time.
    failing: Option<Time>,
    last: Time,
}

impl Room {
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// A scheduler could not be started, while there were so many processes of ours. What ended a moment ago may still take a
    /// place, so one failure says little where there is a limit.
    pub fn exhausted(&mut self, ours: usize, now: Time) {
        // Nothing may have been tried for a while.
        let since = self.failing.filter(|_| now - self.last < LOWER).unwrap_or(now);
        self.failing = Some(since);
        if self.limit.is_none() || now - since >= LOWER {
            self.lower(ours, now);
            self.failing = Some(now);
        }
        self.last = now;
    }

    pub fn started(&mut self) {
        self.failing = None;
    }

    /// A worker could not be started, where there is a limit for so long.
    pub fn starved(&mut self, ours: usize, now: Time) {
        if self.limit.is_none() || now - self.changed >= LOWER {
            self.lower(ours, now);
        }
        self.last = now;
    }

    /// At first half of all processes, so that each has a worker.
    fn lower(&mut self, ours: usize, now: Time) {
        self.set(Some(self.limit.map_or(ours / 2, |limit| limit - 1).max(1)), now);
    }

    /// Time has passed; `databases` want a scheduler. When to look again.
    pub fn look(&mut self, databases: usize, now: Time) -> Option<Time> {
        let limit = self.limit?;
        if self.raises() <= now {
            self.set(Some(limit + 1).filter(|limit| *limit < databases), now);
        }
        self.limit.map(|_| self.raises())
    }

    fn raises(&self) -> Time {
        self.last.max(self.changed).saturating_add(RAISE)
    }

    fn set(&mut self, limit: Option<usize>, now: Time) {
        (self.limit, self.changed) = (limit, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(database: Oid, since: Time, idle: bool) -> Place {
        Place { database, state: State::Running { since: since * SECOND, idle, asked: None } }
    }

    fn asked(database: Oid, at: Time) -> Place {
        Place { database, state: State::Running { since: 0, idle: false, asked: Some(at * SECOND) } }
    }

    fn waiting(database: Oid, since: Time, needed: bool) -> Place {
        Place { database, state: State::Waiting { since: since * SECOND, needed } }
    }

    fn at(places: &[Place], limit: Option<usize>, now: Time) -> (Vec<Oid>, Vec<Oid>, Option<Time>) {
        let Plan { start, give_way, next } = plan(places, limit, now * SECOND);
        (start, give_way, next.map(|at| at / SECOND))
    }

    #[test]
    fn with_room_all_run_and_nobody_gives_way() {
        let places = [running(1, 0, true), waiting(2, 5, false), waiting(3, 4, true)];
        assert_eq!(at(&places, None, 100), (vec![3, 2], vec![], None));
        assert_eq!(at(&places, Some(3), 100), (vec![3, 2], vec![], None));
    }

    #[test]
    fn who_waits_for_something_gets_the_place_of_who_has_nothing_to_do() {
        let places = [running(1, 0, false), running(2, 50, true), running(4, 40, true), waiting(3, 60, true)];
        assert_eq!(at(&places, Some(3), 100), (vec![], vec![4], None), "there for longest");
        assert_eq!(at(&places[..1], Some(1), 100), (vec![], vec![], None), "nobody waits");
        assert_eq!(at(&[running(1, 0, true), waiting(2, 0, false)], Some(1), 100), (vec![], vec![], None));
    }

    #[test]
    fn who_is_busy_goes_when_its_time_is_over() {
        let places = [running(1, 0, false), running(2, 5, false), waiting(3, 0, true), waiting(4, 0, true)];
        assert_eq!(at(&places, Some(2), 8), (vec![], vec![], Some(10)));
        assert_eq!(at(&places, Some(2), 12), (vec![], vec![1], Some(15)));
        assert_eq!(at(&places, Some(2), 15), (vec![], vec![1, 2], None));
    }

    #[test]
    fn who_has_been_asked_is_waited_for() {
        let places = [asked(1, 100), running(2, 0, true), waiting(3, 0, true)];
        assert_eq!(at(&places, Some(2), 100), (vec![], vec![], Some(101)));
        assert_eq!(at(&places, Some(2), 102), (vec![], vec![2], None), "but not for ever");
    }

    #[test]
    fn the_longest_waiting_first() {
        let places = [running(1, 0, true), waiting(2, 30, true), waiting(3, 20, true), waiting(4, 10, false)];
        assert_eq!(at(&places, Some(2), 100), (vec![3], vec![1], None));
    }

    #[test]
    fn too_many_become_fewer() {
        let places: Vec<Place> = (1..=6).map(|database| running(database, 0, database % 2 == 0)).collect();
        assert_eq!(at(&places, Some(3), 5), (vec![], vec![2, 4, 6], None));
        assert_eq!(at(&places, Some(2), 5), (vec![], vec![2, 4, 6], Some(10)));
    }

    /// Each of many databases that always have something to do gets its turn, and none twice before.
    #[test]
    fn nobody_is_left_out() {
        let mut places: Vec<Place> = (0..10).map(|database| waiting(database, 0, true)).collect();
        let mut starts = [0; 10];
        let mut moment = 0;
        for now in 0..200 {
            let Plan { start, give_way, .. } = plan(&places, Some(3), now * SECOND);
            for database in start {
                starts[database as usize] += 1;
                moment += 1;
                let state = State::Running { since: now * SECOND + moment, idle: false, asked: None };
                places[database as usize] = Place { database, state };
            }
            for database in give_way {
                moment += 1;
                let state = State::Waiting { since: now * SECOND + moment, needed: true };
                places[database as usize] = Place { database, state };
            }
            let (least, most) = (starts.iter().min().unwrap(), starts.iter().max().unwrap());
            assert!(most - least <= 1);
        }
        assert!(starts.iter().all(|starts| *starts >= 5));
    }

    #[test]
    fn the_limit_leaves_room_for_workers() {
        let mut room = Room::default();
        assert_eq!(room.limit(), None);
        room.exhausted(6, 0);
        assert_eq!(room.limit(), Some(3));
        room.exhausted(6, SECOND);
        assert_eq!(room.limit(), Some(3), "a place may be given back in a moment");
        (2..7).for_each(|n| room.exhausted(6, n * SECOND));
        assert_eq!(room.limit(), Some(2));
        room.started();
        room.exhausted(6, 20 * SECOND);
        assert_eq!(room.limit(), Some(2), "something has been started since");
        (20..60).for_each(|n| room.exhausted(6, n * SECOND));
        assert_eq!(room.limit(), Some(1), "one at least");
        let mut alone = Room::default();
        alone.exhausted(0, 0);
        assert_eq!(alone.limit(), Some(1));
        let mut starved = Room::default();
        [0, 1, 5, 6].into_iter().for_each(|at| starved.starved(20, at * SECOND));
        assert_eq!(starved.limit(), Some(9));
    }

    #[test]
    fn the_limit_is_raised_again_while_all_is_well() {
        let mut room = Room::default();
        assert_eq!(room.look(5, 0), None);
        room.exhausted(6, 0);
        room.exhausted(6, 40 * SECOND);
        assert_eq!(room.look(5, 70 * SECOND), Some(100 * SECOND));
        assert_eq!(room.limit(), Some(3));
        assert_eq!(room.look(5, 100 * SECOND), Some(160 * SECOND));
        assert_eq!(room.limit(), Some(4));
        assert_eq!(room.look(5, 170 * SECOND), None);
        assert_eq!(room.limit(), None, "there is room for all");
    }
}
