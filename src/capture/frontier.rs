//! How far a view got: the snapshot its contents were computed at (promise 2).
//!
//! A position (LSN, sequence number, xmin) would lose or double the changes of transactions that straddle it; a
//! snapshot says of every transaction whether it was seen. A buffer row is pending when the new snapshot sees it and
//! the frontier does not cover it. Pure: no server symbol, so it is tested without one.

use smallvec::SmallVec;

/// A set of transactions, closed under commit order: exactly those a snapshot sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier {
    /// Every transaction below is seen (unless `own`).
    xmin: u64,
    /// No transaction from here on is seen (unless `own`).
    xmax: u64,
    /// Transactions in between that were still running, ascending.
    running: Vec<u64>,
    /// The transaction that set this frontier and the first of its commands that is not seen, when it had a
    /// transaction id by then: it is neither running nor finished, but seen up to a command.
    own: Option<(u64, u32)>,
    /// Change-buffer pages last written at or before this WAL position hold nothing that is not contained; 0: nothing is
    /// known. It only saves reading them.
    horizon: u64,
    /// Beginnings of long buffers that hold nothing else either. They only save reading them, too.
    beginnings: SmallVec<[Beginning; 2]>,
}

/// The first pages of a change-buffer segment, as a view knows them (walk.rs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The segment's file, and the transaction and command of its very first row: another one means another life of the
    /// segment. (The same transaction may begin two, if a savepoint takes back what it had written to the first.)
    pub file: u32,
    pub first: (u64, u32),
    /// Pages below hold nothing that is not contained, and get no more rows.
    pub closed: u32,
    /// So will it be of pages below this one, as soon as all transactions below `fence` have ended.
    pub closing: u32,
    pub fence: u64,
}

/// Why stored bytes are no frontier.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Another release of the library wrote them.
    Format(u8),
    Malformed,
}
use Unreadable::Malformed;

/// The format of stored frontiers, their first byte. Release 0.1.0 wrote the same without that byte: its frontiers have a
/// length that is a multiple of 8, and no later format may have one.
const FORMAT: u8 = 1;
const HEADER: usize = 40;
const BEGINNING: usize = 32;

impl Frontier {
    /// `running` in any order; those outside `xmin..xmax` say nothing and are dropped.
    pub fn new(xmin: u64, xmax: u64, running: impl IntoIterator<Item = u64>, own: Option<(u64, u32)>) -> Self {
        let mut running: Vec<u64> = running.into_iter().filter(|xid| (xmin..xmax).contains(xid)).collect();
        running.sort_unstable();
        running.dedup();
        Self { xmin, xmax, running, own, horizon: 0, beginnings: SmallVec::new() }
    }

    /// The same frontier, further along in the transaction that sets it: also seen are its commands below `cid`.
    /// For changes a refresh itself writes after its snapshot was taken (the deltas of stream tables).
    pub fn with_own(&self, xid: u64, cid: u32) -> Self {
        Self { own: Some((xid, cid)), ..self.clone() }
    }

    /// The same frontier, with what is known of the change buffers' pages.
    pub fn with_horizon(self, horizon: u64) -> Self {
        Self { horizon, ..self }
    }

    /// The same frontier, without what the transaction that took it has done itself.
    pub fn without_own(self) -> Self {
        Self { own: None, ..self }
    }

    pub fn own_xid(&self) -> Option<u64> {
        self.own.map(|(xid, _)| xid)
    }

    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// The same frontier, with what is known of the beginnings of long buffers.
    pub fn with_beginnings(self, beginnings: impl IntoIterator<Item = Beginning>) -> Self {
        Self { beginnings: beginnings.into_iter().collect(), ..self }
    }

    /// What is known of a segment in this life of its.
    pub fn beginning(&self, file: u32, first: (u64, u32)) -> Option<Beginning> {
        self.beginnings.iter().find(|known| (known.file, known.first) == (file, first)).copied()
    }

