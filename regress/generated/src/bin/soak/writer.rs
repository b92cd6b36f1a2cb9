//! Sessions that change the sources: in single statements and in transactions of every kind.

use fastrand::Rng;

use crate::session::{Failed, Session};
use crate::stage::Stage;

/// Prepared transactions that may wait for somebody to end them: the server has room for ten.
const PREPARED: usize = 4;

pub fn write(stage: &Stage, number: u64) {
    let mut rng = Rng::with_seed(stage.seed.wrapping_mul(31).wrapping_add(number));
    let mut session = Session::new(stage, "soak writer");
    while !stage.is_over() {
        if transaction(&mut session, &mut rng, number).is_ok() {
            stage.count("transactions");
        }
        stage.idle(rng.u64(0..30));
    }
}

/// Failing is part of the play.
fn transaction(session: &mut Session, rng: &mut Rng, number: u64) -> Result<(), Failed> {
    match rng.u32(0..100) {
        0..50 => change(session, rng),
        50..55 => copy(session, rng),
        55..65 => several(session, rng, "BEGIN", "COMMIT"),
        65..72 => several(session, rng, "BEGIN", "ROLLBACK"),
        72..80 => savepoints(session, rng),
        80..84 => subtransaction(session, rng),
        84..90 => several(session, rng, "BEGIN ISOLATION LEVEL REPEATABLE READ", "COMMIT"),
        90..95 => idle_in_transaction(session, rng),
        _ => prepared(session, rng, number),
    }
}

fn change(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    session.run(&statement(rng))
}

fn several(session: &mut Session, rng: &mut Rng, begin: &str, end: &str) -> Result<(), Failed> {
    session.run(begin)?;
    for _ in 0..rng.u32(1..4) {
        change(session, rng)?;
    }
    session.run(end)?;
    session.stage.count(end);
    Ok(())
}

fn savepoints(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    session.run("BEGIN")?;
    change(session, rng)?;
    session.run("SAVEPOINT one")?;
    change(session, rng)?;
    session.run("SAVEPOINT two")?;
    change(session, rng)?;
    session.run(if rng.bool() { "ROLLBACK TO one" } else { "RELEASE one" })?;
    change(session, rng)?;
    session.run(if rng.u32(0..4) == 0 { "ROLLBACK" } else { "COMMIT" })?;
    session.stage.count("savepoints");
    Ok(())
}

fn subtransaction(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    let (kept, undone, after) = (statement(rng), statement(rng), statement(rng));
    session.run(&format!(
        "DO $$ BEGIN {kept}; BEGIN {undone}; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; {after}; END $$"
    ))?;
    session.stage.count("subtransactions");
    Ok(())
}

fn idle_in_transaction(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    session.run("BEGIN")?;
    change(session, rng)?;
    session.stage.idle(rng.u64(500..4000));
    change(session, rng)?;
    session.run(if rng.u32(0..4) == 0 { "ROLLBACK" } else { "COMMIT" })?;
    session.stage.count("idle in transaction");
    Ok(())
}

fn prepared(session: &mut Session, rng: &mut Rng, number: u64) -> Result<(), Failed> {
    let waiting = session.query("SELECT FROM pg_prepared_xacts")?.len();
    session.run("BEGIN")?;
    change(session, rng)?;
    if waiting >= PREPARED {
        return session.run("COMMIT");
    }
    session.run(&format!("PREPARE TRANSACTION 'soak {number} {}'", rng.u64(..)))?;
    session.stage.count("prepared");
    Ok(())
}

/// Ends what others prepared, some time after.
pub fn end_prepared(stage: &Stage) {
    let mut rng = Rng::with_seed(stage.seed.wrapping_mul(37));
    let mut session = Session::new(stage, "soak notary");
    while !stage.is_over() {
        end_those_older(&mut session, &mut rng, "2s");
        stage.idle(300);
    }
}

pub fn end_those_older(session: &mut Session, rng: &mut Rng, age: &str) {
    let old = format!("SELECT gid FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '{age}'");
    let Ok(rows) = session.query(&old) else { return };
    for gid in rows.into_iter().flatten().flatten() {
        let end = if rng.u32(0..4) == 0 { "ROLLBACK PREPARED" } else { "COMMIT PREPARED" };
        if session.run(&format!("{end} '{gid}'")).is_ok() {
            session.stage.count(end);
        }
    }
}

fn copy(session: &mut Session, rng: &mut Rng) -> Result<(), Failed> {
    let row = |rng: &mut Rng| format!("{}\t{}\t{}\n", rng.u32(0..100), rng.u32(0..4), rng.u32(0..10));
    let lines: String = (0..rng.u32(1..200)).map(|_| row(rng)).collect();
    session.copy("COPY clicks (customer, kind, weight) FROM STDIN", &lines)?;
    session.stage.count("COPY");
    Ok(())
}

