//! SQL text as a small tree: plain text, references to generated views, and lists whose items may be dropped.
//!
//! A view's query is written once and read twice. To *create* the view, a reference to another view is that view's
//! name; to compute what the view *should* contain, it is that view's query in parentheses, down to base tables.
//! Lists tell the shrinker what it may leave out of a statement.

use std::collections::BTreeSet;

/// A view of the episode, by its place in the episode's list of definitions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ViewId(pub usize);

#[derive(Clone, PartialEq, Debug)]
pub enum Piece {
    Text(String),
    /// A view's name.
    View(ViewId),
    /// A view used as a relation.
    RowsOf(ViewId),
    /// The query of a view, as written in its CREATE statement.
    QueryOf(ViewId),
    List(List),
}

/// Items of which all but `least` may be dropped without making the statement ungrammatical.
#[derive(Clone, PartialEq, Debug)]
pub struct List {
    pub separator: &'static str,
    pub least: usize,
    pub items: Vec<Sql>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sql(pub Vec<Piece>);

/// `sql!["SELECT ", columns, " FROM ", view]`: the concatenation of anything that converts into [`Sql`].
#[macro_export]
macro_rules! sql {
    ($($part:expr),* $(,)?) => {{
        let mut whole = $crate::sql::Sql::default();
        $( whole.append($part); )*
        whole
    }};
}

impl From<&str> for Sql {
    fn from(text: &str) -> Sql {
        Sql(vec![Piece::Text(text.to_string())])
    }
}

impl From<String> for Sql {
    fn from(text: String) -> Sql {
        Sql(vec![Piece::Text(text)])
    }
}

impl From<&String> for Sql {
    fn from(text: &String) -> Sql {
        Sql::from(text.as_str())
    }
}

impl From<ViewId> for Sql {
    fn from(view: ViewId) -> Sql {
        Sql(vec![Piece::View(view)])
    }
}

impl Sql {
    pub fn query_of(view: ViewId) -> Sql {
        Sql(vec![Piece::QueryOf(view)])
    }

    pub fn rows_of(view: ViewId) -> Sql {
        Sql(vec![Piece::RowsOf(view)])
    }

    pub fn list(separator: &'static str, least: usize, items: Vec<Sql>) -> Sql {
        Sql(vec![Piece::List(List { separator, least, items })])
    }

    pub fn append(&mut self, more: impl Into<Sql>) {
        for piece in more.into().0 {
            match (self.0.last_mut(), piece) {
                (Some(Piece::Text(end)), Piece::Text(text)) => end.push_str(&text),
                (_, piece) => self.0.push(piece),
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a statement: views by name, definitions as they were written.
    pub fn as_statement(&self, views: &dyn Definitions) -> String {
        self.render(&|piece| match piece {
            Piece::View(view) => views.name(*view).to_string(),
            Piece::RowsOf(view) => views.rows_of(*view),
            Piece::QueryOf(view) => views.query(*view).as_statement(views),
            _ => unreachable!("text and lists are rendered in place"),
        })
    }

    /// The text with every view replaced by its query, recursively: nothing but base tables remain.
    pub fn as_expanded(&self, views: &dyn Definitions) -> String {
        self.render(&|piece| match piece {
            Piece::View(view) | Piece::RowsOf(view) | Piece::QueryOf(view) => {
                format!("({})", views.query(*view).as_expanded(views))
            }
            _ => unreachable!("text and lists are rendered in place"),
        })
    }

    fn render(&self, view: &dyn Fn(&Piece) -> String) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::List(list) => {
                    let items: Vec<String> = list.items.iter().map(|i| i.render(view)).collect();
                    text.push_str(&items.join(list.separator));
                }
                reference => text.push_str(&view(reference)),
            }
        }
        text
    }

    /// The words a statement begins with, as far as it is plain text.
    pub fn first_words(&self, count: usize) -> String {
        let Some(Piece::Text(text)) = self.0.first() else { return String::new() };
        text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
    }

    /// The views it reads.
    pub fn references(&self) -> BTreeSet<ViewId> {
        let of = |piece: &Piece| match piece {
            Piece::Text(_) => BTreeSet::new(),
            Piece::View(view) | Piece::RowsOf(view) | Piece::QueryOf(view) => BTreeSet::from([*view]),
            Piece::List(list) => list.items.iter().flat_map(Sql::references).collect(),
        };
        self.0.iter().flat_map(of).collect()
    }

    /// Calls `visit` for every list, outermost first, until it returns true.
    pub fn any_list(&mut self, visit: &mut dyn FnMut(&mut List) -> bool) -> bool {
        self.0.iter_mut().any(|piece| match piece {
            Piece::List(list) => visit(list) || list.items.iter_mut().any(|i| i.any_list(visit)),
            _ => false,
        })
    }
}

/// What rendering needs to know about views.
pub trait Definitions {
    fn name(&self, view: ViewId) -> &str;
    fn query(&self, view: ViewId) -> &Sql;

    /// The view in a FROM clause.
    fn rows_of(&self, view: ViewId) -> String {
        self.name(view).to_string()
    }
}

/// A string literal.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two([(&'static str, Sql); 2]);

    impl Definitions for Two {
        fn name(&self, view: ViewId) -> &str {
            self.0[view.0].0
        }
        fn query(&self, view: ViewId) -> &Sql {
            &self.0[view.0].1
        }
    }

    #[test]
    fn views_are_named_in_statements_and_expanded_in_expectations() {
        let views = Two([("low", sql!["SELECT k FROM t"]), ("high", sql!["SELECT k FROM ", ViewId(0), " AS a"])]);
        let create = sql!["CREATE MATERIALIZED VIEW high AS ", Sql::query_of(ViewId(1))];
        assert_eq!(create.as_statement(&views), "CREATE MATERIALIZED VIEW high AS SELECT k FROM low AS a");
        let select = sql!["TABLE ", ViewId(1)];
        assert_eq!(select.as_expanded(&views), "TABLE (SELECT k FROM (SELECT k FROM t) AS a)");
    }

    #[test]
    fn lists_nest_and_can_lose_items() {
        let inner = Sql::list(" AND ", 0, vec![sql!["b"], sql!["c"]]);
        let mut whole = Sql::list(", ", 1, vec![sql!["a"], sql!["(", inner, ")"]]);
        let views = Two([("", Sql::default()), ("", Sql::default())]);
        assert_eq!(whole.as_statement(&views), "a, (b AND c)");
        let mut seen = 0;
        whole.any_list(&mut |list| {
            seen += 1;
            seen == 2 && {
                list.items.remove(0);
                true
            }
        });
        assert_eq!(whole.as_statement(&views), "a, (c)");
    }

    #[test]
    fn literals_are_quoted() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\x00"), "E'\\\\x00'");
    }
}
