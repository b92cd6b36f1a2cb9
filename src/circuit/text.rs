//! A circuit as text: for tests of the stage by itself, and for looking at one.

use super::{Ability, Accumulate, Block, Circuit, Effect, Operator, Origin};
use crate::identity::{self, AsOwner};
use crate::pg::facts;
use crate::pg::handle::{Any, Node};
use crate::pg::query;
use crate::pg::walk;
use pgrx::{pg_extern, pg_sys};

/// What `build` makes of a materialized view, one thing a line.
#[pg_extern]
fn circuit_text(view: pg_sys::Oid) -> String {
    identity::as_owner(view, |owner| super::build(view, owner).lines(owner).join("\n"))
}

impl Circuit {
    fn lines(&self, owner: &AsOwner) -> Vec<String> {
        let mut lines: Vec<String> = self
            .sources
            .iter()
            .map(|source| {
                let seen = if source.capturable { "" } else { " (not captured)" };
                format!("source {} columns {:?}{seen}", facts::relation_name(source.relid), source.columns)
            })
            .collect();
        for refusal in self.refusal.iter().chain(&self.further_refusals) {
            let effect = match refusal.effect {
                Effect::Refuse => "refused",
                Effect::AlwaysRecompute => "recomputed at every refresh",
                Effect::RecomputeAnyway => "recomputed when asked or something has changed",
                Effect::Recompute => "recomputed",
            };
            lines.push(format!("{effect} {}: {}", refusal.code, refusal.detail));
        }
        for block in &self.blocks {
            lines.extend((self.blocks.len() > 1).then(|| format!("block {}", block.id.0)));
            lines.extend(block.lines(owner));
        }
        lines.push(format!("key {}", self.key.as_ref().map_or("none".into(), |key| format!("{key:?}"))));
        lines.extend(self.settings_dependent.then(|| "depends on settings".into()));
        lines
    }
}

impl Block {
    fn lines(&self, owner: &AsOwner) -> Vec<String> {
        let inputs = self.inputs.iter().map(|input| {
            let name = match input.origin {
                Origin::Relation(relid) => facts::relation_name(relid),
                Origin::Block(block) => format!("block {}", block.0),
            };
            format!("{name} {:?}", input.linearity)
        });
        let mut lines = vec![
            format!("template{}", query::sql(self.template.node())),
            format!("inputs {}", inputs.collect::<Vec<_>>().join(", ")),
        ];
        let has_terms = self.fallback().is_none();
        lines.extend((0..self.inputs.len()).filter(|_| has_terms).filter_map(|input| self.term_of(input, owner)));
        match &self.operator {
            Operator::Pass => lines.push("pass".into()),
            Operator::Recompute(refusal) => lines.push(format!("recompute {}", refusal.code)),
            Operator::Accumulate(accumulate) => lines.extend(accumulate.lines()),
        }
        lines
    }
}

impl Block {
    /// The query behind an input's terms where that is not the whole template. The planner must take both.
    fn term_of(&self, input: usize, owner: &AsOwner) -> Option<String> {
        let term = self.template.node().copy();
        super::legs::keep_only(term, input);
        query::plan(self.template.node(), owner);
        query::plan(term, owner);
        let (whole, part) = (query::sql(self.template.node()), query::sql(term));
        (whole != part).then(|| format!("terms of input {input}{part}"))
    }
}

impl Accumulate {
    fn lines(&self) -> Vec<String> {
        let keys = self.keys.iter().map(|key| {
            let equality = if key.image_equal { "" } else { " equal but not identical" };
            format!("key {}{equality}", facts::type_name(key.typid))
        });
        let aggregates = self.aggregates.iter().map(|aggregate| {
            let resolved = &aggregate.resolved;
            let is_result = resolved.ability == Ability::Recompute;
            let state = if is_result { resolved.state } else { resolved.transtype };
            format!(
                "aggregate {} {:?} arguments {:?} direct {:?} filter {:?} state {}",
                facts::function_signature(aggregate.aggref.node().get().aggfnoid),
                resolved.ability,
                aggregate.arguments,
                aggregate.direct,
                aggregate.filter,
                facts::type_name(state)
            )
        });
        keys.chain(aggregates).chain([format!("output{}", self.output_sql())]).collect()
    }

    /// Outputs and HAVING as a query over the columns c1.. of a relation.
    fn output_sql(&self) -> String {
        let types =
            self.keys.iter().map(|key| key.typid).chain(self.aggregates.iter().map(|a| a.aggref.node().get().aggtype));
        let columns: Vec<Any> = types
            .map(|typid| query::null(query::TypeOf { typid, typmod: -1, collation: pg_sys::InvalidOid }))
            .collect();
        let inner = query::nothing();
        inner.set_targets(
            &columns.iter().zip(1..).map(|(&null, i)| query::target(null, i, &format!("c{i}"))).collect::<Vec<_>>(),
        );
        let outer = query::select_from(inner);
        outer.set_targets(&query::list_nodes(&self.output).into_iter().map(over_first_entry).collect::<Vec<_>>());
        let having = self.having.as_ref().map(|having| over_first_entry(having.node()));
        outer.set(|outer| outer.havingQual = having.map_or(std::ptr::null_mut(), Node::as_ptr));
        query::sql(outer)
    }
}

fn over_first_entry<T>(tree: Node<T>) -> Node<T> {
    walk::mutate(tree, &mut |node, _| {
        let var: Node<pg_sys::Var> = node.cast()?;
        Some(query::var(1, var.get().varattno, query::type_of(node)).any())
    })
}
