//! Those who make it hard: DDL, locks, settings, pauses, refreshes by hand; and those who cancel and terminate.

use fastrand::Rng;

use crate::session::{Failed, Session};
use crate::stage::Stage;
use crate::world::{BY_HAND, VIEWS, create_view};

const SOURCES: &[&str] = &["customers", "orders", "clicks", "events", "payments"];

pub fn alter(stage: &Stage) {
    let mut rng = Rng::with_seed(stage.seed.wrapping_mul(43));
    let mut session = Session::new(stage, "soak ddl");
    while !stage.is_over() {
        let (what, done) = disturb(&mut session, &mut rng);
        if done.is_ok() {
            stage.count(what);
        }
        stage.idle(rng.u64(0..500));
    }
}

fn disturb(session: &mut Session, rng: &mut Rng) -> (&'static str, Result<(), Failed>) {
    let source = SOURCES[rng.usize(..SOURCES.len())];
    let (view, schedule, _) = VIEWS[rng.usize(..VIEWS.len())];
    match rng.u32(0..16) {
        0 => ("ADD COLUMN", session.run(&format!("ALTER TABLE {source} ADD COLUMN IF NOT EXISTS extra int DEFAULT 7"))),
        1 => ("DROP COLUMN", session.run(&format!("ALTER TABLE {source} DROP COLUMN IF EXISTS extra"))),
        2 => ("CREATE INDEX", session.run("CREATE INDEX IF NOT EXISTS soak_orders ON orders (amount)")),
        3 => ("DROP INDEX", session.run("DROP INDEX IF EXISTS soak_orders, soak_totals")),
        4 => ("CREATE INDEX on a view", session.run("CREATE INDEX IF NOT EXISTS soak_totals ON order_totals (total)")),
        5 => {
            let other = ["50ms", "300ms", "2s", "calculated", schedule][rng.usize(..5)];
            (
                "ALTER schedule",
                session.run(&format!("ALTER MATERIALIZED VIEW {view} SET (pg_trickle.schedule = '{other}')")),
            )
        }
        6 => ("CREATE stream table", create(session, rng)),
        7 => ("DROP stream table", session.run(&format!("DROP MATERIALIZED VIEW IF EXISTS extra_{}", rng.u32(0..4)))),
        8 => ("VACUUM", session.run(&format!("VACUUM (ANALYZE) {source}, {view}"))),
        9 => ("VACUUM FULL", session.run(&format!("VACUUM FULL {}", if rng.bool() { source } else { view }))),
        10 => ("DETACH and ATTACH", detach(session, rng)),
        11 => ("LOCK of a source", lock(session, source, rng)),
        12 => ("LOCK of a view", lock(session, view, rng)),
        13 => {
            let view = BY_HAND[rng.usize(..BY_HAND.len())];
            let how = if rng.bool() { "CONCURRENTLY" } else { "" };
            ("REFRESH", session.run(&format!("REFRESH MATERIALIZED VIEW {how} {view}")))
        }
        14 => ("pause_all", pause(session, rng)),
        _ => ("wait_until_fresh", session.run(&format!("SELECT pgtrickle.wait_until_fresh('{view}', '2s')"))),
    }
}

/// Stream tables that come and go, over sources and over the tips of diamonds: making one refreshes what it reads.
fn create(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    let (number, query) = match rng.u32(0..4) {
        0 => (0, "SELECT customer, count(*) FROM clicks GROUP BY customer"),
        1 => (
            1,
            "SELECT t.customer, p.cents FROM top t JOIN orders o USING (customer) JOIN payments p ON p.purchase = o.id",
        ),
        2 => (2, "SELECT DISTINCT region FROM both_regions"),
        _ => (3, "SELECT day, customer, value FROM events WHERE value % 3 = 0"),
    };
    // CREATE .. IF NOT EXISTS would still be DDL; a name that is taken is no error here.
    let there = session.query(&format!("SELECT to_regclass('extra_{number}') IS NOT NULL"))?;
    if there[0][0].as_deref() == Some("t") {
        return Ok(());
    }
    session.run(&create_view(&format!("extra_{number}"), "200ms", query))
}

