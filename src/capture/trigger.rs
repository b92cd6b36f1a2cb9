//! The trigger function behind all capture triggers.
//!
//! Statement triggers read the transition tables and write the change buffer; row triggers write one row (pair) each;
//! what TRUNCATE removes is read before it, or the sources' views are due for recomputation (truncation.rs). The writer needs no right on anything of
//! ours: triggers check none when they fire, and the buffer is written natively.
//!
//! The loop over rows calls the server directly inside one guard for the statement; a guard per call would cost as
//! much as the work (SPIKE.md, A).

use super::buffer::{Page, Writer};
use super::cache::{self, Feed};
use super::{references, truncation};
use crate::error::cannot_happen;
use crate::pg::relation::Relation;
use crate::pg::{interrupt, server};
use crate::settings;
use crate::wakeup;
use pgrx::{pg_guard, pg_sys};
use std::cell::UnsafeCell;

const EVENT: u32 = pg_sys::TRIGGER_EVENT_OPMASK;

thread_local! {
    /// Reused by all statements: nothing that runs inside capture fires triggers.
    static PAGE: UnsafeCell<Page> = const { UnsafeCell::new(Page::new()) };
}

/// `pgtrickle_internal.capture()`.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn pgtrickle_capture(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function manager's call; a trigger call has a TriggerData as context.
    unsafe {
        let data = (*fcinfo).context.cast::<pg_sys::TriggerData>();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_TriggerData {
            cannot_happen("the capture function was not called as a trigger");
        }
        capture(&*data);
    }
    pg_sys::Datum::from(0usize)
}

/// Tells the server how the function is called.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_pgtrickle_capture() -> &'static pg_sys::Pg_finfo_record {
    const INFO: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &INFO
}

unsafe fn capture(data: &pg_sys::TriggerData) {
    // Without our hooks in every session changes would be lost unseen: better no writes than that.
    settings::require_preloaded();
    // Between the row triggers of a statement the server itself makes no check.
    interrupt::check();
    let feeds = cache::feeds(data.tg_relation);
    // SAFETY: the trigger's own data.
    unsafe {
        if data.tg_event & EVENT == pg_sys::TRIGGER_EVENT_TRUNCATE {
            let table = Relation::open((*data.tg_relation).rd_id, pg_sys::NoLock);
            if data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE {
                feeds.all().for_each(|feed| truncation::before(feed, &table));
            } else {
                feeds.all().for_each(|feed| truncation::after(feed.source, table.oid()));
            }
            return;
        }
        feeds.all().for_each(|feed| truncation::overtaken(feed.source));
        if data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0 {
            for feed in &feeds.row {
                capture_row(data, feed);
                wakeup::touch(feed.source);
            }
        } else if !is_empty(data.tg_oldtable) || !is_empty(data.tg_newtable) {
            for feed in &feeds.statement {
                capture_statement(data, feed);
                wakeup::touch(feed.source);
            }
        }
    }
}

unsafe fn is_empty(rows: *mut pg_sys::Tuplestorestate) -> bool {
    // SAFETY: null or a live tuplestore; the call cannot raise.
    rows.is_null() || unsafe { server::tuplestore_tuple_count(rows) } == 0
}

unsafe fn capture_row(data: &pg_sys::TriggerData, feed: &Feed) {
    // SAFETY: the slots hold the row(s) of this event; nothing in the guarded closure has a destructor or panics.
    unsafe {
        server::guarded(|| {
            let mut writer = begin(feed, data);
            match data.tg_event & EVENT {
                pg_sys::TRIGGER_EVENT_INSERT => feed.image.form(&mut writer, data.tg_trigslot, 1),
                pg_sys::TRIGGER_EVENT_DELETE => feed.image.form(&mut writer, data.tg_trigslot, -1),
                _ => feed.image.form_pair(&mut writer, data.tg_trigslot, data.tg_newslot),
            }
            writer.finish();
        });
    }
}

unsafe fn capture_statement(data: &pg_sys::TriggerData, feed: &Feed) {
    // SAFETY: the transition tables hold rows in the format of the trigger's relation; as above for the closure.
    unsafe {
        server::guarded(|| {
            let mut writer = begin(feed, data);
            let (old, new) = (data.tg_oldtable, data.tg_newtable);
            let desc = (*data.tg_relation).rd_att;
            match (old.is_null(), new.is_null()) {
                (true, _) => copy(feed, &mut writer, Rows::of(new, desc), 1),
                (_, true) => copy(feed, &mut writer, Rows::of(old, desc), -1),
                _ => copy_pairs(feed, &mut writer, Rows::of(old, desc), Rows::of(new, desc)),
            }
            writer.finish();
        });
    }
}

unsafe fn begin(feed: &Feed, data: &pg_sys::TriggerData) -> Writer {
    let page = PAGE.with(UnsafeCell::get);
    // SAFETY: inside the guard of the callers; one writer at a time.
    unsafe { Writer::begin(feed.segment, page, references::toast_of(data.tg_relation)) }
}

unsafe fn copy(feed: &Feed, writer: &mut Writer, rows: Rows, weight: i64) {
    // SAFETY: inside a guard; the slot holds the row just read.
    unsafe {
        while rows.next() {
            feed.image.put(writer, rows.slot, weight);
        }
        rows.end();
    }
}

/// The n-th rows of both tables usually are the two images of one row. Where they are not (a trigger suppressed part of
/// a move between partitions) the pairing is off, but leaving out an equal pair is right for any pairing.
unsafe fn copy_pairs(feed: &Feed, writer: &mut Writer, old: Rows, new: Rows) {
    // SAFETY: inside a guard; a slot holds the row just read from its table.
    unsafe {
        loop {
            match (old.next(), new.next()) {
                (true, true) => feed.image.put_pair(writer, old.slot, new.slot),
                (true, false) => feed.image.put(writer, old.slot, -1),
                (false, true) => feed.image.put(writer, new.slot, 1),
                (false, false) => break,
            }
        }
        old.end();
        new.end();
    }
}

/// Reads a transition table. The row in the slot is valid until the next is read.
struct Rows {
    table: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Rows {
    unsafe fn of(table: *mut pg_sys::Tuplestorestate, desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: inside a guard. Read pointer 0 is nobody else's: executor scans allocate their own.
        unsafe {
            server::tuplestore_select_read_pointer(table, 0);
            server::tuplestore_rescan(table);
            let slot = server::MakeSingleTupleTableSlot(desc, &raw const pg_sys::TTSOpsMinimalTuple);
            Self { table, slot }
        }
    }

    unsafe fn next(&self) -> bool {
        // SAFETY: inside a guard.
        unsafe {
            interrupt::check_inside_guard();
            server::tuplestore_gettupleslot(self.table, true, false, self.slot)
        }
    }

    unsafe fn end(&self) {
        // SAFETY: made by `of`.
        unsafe { server::ExecDropSingleTupleTableSlot(self.slot) };
    }
}
