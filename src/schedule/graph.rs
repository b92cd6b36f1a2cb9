//! Which stream table reads which, and what follows from it: when each is due, and which are refreshed together.
//!
//! * `cadence`: a schedule of its own or, if `calculated`, whenever any consumer's is, through the whole graph: the
//!   tightest. Without any scheduled consumer: every second, if there is something to do; every minute
//!   if that cannot be known.
//! * `slice`: what is refreshed with a view, in one transaction at one snapshot: its ancestors, and the *mates* of all of
//!   them. Two views are mates when they are branches of a diamond: neither reads the other, some view reads both, and
//!   both read some relation. If one of them moved alone, a reader would find them disagree. And they have one owner: who may
//!   read a view can make it a branch of a diamond, and a branch that fails or takes long holds up the others. A view with
//!   snapshot consistency is the mate of all its ancestors: it moves whenever one of them does.

use super::SECOND;
use super::cron::Cron;
use super::spec::Schedule;
use bitvec::prelude::*;
use hashbrown::{HashMap, HashSet};

/// A relation.
pub type Oid = u32;

/// A set of views, by number.
pub type Set = BitVec<usize>;

/// A stream table as registered.
#[derive(Clone, Debug)]
pub struct Node {
    pub view: Oid,
    /// A role.
    pub owner: Oid,
    pub schedule: Schedule,
    /// The relations it reads, stream tables or not.
    pub sources: Vec<Oid>,
    /// Its sources' changes are captured; if not, it is recomputed each time.
    pub captured: bool,
    /// Its result may change by itself: a schedule that was set recomputes it at each tick, though it is captured.
    pub varies: bool,
    /// It depends on the clock, and is looked at by each tick, or now and then by default.
    pub clock: bool,
    /// It is refreshed whenever a stream table is that it rests on.
    pub snapshot: bool,
}

/// Due whenever any of these says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cadence {
    /// The shortest interval, in microseconds.
    pub every: Option<i64>,
    pub crons: Vec<Cron>,
    /// Nobody has set a schedule, neither on the view nor on one that reads it.
    pub by_default: bool,
}

/// The interval of a `calculated` view that no scheduled view reads, which costs nothing while nothing changes; and of
/// one that has to be recomputed to know.
const WITHOUT_CONSUMER: i64 = SECOND;
pub const WITHOUT_CAPTURE: i64 = 60 * SECOND;

pub struct Graph {
    nodes: Vec<Node>,
    numbers: HashMap<Oid, usize>,
    /// The views that read a relation directly.
    readers: HashMap<Oid, Vec<usize>>,
    /// Distance from the base tables; None: in or below a cycle.
    depths: Vec<Option<usize>>,
    ancestors: Vec<Set>,
    descendants: Vec<Set>,
    slices: Vec<Set>,
    cadences: Vec<Cadence>,
}

impl Cadence {
    fn of(schedule: &Schedule) -> Self {
        match schedule {
            Schedule::Calculated => Self::default(),
            Schedule::Every(duration) => Self { every: Some(duration.as_micros() as i64), ..Self::default() },
            Schedule::Cron(cron) => Self { crons: vec![cron.clone()], ..Self::default() },
        }
    }

    fn is_none(&self) -> bool {
        self.every.is_none() && self.crons.is_empty()
    }

    /// It comes round at least as often as the other.
    pub fn keeps_pace_with(&self, other: &Self, shortest: i64) -> bool {
        match (self.every, other.every) {
            (Some(own), Some(other)) => own.max(shortest) <= other.max(shortest),
            (None, None) => self.crons == other.crons,
            _ => false,
        }
    }

    fn join(&mut self, other: &Self) {
        self.every = self.every.into_iter().chain(other.every).min();
        let new = other.crons.iter().filter(|cron| !self.crons.contains(cron));
        let new: Vec<Cron> = new.cloned().collect();
        self.crons.extend(new);
    }
}