    /// Every transaction below has ended.
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Contains transactions from `next` on.
    pub fn ends_after(&self, next: u64) -> bool {
        self.xmax > next || self.own.is_some_and(|(xid, _)| xid >= next)
    }

    /// Whether a change made by command `cid` of top-level transaction `xid` is contained. The change is known to be
    /// visible in a newer snapshot. Never panics: it runs inside the scan's guard.
    #[inline]
    pub fn covers(&self, xid: u64, cid: u32) -> bool {
        match self.own {
            Some((own, until)) if own == xid => cid < until,
            _ => self.sees(xid),
        }
    }

    #[inline]
    fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Whether everything contained here is contained in `newer`. If not, moving to `newer` would go back in time.
    pub fn precedes(&self, newer: &Frontier) -> bool {
        self.seen_up_to_own(newer)
            && self.xmax <= newer.xmax
            && newer.running.iter().all(|&xid| !self.sees_finished(xid))
            && newer.own.is_none_or(|(xid, _)| !self.sees_finished(xid))
    }

    /// Seen, and seen whole.
    fn sees_finished(&self, xid: u64) -> bool {
        self.own.is_none_or(|(own, _)| own != xid) && self.sees(xid)
    }

    /// `newer` contains at least as much of our own transaction as we do.
    fn seen_up_to_own(&self, newer: &Frontier) -> bool {
        self.own.is_none_or(|(xid, until)| match newer.own {
            Some((own, newer_until)) if own == xid => until <= newer_until,
            _ => newer.sees(xid),
        })
    }

    /// That of a view which contains nothing.
    pub fn nothing() -> Self {
        Self::new(0, 0, [], None)
    }

    /// The form kept in the catalog: the format, then little-endian xmin, xmax, own xid (0: none), horizon, own command, count,
    /// running, beginnings.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (own_xid, own_cid) = self.own.unwrap_or((0, 0));
        let mut bytes = Vec::with_capacity(1 + HEADER + 8 * self.running.len() + BEGINNING * self.beginnings.len());
        bytes.push(FORMAT);
        for word in [self.xmin, self.xmax, own_xid, self.horizon] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(own_cid.to_le_bytes());
        bytes.extend((self.running.len() as u32).to_le_bytes());
        bytes.extend(self.running.iter().flat_map(|xid| xid.to_le_bytes()));
        bytes.extend(self.beginnings.iter().flat_map(|beginning| beginning.to_bytes()));
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes {
            bytes if bytes.len().is_multiple_of(8) => Self::body(bytes),
            [FORMAT, body @ ..] => Self::body(body),
            [format, ..] => Err(Unreadable::Format(*format)),
            [] => Err(Malformed),
        }
    }

    fn body(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (header, rest) = bytes.split_at_checked(HEADER).ok_or(Malformed)?;
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (running, rest) = rest.split_at_checked(8 * half(36) as usize).ok_or(Malformed)?;
        let (beginnings, []) = rest.as_chunks::<BEGINNING>() else { return Err(Malformed) };
        let own = (word(16) != 0).then(|| (word(16), half(32)));
        let running = running.as_chunks::<8>().0.iter().map(|xid| u64::from_le_bytes(*xid));
        let frontier = Self::new(word(0), word(8), running, own).with_horizon(word(24));
        Ok(frontier.with_beginnings(beginnings.iter().map(Beginning::from_bytes)))
    }

    /// As `pg_snapshot` prints: `xmin:xmax:running,...`.
    pub fn to_text(&self) -> String {
        let running: Vec<String> = self.running.iter().map(u64::to_string).collect();
        format!("{}:{}:{}", self.xmin, self.xmax, running.join(","))
    }
}