/// The table that goes and comes back has been changed meanwhile.
fn detach(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    session.run("BEGIN")?;
    session.run("ALTER TABLE events DETACH PARTITION events_3")?;
    let one_transaction = rng.bool();
    if !one_transaction {
        session.run("COMMIT")?;
    }
    let apart = session
        .run(&format!("INSERT INTO events_3 SELECT {}, 5, 1, g FROM generate_series(1, 30) g", rng.u32(1..3000)));
    if !one_transaction {
        session.stage.idle(rng.u64(0..1500));
    } else {
        apart?;
    }
    // It must come back, whoever is in the way.
    loop {
        let attached = session.run("ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES IN (5)");
        match attached {
            Ok(()) if one_transaction => return session.run("COMMIT"),
            Ok(()) => return Ok(()),
            Err(failed) if one_transaction || !session.stage.troubles().is_empty() => return Err(failed),
            Err(_) => (),
        }
    }
}

fn lock(session: &mut Session, relation: &str, rng: &mut Rng) -> Result<(), Failed> {
    session.run("BEGIN")?;
    // LOCK takes no materialized view.
    session.run(&match SOURCES.contains(&relation) {
        true => format!("LOCK TABLE {relation} IN ACCESS EXCLUSIVE MODE"),
        false => format!("CREATE INDEX ON {relation} ((1))"),
    })?;
    session.stage.idle(rng.u64(500..2000));
    session.run("ROLLBACK")
}

fn pause(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    session.run("SELECT pgtrickle.pause_all()")?;
    session.stage.idle(rng.u64(200..1500));
    while session.run("SELECT pgtrickle.resume_all()").is_err() {
        if !session.stage.troubles().is_empty() {
            return Err(Failed);
        }
    }
    Ok(())
}

/// Cancels and terminates: workers most of all, also schedulers, the launcher and writers. Now and then everything of
/// ours is switched off for a moment.
pub fn kill(stage: &Stage) {
    let mut rng = Rng::with_seed(stage.seed.wrapping_mul(47));
    let mut session = Session::new(stage, "soak killer");
    while !stage.is_over() {
        stage.idle(rng.u64(500..3000));
        let (what, done) = strike(&mut session, &mut rng);
        if done.is_ok() {
            stage.count(what);
        }
    }
    while switch_to(&mut session, "on").is_err() && stage.troubles().is_empty() {}
}

fn strike(session: &mut Session, rng: &mut Rng) -> (&'static str, Result<(), Failed>) {
    let victims = |what: &str, whom: &str| {
        format!(
            "SELECT {what}(pid) FROM (SELECT pid FROM pg_stat_activity WHERE {whom} AND pid <> pg_backend_pid() \
             ORDER BY random() LIMIT 1) v"
        )
    };
    let busy = "backend_type = 'pg_trickle worker' AND state = 'active'";
    match rng.u32(0..20) {
        0..6 => {
            ("worker terminated", session.run(&victims("pg_terminate_backend", "backend_type = 'pg_trickle worker'")))
        }
        6..10 => ("refresh cancelled", session.run(&victims("pg_cancel_backend", busy))),
        10..12 => (
            "scheduler terminated",
            session.run(&victims("pg_terminate_backend", "backend_type = 'pg_trickle scheduler'")),
        ),
        12 => (
            "launcher terminated",
            session.run(&victims("pg_terminate_backend", "backend_type = 'pg_trickle launcher'")),
        ),
        13..16 => {
            ("writer terminated", session.run(&victims("pg_terminate_backend", "application_name = 'soak writer'")))
        }
        16..19 => (
            "writer cancelled",
            session.run(&victims("pg_cancel_backend", "application_name = 'soak writer' AND state = 'active'")),
        ),
        _ => ("switched off and on", switch(session, rng)),
    }
}

fn switch(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    switch_to(session, "off")?;
    session.stage.idle(rng.u64(100..1500));
    switch_to(session, "on")
}

fn switch_to(session: &mut Session, state: &str) -> Result<(), Failed> {
    session.run(&format!("ALTER SYSTEM SET pg_trickle.enabled = {state}"))?;
    session.run("SELECT pg_reload_conf()")
}