impl Graph {
    pub fn new(nodes: Vec<Node>) -> Self {
        let numbers: HashMap<Oid, usize> = nodes.iter().enumerate().map(|(n, node)| (node.view, n)).collect();
        let mut readers: HashMap<Oid, Vec<usize>> = HashMap::new();
        for (n, node) in nodes.iter().enumerate() {
            node.sources.iter().for_each(|&source| readers.entry(source).or_default().push(n));
        }
        let count = nodes.len();
        let empty = || vec![bitvec![usize, Lsb0; 0; count]; count];
        let mut graph = Self {
            nodes,
            numbers,
            readers,
            depths: vec![None; count],
            ancestors: empty(),
            descendants: empty(),
            slices: empty(),
            cadences: vec![Cadence::default(); count],
        };
        let order = graph.sort();
        graph.relate(&order);
        graph.schedule(&order);
        graph.slice_up(&order);
        graph
    }

    /// Topological order; sets the depths.
    fn sort(&mut self) -> Vec<usize> {
        let mut missing: Vec<usize> = (0..self.nodes.len()).map(|n| self.parents(n).len()).collect();
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|&n| missing[n] == 0).collect();
        let mut next = 0;
        while next < order.len() {
            let n = order[next];
            next += 1;
            self.depths[n] =
                Some(self.parents(n).iter().filter_map(|&p| self.depths[p]).map(|d| d + 1).max().unwrap_or(0));
            for &child in self.children(n) {
                missing[child] -= 1;
                if missing[child] == 0 {
                    order.push(child);
                }
            }
        }
        order
    }

    fn relate(&mut self, order: &[usize]) {
        for &n in order {
            for parent in self.parents(n) {
                let above = self.with_ancestors(parent);
                unite(&mut self.ancestors[n], &above);
            }
            let above: Vec<usize> = self.ancestors[n].iter_ones().collect();
            above.into_iter().for_each(|a| self.descendants[a].set(n, true));
        }
    }

    /// Consumers first: what they want reaches all they read.
    fn schedule(&mut self, order: &[usize]) {
        for &n in order.iter().rev() {
            let mut cadence = Cadence::of(&self.nodes[n].schedule);
            if cadence.is_none() {
                let below: Vec<usize> = self.descendants[n].iter_ones().collect();
                below.into_iter().for_each(|d| cadence.join(&Cadence::of(&self.nodes[d].schedule)));
            }
            if cadence.is_none() {
                let captured = self.nodes[n].captured;
                cadence.every = Some(if captured { WITHOUT_CONSUMER } else { WITHOUT_CAPTURE });
                cadence.by_default = true;
            }
            self.cadences[n] = cadence;
        }
        // Whenever one comes round that it rests on, so does it; and if it has been left behind, it does not wait longer.
        for &n in order.iter().filter(|&&n| self.nodes[n].snapshot) {
            for above in self.ancestors[n].iter_ones() {
                let other = &self.cadences[above];
                let by_default = self.cadences[n].by_default && other.by_default;
                let other = other.clone();
                self.cadences[n].join(&other);
                self.cadences[n].by_default = by_default;
            }
        }
    }

    fn slice_up(&mut self, order: &[usize]) {
        let leaders = self.mates(order);
        let mut companies: HashMap<usize, Set> = HashMap::new();
        for &n in order {
            let company = companies.entry(leaders[n]).or_insert_with(|| bitvec![usize, Lsb0; 0; self.nodes.len()]);
            unite(company, &self.with_ancestors(n));
        }
        for &n in order {
            let mut slice = self.with_ancestors(n);
            let mut todo: Vec<usize> = slice.iter_ones().collect();
            let mut joined: HashSet<usize> = HashSet::new();
            while let Some(member) = todo.pop() {
                if joined.insert(leaders[member]) {
                    let more = minus(&companies[&leaders[member]], &slice);
                    todo.extend(more.iter_ones());
                    unite(&mut slice, &more);
                }
            }
            self.slices[n] = slice;
        }
    }

    fn with_ancestors(&self, n: usize) -> Set {
        let mut set = self.ancestors[n].clone();
        set.set(n, true);
        set
    }

    /// Branches of diamonds, and branches of diamonds they belong to; views with snapshot consistency and what they rest on:
    /// the same number for all of a company.
    fn mates(&self, order: &[usize]) -> Vec<usize> {
        let mut leaders: Vec<usize> = (0..self.nodes.len()).collect();
        let origins = self.origins(order);
        let read: Vec<usize> = order.iter().copied().filter(|&n| self.descendants[n].any()).collect();
        for (at, &a) in read.iter().enumerate() {
            for &b in &read[at + 1..] {
                let (one, other) = (leader(&mut leaders, a), leader(&mut leaders, b));
                let ours = self.nodes[a].owner == self.nodes[b].owner;
                let apart = ours && one != other && !self.ancestors[a][b] && !self.ancestors[b][a];
                if apart && meet(&self.descendants[a], &self.descendants[b]) && meet(&origins[a], &origins[b]) {
                    leaders[other] = one;
                }
            }
        }
        for &n in order.iter().filter(|&&n| self.nodes[n].snapshot) {
            let one = leader(&mut leaders, n);
            for above in self.ancestors[n].iter_ones() {
                let other = leader(&mut leaders, above);
                leaders[other] = one;
            }
        }
        (0..self.nodes.len()).map(|n| leader(&mut leaders, n)).collect()
    }

    /// Every relation a view rests on, stream tables included, by a numbering of its own.
    fn origins(&self, order: &[usize]) -> Vec<Set> {
        let mut numbers: HashMap<Oid, usize> = HashMap::new();
        for source in self.nodes.iter().flat_map(|node| &node.sources) {
            let next = numbers.len();
            numbers.entry(*source).or_insert(next);
        }
        let mut origins = vec![bitvec![usize, Lsb0; 0; numbers.len()]; self.nodes.len()];
        for &n in order {
            for parent in self.parents(n) {
                let above = origins[parent].clone();
                unite(&mut origins[n], &above);
            }
            self.nodes[n].sources.iter().for_each(|source| origins[n].set(numbers[source], true));
        }
        origins
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The number of a view.
    pub fn number(&self, view: Oid) -> Option<usize> {
        self.numbers.get(&view).copied()
    }

    /// The stream tables a view reads directly.
    fn parents(&self, n: usize) -> Vec<usize> {
        let mut parents: Vec<usize> = self.nodes[n].sources.iter().filter_map(|&source| self.number(source)).collect();
        parents.sort_unstable();
        parents.dedup();
        parents
    }

    fn children(&self, n: usize) -> &[usize] {
        self.readers_of(self.nodes[n].view)
    }

    /// The views that read a relation directly.
    pub fn readers_of(&self, relation: Oid) -> &[usize] {
        self.readers.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Every relation that some view reads.
    pub fn relations(&self) -> impl Iterator<Item = Oid> {
        self.readers.keys().copied()
    }

    /// Distance from the base tables; None for a view in or below a cycle, which cannot be refreshed.
    pub fn depth(&self, n: usize) -> Option<usize> {
        self.depths[n]
    }

    pub fn is_acyclic(&self) -> bool {
        self.depths.iter().all(Option::is_some)
    }

    pub fn ancestors(&self, n: usize) -> &Set {
        &self.ancestors[n]
    }

    pub fn descendants(&self, n: usize) -> &Set {
        &self.descendants[n]
    }

    /// What is refreshed with a view, itself included.
    pub fn slice(&self, n: usize) -> &Set {
        &self.slices[n]
    }

    pub fn cadence(&self, n: usize) -> &Cadence {
        &self.cadences[n]
    }
}

/// The number all of a company share; paths are halved on the way.
fn leader(leaders: &mut [usize], mut n: usize) -> usize {
    while leaders[n] != n {
        leaders[n] = leaders[leaders[n]];
        n = leaders[n];
    }
    n
}

/// Adds the elements of another set of the same size.
pub fn unite(set: &mut Set, other: &Set) {
    set.as_raw_mut_slice().iter_mut().zip(other.as_raw_slice()).for_each(|(word, other)| *word |= other);
}

/// What is in `set` and not in `other`.
pub fn minus(set: &Set, other: &Set) -> Set {
    let mut left = set.clone();
    left.as_raw_mut_slice().iter_mut().zip(other.as_raw_slice()).for_each(|(word, other)| *word &= !other);
    left
}

/// They have an element in common.
pub fn meet(a: &Set, b: &Set) -> bool {
    a.as_raw_slice().iter().zip(b.as_raw_slice()).any(|(a, b)| a & b != 0)
}

/// How `view` reads itself, as a path that begins and ends with it, given what every relation reads.
pub fn cycle(view: Oid, sources: impl Fn(Oid) -> Vec<Oid>) -> Option<Vec<Oid>> {
    let mut path = vec![(view, sources(view))];
    let mut seen = vec![];
    while let Some((_, next)) = path.last_mut() {
        match next.pop() {
            Some(source) if source == view => {
                return Some(path.iter().map(|(oid, _)| *oid).chain([view]).collect());
            }
            Some(source) if !seen.contains(&source) => {
                seen.push(source);
                path.push((source, sources(source)));
            }
            Some(_) => (),
            None => drop(path.pop()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::spec;

    fn graph(views: &[(Oid, &str, &[Oid])]) -> Graph {
        let node = |&(view, schedule, sources): &(Oid, &str, &[Oid])| Node {
            view,
            owner: OWNER,
            schedule: spec::parse(schedule).unwrap(),
            sources: sources.to_vec(),
            captured: true,
            varies: false,
            clock: false,
            snapshot: false,
        };
        Graph::new(views.iter().map(node).collect())
    }

    const OWNER: Oid = 3;

    fn views(graph: &Graph, set: &Set) -> Vec<Oid> {
        let mut views: Vec<Oid> = set.iter_ones().map(|n| graph.nodes()[n].view).collect();
        views.sort_unstable();
        views
    }

    fn slice(graph: &Graph, view: Oid) -> Vec<Oid> {
        views(graph, graph.slice(graph.number(view).unwrap()))
    }

    fn every(graph: &Graph, view: Oid) -> Option<i64> {
        graph.cadence(graph.number(view).unwrap()).every.map(|every| every / 1000)
    }

    const T: Oid = 1;
    const S: Oid = 2;

    #[test]
    fn a_chain_is_sliced_upwards() {
        let g = graph(&[(30, "1s", &[20]), (20, "calculated", &[10]), (10, "1h", &[T])]);
        assert_eq!(slice(&g, 30), [10, 20, 30]);
        assert_eq!(slice(&g, 10), [10], "a consumer may lag");
        let depth = |view| g.depth(g.number(view).unwrap());
        assert_eq!([depth(10), depth(20), depth(30)], [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn calculated_is_the_tightest_through_the_whole_graph() {
        let g = graph(&[
            (10, "calculated", &[T]),
            (20, "1h", &[10]),
            (30, "2s", &[20]),
            (40, "calculated", &[30]),
            (50, "@hourly", &[10]),
        ]);
        assert_eq!(every(&g, 10), Some(2000));
        assert_eq!(g.cadence(0).crons.len(), 1, "and at the ticks of a cron expression");
        assert_eq!(every(&g, 20), Some(3_600_000), "its own");
        assert_eq!(every(&g, 40), Some(1000), "nobody reads it");
    }

    #[test]
    fn a_schedule_set_below_is_no_default() {
        let g =
            graph(&[(10, "calculated", &[T]), (20, "1h", &[10]), (30, "calculated", &[20]), (40, "calculated", &[S])]);
        let by_default = |view| g.cadence(g.number(view).unwrap()).by_default;
        assert_eq!([10, 20, 30, 40].map(by_default), [false, false, true, true]);
    }

    #[test]
    fn branches_of_a_diamond_move_together() {
        let g = graph(&[(10, "1s", &[T]), (11, "1h", &[T]), (20, "1m", &[10, 11])]);
        assert_eq!(slice(&g, 10), [10, 11]);
        assert_eq!(slice(&g, 11), [10, 11]);
        assert_eq!(slice(&g, 20), [10, 11, 20]);
    }

    #[test]
    fn nobody_ties_a_view_to_one_of_his_own() {
        // 10 and 11 have one owner; 12, and 20 that reads it with 10, have another one.
        let views: [(Oid, Oid, &[Oid]); 4] = [(10, OWNER, &[T]), (11, OWNER, &[T]), (12, 4, &[11]), (20, 4, &[10, 12])];
        let node = |(view, owner, sources): (Oid, Oid, &[Oid])| Node {
            view,
            owner,
            schedule: Schedule::Calculated,
            sources: sources.to_vec(),
            captured: true,
            varies: false,
            clock: false,
            snapshot: false,
        };
        let g = Graph::new(views.map(node).into());
        assert_eq!(slice(&g, 10), [10, 11], "which the reader of both makes mates");
        assert_eq!(slice(&g, 12), [10, 11, 12]);
        assert_eq!(slice(&g, 20), [10, 11, 12, 20]);
    }

    #[test]
    fn no_diamond_without_a_common_source_or_reader() {
        let g = graph(&[(10, "1s", &[T]), (11, "1h", &[S]), (20, "1m", &[10, 11])]);
        assert_eq!(slice(&g, 10), [10]);
        let g = graph(&[(10, "1s", &[T]), (11, "1h", &[T])]);
        assert_eq!(slice(&g, 10), [10]);
    }

    #[test]
    fn an_ancestor_brings_its_mates() {
        // 10 and 11 make a diamond with 20; 30 reads only 10.
        let g = graph(&[(10, "1s", &[T]), (11, "1h", &[T]), (20, "1m", &[10, 11]), (30, "1s", &[10])]);
        assert_eq!(slice(&g, 30), [10, 11, 30]);
    }

    #[test]
    fn long_branches_agree_too() {
        let g = graph(&[(10, "1s", &[T]), (12, "1s", &[10]), (11, "1h", &[T]), (20, "1m", &[12, 11])]);
        assert_eq!(slice(&g, 10), [10, 11, 12]);
    }

    #[test]
    fn a_chain_of_diamonds_moves_from_the_top() {
        let g = graph(&[
            (10, "1s", &[T]),
            (11, "1s", &[T]),
            (20, "1s", &[10, 11]),
            (30, "1s", &[20]),
            (31, "1s", &[20]),
            (40, "1s", &[30, 31]),
        ]);
        assert_eq!(slice(&g, 10), [10, 11]);
        assert_eq!(slice(&g, 30), [10, 11, 20, 30, 31]);
    }

    /// As `graph`, where these views have snapshot consistency.
    fn graph_with(views: &[(Oid, &str, &[Oid])], snapshot: &[Oid]) -> Graph {
        let mut nodes = graph(views).nodes;
        nodes.iter_mut().for_each(|node| node.snapshot = snapshot.contains(&node.view));
        Graph::new(nodes)
    }

    #[test]
    fn snapshot_consistency_moves_with_all_it_rests_on() {
        let views: &[(Oid, &str, &[Oid])] =
            &[(10, "1s", &[T]), (20, "1h", &[10]), (30, "1h", &[20, S]), (31, "1h", &[20]), (11, "1s", &[S])];
        let g = graph_with(views, &[30]);
        assert_eq!(slice(&g, 10), [10, 20, 30], "and what lies between; another reader may lag");
        assert_eq!(slice(&g, 20), [10, 20, 30]);
        assert_eq!(slice(&g, 31), [10, 20, 30, 31]);
        assert_eq!(slice(&g, 11), [11]);
        assert_eq!(
            [every(&g, 30), every(&g, 20)],
            [Some(1000), Some(3_600_000)],
            "it comes round as often as any of them"
        );
        let g = graph_with(views, &[31, 30]);
        assert_eq!(slice(&g, 10), [10, 20, 30, 31]);
    }

    #[test]
    fn snapshot_consistency_joins_what_it_reads() {
        let g = graph_with(&[(10, "1s", &[T]), (11, "1h", &[S]), (20, "1m", &[10, 11]), (12, "1s", &[11])], &[20]);
        assert_eq!(slice(&g, 10), [10, 11, 20]);
        assert_eq!(slice(&g, 12), [10, 11, 12, 20]);
        let alone = graph_with(&[(10, "1s", &[T])], &[10]);
        assert_eq!(slice(&alone, 10), [10], "it reads no stream table");
    }

    #[test]
    fn pace() {
        let every = |every: i64| Cadence { every: Some(every), ..Cadence::default() };
        assert!(every(5).keeps_pace_with(&every(5), 0) && every(4).keeps_pace_with(&every(5), 0));
        assert!(!every(6).keeps_pace_with(&every(5), 0) && every(6).keeps_pace_with(&every(5), 10));
        let cron = |text: &str| Cadence { crons: vec![super::super::cron::parse(text).unwrap()], ..Cadence::default() };
        assert!(cron("@hourly").keeps_pace_with(&cron("@hourly"), 0));
        assert!(!cron("@hourly").keeps_pace_with(&cron("@daily"), 0));
        assert!(!every(1).keeps_pace_with(&cron("@daily"), 0) && !cron("@daily").keeps_pace_with(&every(1), 0));
    }

    #[test]
    fn cycles_are_found_with_their_path() {
        let reads: HashMap<Oid, Vec<Oid>> =
            [(10, vec![T, 20]), (20, vec![S, 30]), (30, vec![10, 40]), (40, vec![40])].into();
        let sources = |oid: Oid| reads.get(&oid).cloned().unwrap_or_default();
        assert_eq!(cycle(10, sources), Some(vec![10, 20, 30, 10]));
        assert_eq!(cycle(40, sources), Some(vec![40, 40]));
        assert_eq!(cycle(T, sources), None);
        let g = graph(&[(10, "1s", &[20]), (20, "1s", &[10]), (30, "1s", &[20]), (40, "1s", &[T])]);
        assert_eq!([g.depth(0), g.depth(2), g.depth(3)], [None, None, Some(0)]);
    }

    #[test]
    fn deep_and_wide() {
        let deep: Vec<_> = (0..50)
            .map(|n| Node {
                view: 100 + n,
                owner: OWNER,
                schedule: Schedule::Calculated,
                sources: vec![if n == 0 { T } else { 99 + n }],
                captured: true,
                varies: false,
                clock: false,
                snapshot: false,
            })
            .collect();
        let g = Graph::new(deep);
        assert_eq!(g.slice(49).count_ones(), 50);
        let node = |view, schedule, sources| Node {
            view,
            owner: OWNER,
            schedule,
            sources,
            captured: true,
            varies: false,
            clock: false,
            snapshot: false,
        };
        let wide = (0..1000).map(|n| node(100 + n, Schedule::Calculated, vec![T]));
        let sink = node(9, spec::parse("1s").unwrap(), (100..1100).collect());
        let g = Graph::new(wide.chain([sink]).collect());
        assert_eq!(g.slice(0).count_ones(), 1000, "all but the sink");
        assert_eq!(g.descendants(0).count_ones(), 1);
    }
}