/// One change. The tables neither empty nor grow without bounds.
fn statement(rng: &mut Rng) -> String {
    match rng.u32(0..10) {
        0..4 => orders(rng),
        4 => format!("UPDATE customers SET region = {}, note = 'moved' WHERE id = {}", rng.u32(0..5), rng.u32(0..100)),
        5..7 => clicks(rng),
        7..9 => events(rng),
        _ => payments(rng),
    }
}

fn orders(rng: &mut Rng) -> String {
    let (id, customer, amount) = (rng.u32(1..4000), rng.u32(0..100), rng.u32(0..1000));
    match rng.u32(0..8) {
        0 => format!(
            "INSERT INTO orders VALUES ({id}, {customer}, {amount}) \
             ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, customer = excluded.customer"
        ),
        1 => format!(
            "INSERT INTO orders SELECT g, g % 100, g * {amount} % 1000 FROM generate_series({id}, {}) g ON CONFLICT DO NOTHING",
            id + 400
        ),
        2 => format!("DELETE FROM orders WHERE id BETWEEN {id} AND {}", id + rng.u32(0..300)),
        3 => format!("UPDATE orders SET amount = (amount + {amount}) % 1000 WHERE id % 50 = {}", id % 50),
        4 => format!("UPDATE orders SET note = 'seen' WHERE customer = {customer}"),
        5 => format!(
            "MERGE INTO orders o USING (SELECT g AS id FROM generate_series({id}, {}) g) s ON o.id = s.id \
             WHEN MATCHED AND o.amount < 300 THEN DELETE WHEN MATCHED THEN UPDATE SET amount = o.amount - 100 \
             WHEN NOT MATCHED THEN INSERT VALUES (s.id, {customer}, {amount})",
            id + 20
        ),
        _ => format!("UPDATE orders SET amount = {amount}, customer = {customer} WHERE id = {id}"),
    }
}

fn clicks(rng: &mut Rng) -> String {
    let (customer, kind, weight) = (rng.u32(0..100), rng.u32(0..4), rng.u32(0..10));
    match rng.u32(0..6) {
        0 => format!("INSERT INTO clicks SELECT g % 100, {kind}, g % 10 FROM generate_series(1, {}) g", customer + 1),
        1 => format!(
            "INSERT INTO clicks VALUES ({customer}, {kind}, {weight}), ({customer}, {kind}, {weight}), (NULL, {kind}, NULL)"
        ),
        2 => format!("UPDATE clicks SET weight = weight + 1, kind = {kind} WHERE customer = {customer}"),
        3 => format!("DELETE FROM clicks WHERE customer = {customer} AND kind = {kind}"),
        4 => format!("DELETE FROM clicks WHERE ctid IN (SELECT ctid FROM clicks WHERE weight = {weight} LIMIT 30)"),
        _ => "DELETE FROM clicks WHERE ctid IN (SELECT ctid FROM clicks OFFSET 3000)".to_string(),
    }
}

fn events(rng: &mut Rng) -> String {
    let (id, day, customer, value) = (rng.u32(1..3000), rng.u32(0..5), rng.u32(0..100), rng.u32(0..50));
    match rng.u32(0..40) {
        0 => format!("TRUNCATE events_{}", rng.u32(0..3)),
        1..10 => format!(
            "INSERT INTO events SELECT g, {day}, g % 100, (g * {value}) % 50 FROM generate_series({id}, {}) g",
            id + rng.u32(0..100)
        ),
        10..20 => format!("UPDATE events SET day = {day}, value = {value} WHERE id = {id}"),
        20..25 => format!("UPDATE events SET value = (value + 1) % 60 WHERE customer = {customer}"),
        25..35 => format!("DELETE FROM events WHERE id BETWEEN {id} AND {}", id + 50),
        _ => format!("DELETE FROM events WHERE day = {day} AND value < {}", value / 4),
    }
}

fn payments(rng: &mut Rng) -> String {
    let (id, cents) = (rng.u32(1..4000), rng.u32(0..1000));
    match rng.u32(0..30) {
        0 => "TRUNCATE payments".to_string(),
        1..15 => format!(
            "INSERT INTO payments SELECT g, g, g * 3 % 1000 FROM generate_series({id}, {}) g ON CONFLICT (id) DO UPDATE SET cents = {cents}",
            id + rng.u32(0..60)
        ),
        15..22 => format!("UPDATE payments SET cents = {cents}, purchase = {id} WHERE id = {}", rng.u32(1..4000)),
        _ => format!("DELETE FROM payments WHERE id BETWEEN {id} AND {}", id + 40),
    }
}
