//! Capture: every committed change of a source reaches its change buffer exactly once (promises 2 and 8).
//!
//! A source is a table (with its partitions and children) that some view reads, or a stream table that others read. In
//! the order of the data:
//!
//! * [`install`] starts capture: two segments (`segment`), triggers on every member of the `family` (`triggers`);
//!   [`ddl`] keeps that right as tables change (`fingerprint`).
//! * [`departure`] reads the rows of members that leave, `member_rows` makes changes of them and of those that come.
//! * `trigger` runs in the writer's statement: looks up what the table feeds (`cache`), makes versions of rows (`image`)
//!   and writes them packed (`buffer`). [`DeltaWriter`] does the same for a stream table's refresh.
//! * [`frontier`] says what a view has seen; [`BufferScan`] and [`Pending`] read what is beyond it (`scan`).
//! * `check` says whether the triggers are all there, [`repair`] puts them back; [`restore`] makes them while pg_upgrade
//!   restores a schema.
//! * [`trim`] throws away what every view has seen; [`grown_buffers`] are those where it could not for too long.
//!
//! Locks, in the order they are taken: the members, the source's row in our catalog (`lock`), the segments.

mod buffer;
mod cache;
mod check;
pub mod ddl;
mod delta_writer;
pub mod departure;
mod family;
mod fingerprint;
pub mod frontier;
mod growth;
mod image;
mod in_use;
mod install;
mod lock;
mod member_rows;
mod overtaken;
mod references;
pub mod repair;
pub mod restore;
pub mod scan;
mod segment;
mod snapshot;
mod trigger;
mod triggers;
mod trim;
mod truncation;
mod walk;

pub use ddl::{before_detach_concurrently, on_ddl, on_subscription_change};
pub use delta_writer::DeltaWriter;
pub use family::{ancestors, is_detaching};
pub use frontier::Frontier;
pub use growth::{Grown, buffer_limit, grown_buffers};
pub use in_use::in_use;
pub use install::{install, pin, shrink, uninstall};
pub use overtaken::{is_rewritten, overtaken};
pub use scan::{BufferScan, Pending};
pub use triggers::table_of as table_of_trigger;
pub use trim::trim;