impl Beginning {
    fn to_bytes(self) -> [u8; BEGINNING] {
        let mut bytes = [0; BEGINNING];
        let (xid, cid) = self.first;
        bytes[..8].copy_from_slice(&xid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.fence.to_le_bytes());
        for (at, half) in [(16, self.file), (20, self.closed), (24, self.closing), (28, cid)] {
            bytes[at..at + 4].copy_from_slice(&half.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; BEGINNING]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self { first: (word(0), half(28)), fence: word(8), file: half(16), closed: half(20), closing: half(24) }
    }

    /// What is known after a walk to a frontier with this `xmin` that ended at page `end`, when transactions below `fence`
    /// could have had a place before `end`.
    pub fn after(self, xmin: u64, end: u32, fence: u64) -> Self {
        if self.closing > self.closed && xmin < self.fence {
            return self;
        }
        Self { closed: self.closing, closing: end.max(self.closing), fence, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{Beginning, FORMAT, Frontier, HEADER, Unreadable, Unreadable::Malformed};

    fn frontier(xmin: u64, xmax: u64, running: &[u64]) -> Frontier {
        Frontier::new(xmin, xmax, running.iter().copied(), None)
    }

    #[test]
    fn covers_what_the_snapshot_saw() {
        let f = frontier(10, 20, &[17, 12]);
        let covered: Vec<u64> = (8..22).filter(|&xid| f.covers(xid, 0)).collect();
        assert_eq!(covered, [8, 9, 10, 11, 13, 14, 15, 16, 18, 19]);
    }

    #[test]
    fn a_transaction_that_was_running_is_pending_however_late_it_commits() {
        let f = frontier(10, 1000, &[10]);
        assert!(!f.covers(10, 0));
        assert!(f.covers(999, 0));
    }

    #[test]
    fn own_transaction_is_covered_up_to_its_command() {
        // Not in the running list of its own snapshot, and below xmax because a later one finished first.
        let f = Frontier::new(10, 20, [12], Some((15, 7)));
        assert!(f.covers(15, 6));
        assert!(!f.covers(15, 7));
        assert!(f.covers(16, 7));
        let f = f.with_own(15, 9);
        assert!(f.covers(15, 8));
    }

    #[test]
    fn transactions_that_have_yet_to_begin() {
        let f = frontier(10, 20, &[12]);
        assert!(f.ends_after(19) && !f.ends_after(20), "20 is the first that was not given out");
        let f = f.with_own(25, 3);
        assert!(f.ends_after(25) && !f.ends_after(26), "25 had begun");
    }

    #[test]
    fn many_running_transactions() {
        let f = frontier(0, 4000, &(0..4000).step_by(2).collect::<Vec<_>>());
        assert!((0..4000).all(|xid| f.covers(xid, 0) == (xid % 2 == 1)));
    }

    #[test]
    fn precedes_itself_and_later_snapshots() {
        let f = frontier(10, 20, &[12, 17]);
        assert!(f.precedes(&f));
        assert!(f.precedes(&frontier(17, 25, &[17, 22])));
        assert!(f.precedes(&frontier(10, 20, &[12])));
    }

    #[test]
    fn does_not_precede_an_older_snapshot() {
        let f = frontier(10, 20, &[12]);
        assert!(!f.precedes(&frontier(10, 20, &[12, 17])), "17 was seen, now runs");
        assert!(!f.precedes(&frontier(10, 19, &[12])), "19 was seen, now is in the future");
    }

    #[test]
    fn precedes_within_and_after_its_own_transaction() {
        let first = Frontier::new(10, 20, [], Some((25, 3)));
        let later = Frontier::new(10, 22, [], Some((25, 8)));
        assert!(first.precedes(&later));
        assert!(!later.precedes(&first));
        assert!(first.precedes(&frontier(26, 26, &[])), "committed and seen whole");
        assert!(!first.precedes(&frontier(10, 24, &[])), "another session does not see 25");
        assert!(!first.precedes(&frontier(10, 30, &[25])), "25 still runs");
    }

    #[test]
    fn own_transaction_of_the_newer_one_was_not_seen_before() {
        let seen_whole = frontier(10, 20, &[]);
        assert!(!seen_whole.precedes(&Frontier::new(10, 20, [], Some((15, 3)))));
        let not_yet = frontier(10, 20, &[15]);
        assert!(not_yet.precedes(&Frontier::new(10, 20, [], Some((15, 3)))));
    }

    #[test]
    fn pages_close_when_those_who_could_write_there_have_ended() {
        let unknown = Beginning { file: 1, first: (5, 0), closed: 0, closing: 0, fence: 0 };
        let seen = unknown.after(10, 100, 20);
        assert_eq!((seen.closed, seen.closing, seen.fence), (0, 100, 20));
        assert_eq!(seen.after(19, 300, 40), seen, "19 may still write to page 50");
        let closed = seen.after(20, 300, 40);
        assert_eq!((closed.closed, closed.closing, closed.fence), (100, 300, 40));
        let nothing_new = closed.after(50, 0, 60);
        assert_eq!((nothing_new.closed, nothing_new.closing), (300, 300));
    }

    #[test]
    fn a_segment_that_begins_with_another_row_is_another_one() {
        let known = Beginning { file: 1, first: (5, 2), closed: 7, closing: 7, fence: 0 };
        let f = frontier(10, 20, &[]).with_beginnings([known]);
        assert_eq!(f.beginning(1, (5, 2)), Some(known));
        assert_eq!([f.beginning(1, (6, 2)), f.beginning(1, (5, 3)), f.beginning(2, (5, 2))], [None; 3]);
    }

    #[test]
    fn bytes_round_trip() {
        let beginning =
            |n: u32| Beginning { file: n, first: (1 << 40, n), closed: 3, closing: u32::MAX, fence: u64::MAX - 1 };
        for own in [None, Some((15, 7)), Some((u64::MAX, u32::MAX))] {
            let f = Frontier::new(10, 1 << 40, [12, 1 << 33, 99], own).with_horizon(1 << 35);
            assert_eq!(Frontier::from_bytes(&f.to_bytes()), Ok(f.clone()));
            let f = f.with_beginnings([beginning(1), beginning(2), beginning(3)]);
            assert_eq!(Frontier::from_bytes(&f.to_bytes()), Ok(f));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(Frontier::from_bytes(&[]), Err(Malformed));
        assert_eq!(Frontier::from_bytes(&[0; HEADER - 8]), Err(Malformed));
        let whole = frontier(1, 9, &[3, 4]).to_bytes();
        assert_eq!(Frontier::from_bytes(&whole[..whole.len() - 8]), Err(Malformed));
        assert_eq!(Frontier::from_bytes(&whole[..1]), Err(Malformed));
    }

    #[test]
    fn formats_are_told_apart() {
        let f = Frontier::new(10, 20, [12, 15], Some((14, 3))).with_horizon(7);
        let bytes = f.to_bytes();
        assert_eq!(Frontier::from_bytes(&bytes[1..]), Ok(f), "release 0.1.0");
        for format in (0..=255).filter(|format| *format != FORMAT) {
            let mut other = bytes.clone();
            other[0] = format;
            assert_eq!(Frontier::from_bytes(&other), Err(Unreadable::Format(format)));
            assert_eq!(Frontier::from_bytes(&other[..3]), Err(Unreadable::Format(format)));
        }
    }

    #[test]
    fn nothing_covers_nothing() {
        let nothing = Frontier::nothing();
        assert!([0, 1, 5, u64::MAX].iter().all(|&xid| !nothing.covers(xid, 0)));
        assert!(nothing.precedes(&frontier(3, 3, &[])));
    }

    #[test]
    fn text_is_pg_snapshot() {
        assert_eq!(frontier(10, 20, &[14, 10]).to_text(), "10:20:10,14");
        assert_eq!(frontier(10, 10, &[]).to_text(), "10:10:");
    }
}
