//! Binds the few server functions that pgrx-pg-sys leaves out (include/pg_trickle.h).
use std::{env, path::PathBuf, process::Command};

const FUNCTIONS: &[&str] = &[
    "SetMatViewPopulatedState",
    "CheckTableForSerializableConflictIn",
    "NewRelationCreateToastTable",
    "reduce_outer_joins",
    "expand_grouping_sets",
    "build_aggregate_deserialfn_expr",
    "build_aggregate_finalfn_expr",
    "build_aggregate_serialfn_expr",
    "build_aggregate_transfn_expr",
    "datumCopy",
    "resolve_aggregate_transtype",
    "check_sql_fn_retval",
    "prepare_sql_fn_parse_info",
    "sql_fn_parser_setup",
    "interval_in",
    "timestamptz_in",
    "nextval_internal",
    "Async_Notify",
    "datum_image_eq",
    "datum_image_hash",
    "hash_bytes_extended",
    "get_partition_ancestors",
    "has_superclass",
    "has_subclass",
    "find_all_inheritors",
    "NewHeapCreateToastTable",
    // Called where nothing may raise: in the middle of a commit.
    "GetCurrentTimestamp",
    "IsLogicalWorker",
    "LWLockAcquire",
    "LWLockRelease",
    "SetLatch",
    // Called in loops inside one guard.
    "ExecStoreMinimalTuple",
    "ExecStoreVirtualTuple",
    "palloc",
    "pfree",
    "ProcessInterrupts",
    "table_open",
    "table_close",
    "GetTopFullTransactionId",
    "GetCurrentCommandId",
    "heap_insert",
    "ReleaseSysCache",
    "SearchSysCache1",
    "SearchSysCache3",
    "GetXLogInsertRecPtr",
    "toast_compress_datum",
    "GetBulkInsertState",
    "FreeBulkInsertState",
    "FreeAccessStrategy",
    "heap_beginscan",
    "heap_getnext",
    "heap_endscan",
    "ReadBufferExtended",
    "RelationGetNumberOfBlocksInFork",
    "LockBuffer",
    "ReleaseBuffer",
    "UnlockReleaseBuffer",
    "BufferGetLSNAtomic",
    "HeapTupleSatisfiesVisibility",
    "CheckForSerializableConflictOutNeeded",
    "HeapCheckForSerializableConflictOut",
    "PredicateLockRelation",
    "heap_compute_data_size",
    "heap_fill_tuple",
    "detoast_external_attr",
    "pg_detoast_datum_copy",
    "slot_getsomeattrs_int",
    "MakeSingleTupleTableSlot",
    "table_slot_create",
    "GetLatestSnapshot",
    "RegisterSnapshot",
    "UnregisterSnapshot",
    "ExecDropSingleTupleTableSlot",
    "tuplestore_tuple_count",
    "tuplestore_select_read_pointer",
    "tuplestore_rescan",
    "tuplestore_gettupleslot",
    // Called outside any guard, on the way of an error.
    "AllocSetContextCreateInternal",
    "FlushErrorState",
    "MemoryContextDelete",
    "MemoryContextSetParent",
    "pstrdup",
    "ReThrowError",
    "ThrowErrorData",
];

/// Functions of the server that pgrx calls to catch and to raise an error: `__wrap_NAME` in src/pg/elog.rs is called instead.
const WRAPPED: &[&str] = &["CopyErrorData", "errfinish"];

fn main() {
    for function in WRAPPED {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--wrap={function}");
    }
    // Ours, whatever other libraries of the server's process export under the same name.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic-functions");
    println!("cargo:rerun-if-changed=include/pg_trickle.h");
    println!("cargo:rerun-if-env-changed=PGRX_PG_CONFIG_PATH");
    let pg_config = env::var("PGRX_PG_CONFIG_PATH").unwrap_or_else(|_| "pg_config".into());
    let output = Command::new(&pg_config)
        .arg("--includedir-server")
        .output()
        .unwrap_or_else(|e| panic!("cannot run {pg_config}: {e}"));
    let include = String::from_utf8(output.stdout).expect("pg_config prints UTF-8");
    let mut builder = bindgen::builder()
        .header("include/pg_trickle.h")
        .clang_arg(format!("-I{}", include.trim()))
        .clang_arg("-D_GNU_SOURCE")
        .allowlist_recursively(false)
        .layout_tests(false)
        .override_abi(bindgen::Abi::CUnwind, ".*")
        .rust_edition(bindgen::RustEdition::Edition2024)
        .raw_line("use pgrx::pg_sys::*;");
    builder = builder
        .allowlist_type("BulkInsertState(Data)?")
        .allowlist_type("FormData_pg_aggregate")
        .allowlist_type("SQLFunctionParseInfo(Ptr)?")
        .allowlist_var("AggregateRelationId|Anum_pg_aggregate_.*");
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("server.rs");
    builder.generate().expect("server headers bind").write_to_file(out).expect("OUT_DIR is writable");
}
