//! Which views have to be refreshed with a set of views: those with snapshot consistency that rest on one of them.
//!
//! Such a view is *out* while it is suspended or has no contents, or while something between it and the set is: then it cannot
//! be brought to the others' snapshot without a refresh that nobody asked for, and they are refreshed without it.

use super::graph::Oid;
use hashbrown::HashSet;

/// What matters of a stream table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// It has snapshot consistency.
    pub snapshot: bool,
    /// It is suspended, or has no contents.
    pub out: bool,
}

/// The stream tables as they are: what reads a view directly, what a view reads directly, how it stands.
pub trait Catalog {
    fn readers(&self, view: Oid) -> Vec<Oid>;
    fn sources(&self, view: Oid) -> Vec<Oid>;
    fn standing(&self, view: Oid) -> Standing;
}

/// The views with snapshot consistency to be refreshed with `wave`, which has all it reads, and are not in it.
pub fn followers(wave: &HashSet<Oid>, catalog: &impl Catalog) -> Vec<Oid> {
    let mut whole = wave.clone();
    let mut followers = Vec::new();
    // Who follows brings along what it reads, and that may have followers of its own.
    while let Some(next) = next_follower(&whole, catalog) {
        whole.extend(ancestors(next, catalog));
        whole.insert(next);
        followers.push(next);
    }
    followers
}

fn next_follower(wave: &HashSet<Oid>, catalog: &impl Catalog) -> Option<Oid> {
    let follows = |view: &Oid| {
        let Standing { snapshot, out } = catalog.standing(*view);
        let brings = || ancestors(*view, catalog).into_iter().filter(|above| !wave.contains(above));
        snapshot && !out && !brings().any(|above| catalog.standing(above).out)
    };
    let mut todo: Vec<Oid> = wave.iter().copied().collect();
    let mut seen = wave.clone();
    while let Some(view) = todo.pop() {
        for reader in catalog.readers(view) {
            if seen.insert(reader) {
                if follows(&reader) {
                    return Some(reader);
                }
                todo.push(reader);
            }
        }
    }
    None
}

/// All stream tables that a view rests on.
pub fn ancestors(view: Oid, catalog: &impl Catalog) -> HashSet<Oid> {
    let mut ancestors = HashSet::new();
    let mut todo = vec![view];
    while let Some(view) = todo.pop() {
        todo.extend(catalog.sources(view).into_iter().filter(|source| ancestors.insert(*source)));
    }
    ancestors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each view with what it reads.
    struct Views<'a> {
        reads: &'a [(Oid, &'a [Oid])],
        snapshot: &'a [Oid],
        out: &'a [Oid],
    }

    impl Catalog for Views<'_> {
        fn readers(&self, view: Oid) -> Vec<Oid> {
            self.reads.iter().filter(|(_, sources)| sources.contains(&view)).map(|(reader, _)| *reader).collect()
        }

        fn sources(&self, view: Oid) -> Vec<Oid> {
            self.reads.iter().find(|(reader, _)| *reader == view).map_or(vec![], |(_, sources)| sources.to_vec())
        }

        fn standing(&self, view: Oid) -> Standing {
            Standing { snapshot: self.snapshot.contains(&view), out: self.out.contains(&view) }
        }
    }

    /// 2 and 3 read 1, 4 reads 2, 5 reads 4 and 6.
    const READS: &[(Oid, &[Oid])] = &[(1, &[]), (2, &[1]), (3, &[1]), (4, &[2]), (5, &[4, 6]), (6, &[])];

    fn of(wave: &[Oid], snapshot: &[Oid], out: &[Oid]) -> Vec<Oid> {
        let mut found = followers(&wave.iter().copied().collect(), &Views { reads: READS, snapshot, out });
        found.sort_unstable();
        found
    }

    #[test]
    fn only_those_that_want_it() {
        assert_eq!(of(&[1], &[], &[]), [0; 0]);
        assert_eq!(of(&[1], &[2], &[]), [2]);
        assert_eq!(of(&[1, 2], &[2], &[]), [0; 0], "it is there already");
        assert_eq!(of(&[1], &[6], &[]), [0; 0]);
    }

    #[test]
    fn through_views_between() {
        assert_eq!(of(&[1], &[4], &[]), [4]);
        assert_eq!(of(&[1], &[2, 3, 4], &[]), [2, 3, 4]);
    }

    #[test]
    fn what_a_follower_brings_has_followers_too() {
        assert_eq!(of(&[6], &[5], &[]), [5]);
        assert_eq!(of(&[6], &[5, 3], &[]), [3, 5], "view 5 brings view 1");
    }

    #[test]
    fn without_those_that_are_out() {
        assert_eq!(of(&[1], &[2, 4], &[2]), [0; 0], "nothing brings view 2 up to date");
        assert_eq!(of(&[1, 2], &[4], &[2]), [4], "somebody refreshes it by hand");
        assert_eq!(of(&[6], &[5], &[1]), [0; 0]);
    }

    #[test]
    fn a_cycle_comes_to_an_end() {
        let reads: &[(Oid, &[Oid])] = &[(1, &[2]), (2, &[1]), (3, &[1])];
        let views = Views { reads, snapshot: &[2, 3], out: &[] };
        assert_eq!(followers(&[1].into_iter().collect(), &views).len(), 2);
    }
}
