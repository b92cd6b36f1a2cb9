//! What the parts of one view's refresh have in common.

use crate::exec::clock::Clock;
use crate::identity::AsOwner;
use crate::pg::snapshot::WaveSnapshot;
use crate::plan::build::Planner;

/// The identity and the snapshot in which a view is refreshed, and for whom.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub owner: &'a AsOwner,
    pub snapshot: WaveSnapshot,
    pub asked: Asked,
    /// What depends on the clock.
    pub clock: &'a Clock,
}

impl<'a> Scope<'a> {
    pub fn planner(self) -> Planner<'a> {
        Planner { owner: self.owner, clock: self.clock }
    }
}

/// Why this view is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A user named it.
    ByName,
    /// A user named a view that it is refreshed with.
    InCompany,
    BySchedule,
}

impl Asked {
    /// A user waits for it.
    pub fn by_hand(self) -> bool {
        self != Self::BySchedule
    }
}
