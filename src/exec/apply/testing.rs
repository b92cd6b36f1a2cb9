// NOT FOR MERGE: drives the node from SQL.
use super::*;
use pgrx::prelude::*;

fn key_of(key: Option<Vec<i32>>) -> Option<Vec<usize>> { key.map(|k| k.into_iter().map(|c| c as usize).collect()) }

#[pg_extern]
fn test_ensure(view: pg_sys::Oid, key: Option<Vec<i32>>) -> String {
    format!("{:?}", strip(ensure_index(view, key_of(key).as_deref())))
}
#[pg_extern]
fn test_drop_hash(view: pg_sys::Oid) { drop_hash_indexes(view) }
fn strip(i: ApplyIndex) -> String { match i { ApplyIndex::Key{columns,..}=>format!("key {columns:?}"), ApplyIndex::Hash{columns,..}=>format!("hash {columns:?}"), o=>format!("{o:?}") } }

#[pg_extern]
fn test_apply(view: pg_sys::Oid, query: &str, mode: &str, key: Option<Vec<i32>>, grouped: bool) -> String {
    let mode = match mode { "delta" => Mode::Delta, "diff" => Mode::Diff, _ => Mode::Populate };
    let index = index::find(view, key_of(key).as_deref());
    let q = std::ffi::CString::new(query).unwrap();
    unsafe {
        pg_sys::LockRelationOid(view, pg_sys::ExclusiveLock as i32);
        let raw = pg_sys::pg_parse_query(q.as_ptr());
        let raw: *mut pg_sys::RawStmt = (*(*raw).elements).ptr_value.cast();
        let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(raw, q.as_ptr(), std::ptr::null(), 0, std::ptr::null_mut());
        let stmt = pg_sys::pg_plan_query((*(*queries).elements).ptr_value.cast(), q.as_ptr(), 0, std::ptr::null_mut());
        (*stmt).planTree = wrap((*stmt).planTree, ApplyNode { view, mode, index: &index, grouped });
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let desc = pg_sys::CreateQueryDesc(stmt, q.as_ptr(), pg_sys::GetActiveSnapshot(), std::ptr::null_mut(),
            pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone), std::ptr::null_mut(), std::ptr::null_mut(), 0);
        let t = std::time::Instant::now();
        pg_sys::ExecutorStart(desc, 0);
        pg_sys::ExecutorRun(desc, pg_sys::ScanDirection::ForwardScanDirection, 0);
        pg_sys::ExecutorFinish(desc);
        let c = counters((*desc).planstate);
        pg_sys::ExecutorEnd(desc);
        let t = t.elapsed();
        pg_sys::FreeQueryDesc(desc);
        pg_sys::PopActiveSnapshot();
        if std::env::var("T").is_ok() || pg_sys::log_duration { format!("+{} ~{} -{} {:?}", c.inserted, c.updated, c.deleted, t) } else {format!("+{} ~{} -{}", c.inserted, c.updated, c.deleted)}
    }
}
