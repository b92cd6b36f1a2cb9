//! How a query would be maintained, as rows for validate_query.

use crate::circuit::{Block, Circuit, Input, Operator, Origin, Refusal, Source};
use crate::pg::facts;
use crate::registration::refusal;

/// A row of validate_query.
pub struct Finding {
    pub check: String,
    pub result: String,
    pub severity: &'static str,
}

pub const INFO: &str = "INFO";
pub const WARNING: &str = "WARNING";
pub const ERROR: &str = "ERROR";

pub fn finding(check: &str, result: impl Into<String>, severity: &'static str) -> Finding {
    Finding { check: check.to_owned(), result: result.into(), severity }
}

pub fn of(circuit: &Circuit) -> Vec<Finding> {
    let mut findings = vec![maintenance(circuit)];
    findings.extend(circuit.refusal.iter().chain(&circuit.further_refusals).map(reason));
    if !circuit.blocks.is_empty() {
        findings.extend(blocks(circuit));
        findings.push(operator(circuit));
        findings.push(matching(circuit));
        findings.extend(clock(circuit));
    }
    findings.extend(circuit.sources.iter().map(|source| source_of(circuit, source)));
    if circuit.settings_dependent {
        findings.push(finding("settings", "The result depends on settings, which are pinned at creation.", INFO));
    }
    findings
}

fn maintenance(circuit: &Circuit) -> Finding {
    match &circuit.refusal {
        None => finding("maintenance", "DIFFERENTIAL: only what changed is computed.", INFO),
        Some(_) if !circuit.blocks.is_empty() => {
            let text = "PARTIAL: some blocks are recomputed when what they read has changed, the others by delta.";
            finding("maintenance", text, WARNING)
        }
        Some(refusal) if refusal.is_fatal() => finding("maintenance", "The query cannot be a stream table.", ERROR),
        Some(_) if !circuit.capturable => {
            finding("maintenance", "FULL: recomputed and compared at every refresh.", WARNING)
        }
        Some(_) if circuit.always_recompute => {
            let when = "when a source has changed, by REFRESH, and at each tick of a schedule that is set";
            finding("maintenance", format!("FULL: recomputed and compared {when}."), WARNING)
        }
        Some(_) => finding("maintenance", "FULL: recomputed and compared when a source has changed.", WARNING),
    }
}

fn reason(refusal: &Refusal) -> Finding {
    let severity = if refusal.is_fatal() { ERROR } else { WARNING };
    finding("reason", format!("{} {}", refusal::text(refusal), refusal.hint), severity)
}

/// What happens in each of several blocks.
fn blocks(circuit: &Circuit) -> Vec<Finding> {
    let of_block = |block: &Block| {
        let inputs: Vec<String> = block.inputs.iter().map(input).collect();
        let how = match &block.operator {
            Operator::Pass => "select, join".to_owned(),
            Operator::Accumulate(_) => "aggregate".to_owned(),
            Operator::Recompute(refusal) => format!("recompute, because of {}", refusal.code),
        };
        let severity = if block.fallback().is_some() { WARNING } else { INFO };
        finding("block", format!("{}: {how}; reads {}.", block.id.0, inputs.join(", ")), severity)
    };
    let several = circuit.blocks.len() > 1;
    circuit.blocks.iter().filter(|_| several).map(of_block).collect()
}

fn input(input: &Input) -> String {
    match input.origin {
        Origin::Relation(relid) => facts::relation_name(relid),
        Origin::Block(block) => format!("block {}", block.0),
    }
}

fn operator(circuit: &Circuit) -> Finding {
    let stateful = circuit.blocks.iter().any(|block| block.operator.has_state());
    let text = match circuit.blocks.len() {
        2.. => "The output of each block but the last, and groups, are kept in tables of their own.",
        _ if stateful => "Groups are kept in a state table.",
        _ => "No state beside the view.",
    };
    finding("state", text, INFO)
}

fn matching(circuit: &Circuit) -> Finding {
    let text = match &circuit.key {
        Some(key) if key.is_empty() => "At most one row.".to_owned(),
        Some(key) => format!("Rows are found by a unique key of {} column(s).", key.len()),
        None => "Rows are found by their image: the query has no key that is known to be unique.".to_owned(),
    };
    finding("key", text, INFO)
}

fn clock(circuit: &Circuit) -> Option<Finding> {
    let count = circuit.clock.len();
    let text = format!(
        "{count} comparison(s) with the clock: when it moves, only rows between the old and the new value are read."
    );
    (count > 0).then(|| finding("clock", text, INFO))
}

fn source_of(circuit: &Circuit, source: &Source) -> Finding {
    let name = facts::relation_name(source.relid);
    match source.capturable {
        true if !circuit.capturable => finding("source", format!("{name}: read anew at every refresh."), INFO),
        true => finding("source", format!("{name}: changes of {} column(s) are captured.", source.columns.len()), INFO),
        false => finding("source", format!("{name}: changes cannot be captured."), WARNING),
    }
}
