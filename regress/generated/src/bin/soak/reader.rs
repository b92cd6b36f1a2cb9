//! Readers who look twice in one REPEATABLE READ transaction: branches agree, and stay as they were.

use fastrand::Rng;

use crate::session::{Failed, Rows, Session};
use crate::stage::Stage;
use crate::world::AGREEMENTS;

pub fn read(stage: &Stage, number: u64) {
    let mut rng = Rng::with_seed(stage.seed.wrapping_mul(41).wrapping_add(number));
    let mut session = Session::new(stage, "soak reader");
    while !stage.is_over() {
        // A long one now and then.
        let pause = if rng.u32(0..20) == 0 { rng.u64(1000..5000) } else { rng.u64(0..50) };
        if look_twice(&mut session, pause).is_ok() {
            stage.count("reads");
        }
        stage.idle(rng.u64(0..100));
    }
}

fn look_twice(session: &mut Session, pause: u64) -> Result<(), Failed> {
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let first = look(session)?;
    session.stage.idle(pause);
    let second = look(session)?;
    if first != second {
        session.stage.trouble(format!("a snapshot changed: {first:?}, then {second:?}"));
    }
    session.run("COMMIT")
}

/// What the diamonds hold, having found them agree.
fn look(session: &mut Session) -> Result<Rows, Failed> {
    for (what, disagreement) in AGREEMENTS {
        let rows = session.query(&format!("{disagreement} LIMIT 5"))?;
        if !rows.is_empty() {
            let state =
                "SELECT string_agg(concat_ws(' ', name, data_timestamp, status), ', ') FROM pgtrickle.pgt_status()";
            let state = session.query(state)?;
            session.stage.trouble(format!("{what} disagree: {rows:?}\n{state:?}"));
            return Err(Failed);
        }
    }
    session.query("SELECT * FROM summary, (SELECT sum(n), sum(total) FROM regions) r")
}
