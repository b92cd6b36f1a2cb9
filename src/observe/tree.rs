//! dependency_tree: every stream table that no other one reads, with what it reads below it, down to base tables.
//!
//! ```text
//! public.top_regions
//! +- public.revenue
//!    +- public.customers
//!    +- public.orders
//! ```
//!
//! In a graph of diamonds there are far more paths than nodes. So what a stream table reads is shown where it comes first;
//! where it comes again, the line says so.

use crate::catalog::{dependency, stream_table, version};
use crate::pg::facts;
use hashbrown::{HashMap, HashSet};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

/// A line of the tree.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    text: String,
    node: u32,
    depth: usize,
}

#[pg_extern]
fn dependency_lines() -> TableIterator<
    'static,
    (name!(line, i32), name!(tree_line, String), name!(node, String), name!(relid, pg_sys::Oid), name!(depth, i32)),
> {
    version::check();
    let graph = Graph::read();
    let lines = graph.lines().into_iter().enumerate().map(|(number, line)| {
        let name = graph.names[&line.node].clone();
        (number as i32, line.text, name, pg_sys::Oid::from(line.node), line.depth as i32)
    });
    TableIterator::new(lines.collect::<Vec<_>>())
}

/// Who reads what, by oid.
struct Graph {
    names: HashMap<u32, String>,
    views: Vec<u32>,
    /// What a stream table reads, by name.
    sources: HashMap<u32, Vec<u32>>,
}

impl Graph {
    /// Of the catalog. What is being dropped at this moment has no name any more, and is left out.
    fn read() -> Self {
        let views: Vec<u32> = stream_table::all().iter().map(|row| row.relid.to_u32()).collect();
        let edges: Vec<(u32, u32)> =
            dependency::all().iter().map(|(view, of)| (view.to_u32(), of.source.to_u32())).collect();
        let nodes = views.iter().copied().chain(edges.iter().map(|(_, source)| *source));
        let named = |node: u32| Some((node, facts::try_relation_name(pg_sys::Oid::from(node))?));
        Self::new(nodes.filter_map(named).collect(), &views, &edges)
    }

    fn new(names: HashMap<u32, String>, views: &[u32], edges: &[(u32, u32)]) -> Self {
        let mut views: Vec<u32> = views.iter().copied().filter(|view| names.contains_key(view)).collect();
        views.sort_unstable_by_key(|view| &names[view]);
        let mut sources: HashMap<u32, Vec<u32>> = HashMap::new();
        for (view, source) in edges.iter().filter(|(_, source)| names.contains_key(source)) {
            sources.entry(*view).or_default().push(*source);
        }
        sources.values_mut().for_each(|sources| sources.sort_unstable_by_key(|source| &names[source]));
        Self { names, views, sources }
    }

    fn lines(&self) -> Vec<Line> {
        let read: HashSet<u32> =
            self.views.iter().filter_map(|view| self.sources.get(view)).flatten().copied().collect();
        let mut lines = Vec::new();
        let mut shown = HashSet::new();
        for &root in self.views.iter().filter(|view| !read.contains(*view)) {
            self.show(root, &mut shown, &mut lines);
        }
        lines
    }

    /// Adds a node and what is below it. `mark` goes before its name, `indent` before that and before all that is below.
    fn show(&self, root: u32, shown: &mut HashSet<u32>, lines: &mut Vec<Line>) {
        // Not by recursion: chains of views may be long.
        let mut todo = vec![(root, 0, String::new(), "")];
        while let Some((node, depth, indent, mark)) = todo.pop() {
            let sources = self.sources.get(&node).map_or(&[][..], Vec::as_slice);
            let again = !shown.insert(node) && !sources.is_empty();
            let note = if again { " (as above)" } else { "" };
            lines.push(Line { text: format!("{indent}{mark}{}{note}", self.names[&node]), node, depth });
            let sources = if again { &[] } else { sources };
            let below = match mark {
                "" => String::new(),
                "+- " => format!("{indent}|  "),
                _ => format!("{indent}   "),
            };
            // The first on top.
            for (i, &source) in sources.iter().enumerate().rev() {
                let mark = if i + 1 == sources.len() { "`- " } else { "+- " };
                todo.push((source, depth + 1, below.clone(), mark));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(views: &[u32], edges: &[(u32, u32)]) -> Graph {
        let nodes = views.iter().copied().chain(edges.iter().flat_map(|(a, b)| [*a, *b]));
        Graph::new(nodes.map(|node| (node, format!("n{node:02}"))).collect(), views, edges)
    }

    fn text(graph: &Graph) -> Vec<String> {
        graph.lines().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_diamond_is_shown_once() {
        let graph = graph(&[4, 2, 3, 5], &[(4, 3), (4, 2), (2, 1), (3, 1), (5, 4), (5, 2)]);
        assert_eq!(
            text(&graph),
            ["n05", "+- n02", "|  `- n01", "`- n04", "   +- n02 (as above)", "   `- n03", "      `- n01"]
        );
    }

    #[test]
    fn what_is_gone_is_left_out() {
        let mut names: HashMap<u32, String> = HashMap::new();
        names.insert(2, "two".into());
        let graph = Graph::new(names, &[2, 3], &[(2, 1), (3, 1)]);
        assert_eq!(text(&graph), ["two"]);
    }

    /// 2 to the 40th paths.
    #[test]
    fn a_ladder_of_diamonds_has_as_many_lines_as_edges() {
        let edges: Vec<(u32, u32)> = (0..40)
            .flat_map(|n| [(3 * n + 3, 3 * n + 1), (3 * n + 3, 3 * n + 2), (3 * n + 1, 3 * n), (3 * n + 2, 3 * n)])
            .collect();
        let views: Vec<u32> = (1..=120).collect();
        assert_eq!(graph(&views, &edges).lines().len(), edges.len() + 1);
    }
}
