//! Queries: where they come from, what the server can do with them, and the few pieces new ones are built from.

use super::handle::{Any, Node, to_list};
use super::identity::AsOwner;
use super::relation::Relation;
use super::tree::Tree;
use super::walk::{self, Scope, Visit};
use super::{construct, list, node, server};
use pgrx::pg_sys;

pub type Query = Node<pg_sys::Query>;
pub type Entry = Node<pg_sys::RangeTblEntry>;
pub type Target = Node<pg_sys::TargetEntry>;

/// A private copy of the query a materialized view was created with.
pub fn of_view(view: &Relation) -> Option<Query> {
    // SAFETY: the relcache entry is pinned by the handle; a rule's actions are a list of queries.
    unsafe {
        let rules = (*view.as_ptr()).rd_rules;
        if rules.is_null() || (*rules).numLocks != 1 {
            return None;
        }
        let action = list::iter::<pg_sys::Query>((**(*rules).rules).actions).next();
        action.and_then(|query| Node::from_raw(query)).map(Node::copy)
    }
}

/// The queries inside the row security policies of a table, whoever they are for.
pub fn in_policies(table: &Relation) -> Vec<Query> {
    let mut found = vec![];
    // SAFETY: the relcache entry is pinned by the handle; without row security there is no descriptor.
    unsafe {
        let security = (*table.as_ptr()).rd_rsdesc;
        if security.is_null() {
            return found;
        }
        for policy in list::iter::<pg_sys::RowSecurityPolicy>((*security).policies) {
            if let Some(qual) = Node::from_raw((*policy).qual.cast::<pg_sys::Node>()) {
                walk::walk(qual, Scope::EXPRESSIONS, &mut |node, _| match node.cast::<pg_sys::Query>() {
                    Some(query) => {
                        found.push(query.copy());
                        Visit::Over
                    }
                    None => Visit::Into,
                });
            }
        }
    }
    found
}

/// Locks what the query reads and rewrites it: plain views become subqueries, the policies for the owner become security
/// quals. The query is used up.
pub fn rewritten(query: Query, owner: &AsOwner) -> Query {
    owner.check();
    // SAFETY: a private tree; a SELECT rewrites to exactly one query.
    unsafe {
        pg_sys::AcquireRewriteLocks(query.as_ptr(), true, false);
        let queries = pg_sys::QueryRewrite(query.as_ptr());
        let first = list::iter::<pg_sys::Query>(queries).next();
        first.and_then(|query| Node::from_raw(query)).expect("a SELECT rewrites to one query")
    }
}

/// A type with its modifier and collation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeOf {
    pub typid: pg_sys::Oid,
    pub typmod: i32,
    pub collation: pg_sys::Oid,
}

/// The type of an expression's result.
pub fn type_of(expression: Any) -> TypeOf {
    // SAFETY: alive, as whoever made the handle promised; these only read.
    unsafe {
        TypeOf {
            typid: pg_sys::exprType(expression.as_ptr()),
            typmod: pg_sys::exprTypmod(expression.as_ptr()),
            collation: pg_sys::exprCollation(expression.as_ptr()),
        }
    }
}

impl Query {
    pub fn entries(self) -> Vec<Entry> {
        self.list(|query| query.rtable)
    }

    /// The range table entry with this 1-based number.
    pub fn entry(self, number: i32) -> Entry {
        self.entries()[number as usize - 1]
    }

    pub fn targets(self) -> Vec<Target> {
        self.list(|query| query.targetList)
    }

    /// The columns that leave the query.
    pub fn outputs(self) -> Vec<Target> {
        self.targets().into_iter().filter(|target| !target.get().resjunk).collect()
    }

    pub fn set_targets(self, targets: &[Target]) {
        self.set(|query| query.targetList = to_list(targets));
    }

    pub fn set_entries(self, entries: &[Entry]) {
        self.set(|query| query.rtable = to_list(entries));
    }

    /// The target entry a sort or group clause is about.
    pub fn target_of(self, clause: Node<pg_sys::SortGroupClause>) -> Target {
        let reference = clause.get().tleSortGroupRef;
        let target = self.targets().into_iter().find(|target| target.get().ressortgroupref == reference);
        target.expect("a sort or group clause refers to a target")
    }

    /// The top of a tree of UNION, INTERSECT, EXCEPT.
    pub fn set_operation(self) -> Option<Node<pg_sys::SetOperationStmt>> {
        self.child(|query| query.setOperations)?.cast()
    }

    /// Whether rows are grouped: GROUP BY, aggregates, or HAVING alone.
    pub fn is_grouped(self) -> bool {
        let query = self.get();
        query.hasAggs || !query.groupClause.is_null() || !query.groupingSets.is_null() || !query.havingQual.is_null()
    }

    /// The references to target entries in each of the sets that GROUPING SETS, ROLLUP and CUBE stand for.
    pub fn grouping_sets(self) -> Vec<Vec<u32>> {
        let fields = self.get();
        // SAFETY: the function reads the list of a live query and returns a list of lists of integers.
        unsafe {
            let sets = server::guarded(|| server::expand_grouping_sets(fields.groupingSets, fields.groupDistinct, -1));
            let references = |set| list::ints(set).map(|reference| reference as u32).collect();
            list::iter::<pg_sys::List>(sets).map(references).collect()
        }
    }

    pub fn from(self) -> Node<pg_sys::FromExpr> {
        self.child(|query| query.jointree).expect("a SELECT has a join tree")
    }

    /// The queries directly inside this one: subqueries in FROM, CTEs, sublinks.
    pub fn inner(self) -> Vec<Query> {
        let mut found = vec![];
        walk::walk(self, Scope::EXPRESSIONS, &mut |node, _| match node.cast() {
            Some(query) => {
                found.push(query);
                Visit::Over
            }
            None => Visit::Into,
        });
        found
    }

    /// This query and every query inside it, outer ones first.
    pub fn nest(self) -> Vec<Query> {
        let mut found = vec![self];
        walk::walk(self, Scope::EXPRESSIONS, &mut |node, _| {
            found.extend(node.cast::<pg_sys::Query>());
            Visit::Into
        });
        found
    }

    /// A copy of what is checked of its entries, which refer to it by position.
    pub fn copied_permissions(self) -> *mut pg_sys::List {
        let permissions: Vec<Node<pg_sys::RTEPermissionInfo>> = self.list(|query| query.rteperminfos);
        to_list(&permissions.into_iter().map(Node::copy).collect::<Vec<_>>())
    }

    /// Which rows there are depends on others: LIMIT, OFFSET or DISTINCT ON.
    pub fn is_cut(self) -> bool {
        let query = self.get();
        !query.limitCount.is_null() || !query.limitOffset.is_null() || query.hasDistinctOn
    }

    /// Replaces Vars of joins by what they stand for, in everything that belongs to this level.
    pub fn flatten_join_aliases(self) {
        // SAFETY: private tree; the fields are replaced by flattened copies of the same kind.
        unsafe {
            let mut query = self.get();
            query.targetList = self.flattened(query.targetList);
            query.jointree = self.flattened(query.jointree);
            query.havingQual = self.flattened(query.havingQual);
            self.set(|node| {
                node.targetList = query.targetList;
                node.jointree = query.jointree;
                node.havingQual = query.havingQual;
            });
            for entry in self.entries() {
                entry.set(|entry| match entry.rtekind {
                    pg_sys::RTEKind::RTE_SUBQUERY => entry.subquery = self.flattened(entry.subquery),
                    pg_sys::RTEKind::RTE_FUNCTION => entry.functions = self.flattened(entry.functions),
                    pg_sys::RTEKind::RTE_VALUES => entry.values_lists = self.flattened(entry.values_lists),
                    pg_sys::RTEKind::RTE_TABLEFUNC => entry.tablefunc = self.flattened(entry.tablefunc),
                    pg_sys::RTEKind::RTE_GROUP => entry.groupexprs = self.flattened(entry.groupexprs),
                    _ => (),
                });
            }
        }
    }

    /// # Safety
    /// `field` is null or a part of this query that may hold Vars.
    unsafe fn flattened<T>(self, field: *mut T) -> *mut T {
        // SAFETY: the field is as the caller says; the query it belongs to is only read.
        unsafe { pg_sys::flatten_join_alias_vars(std::ptr::null_mut(), self.as_ptr(), field.cast()).cast() }
    }

    /// Turns outer joins into inner ones, or full joins into left ones, where a strict condition drops the rows that they
    /// add, as the planner does. Right joins become left joins.
    pub fn reduce_outer_joins(self) {
        let root = Node::<pg_sys::PlannerInfo>::make();
        root.set(|root| root.parse = self.as_ptr());
        // SAFETY: the function looks at the query alone, a private tree that has an outer join; what it returns is the
        // same query or a copy of it.
        unsafe { server::guarded(|| server::reduce_outer_joins(root.as_ptr())) };
        let reduced: Query = root.child(|root| root.parse).expect("a query stays one");
        self.set(|query| *query = reduced.get());
    }

    /// Puts grouping expressions back where Vars of the grouping step stand, and drops the step's entry.
    pub fn flatten_groups(self) {
        // SAFETY: private tree; the fields are replaced by flattened copies of the same kind.
        unsafe {
            let (query, pointer) = (self.get(), self.as_ptr());
            let targets = pg_sys::flatten_group_exprs(std::ptr::null_mut(), pointer, query.targetList.cast());
            let having = pg_sys::flatten_group_exprs(std::ptr::null_mut(), pointer, query.havingQual);
            self.set(|query| {
                query.targetList = targets.cast();
                query.havingQual = having;
                query.hasGroupRTE = false;
            });
        }
        let mut entries = self.entries();
        let is_group = |entry: &Entry| entry.get().rtekind == pg_sys::RTEKind::RTE_GROUP;
        assert!(entries.pop().as_ref().is_some_and(is_group), "the grouping step is the last range table entry");
        self.set_entries(&entries);
    }
}

/// Adds `by` to the level of references that leave `from` or more query levels.
pub fn raise_levels<T>(tree: Node<T>, by: u32, from: u32) {
    // SAFETY: private tree, changed in place.
    unsafe { pg_sys::IncrementVarSublevelsUp(tree.any().as_ptr(), by as i32, from as i32) }
}

/// Brings a tree up by one query level: what it referred to on the level above is on its own level then.
pub fn lift_levels<T>(tree: Node<T>) {
    // SAFETY: private tree, changed in place.
    unsafe { pg_sys::IncrementVarSublevelsUp(tree.any().as_ptr(), -1, 1) }
}

/// A column of a range table entry of the same level.
pub fn var(entry: i32, column: i16, of: TypeOf) -> Node<pg_sys::Var> {
    // SAFETY: makeVar returns a new node.
    let var = unsafe { pg_sys::makeVar(entry, column, of.typid, of.typmod, of.collation, 0) };
    // SAFETY: a live new node.
    unsafe { Node::from_raw(var) }.expect("palloc does not return null")
}

/// An expression without variables as SQL.
pub fn spelt(expression: Any) -> String {
    // SAFETY: a live expression; the text is copied.
    unsafe { node::string(pg_sys::deparse_expression(expression.as_ptr(), std::ptr::null_mut(), false, false)) }
}

/// NULL of a type.
pub fn null(of: TypeOf) -> Any {
    // SAFETY: makeNullConst returns a new node.
    let null = unsafe { Node::from_raw(pg_sys::makeNullConst(of.typid, of.typmod, of.collation)) };
    null.expect("palloc does not return null").any()
}

/// The text of a constant of type `text`; None for NULL and constants of other types.
pub fn text_of(constant: Node<pg_sys::Const>) -> Option<String> {
    let constant = constant.get();
    let is_text = constant.consttype == pg_sys::TEXTOID && !constant.constisnull;
    // SAFETY: the datum of a text constant lives as long as its node.
    is_text.then(|| unsafe { node::string(pg_sys::text_to_cstring(constant.constvalue.cast_mut_ptr())) })
}

/// A row of a composite type.
pub fn row(columns: &[Any], typid: pg_sys::Oid) -> Node<pg_sys::RowExpr> {
    let row = Node::<pg_sys::RowExpr>::make();
    row.set(|row| {
        row.args = to_list(columns);
        row.row_typeid = typid;
        row.row_format = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
        row.location = -1;
    });
    row
}

/// The same row, converted to its own type: the planner does not look through that.
pub fn unseen(row: Node<pg_sys::RowExpr>) -> Node<pg_sys::ConvertRowtypeExpr> {
    let conversion = Node::<pg_sys::ConvertRowtypeExpr>::make();
    conversion.set(|conversion| {
        conversion.arg = row.as_ptr().cast();
        conversion.resulttype = row.get().row_typeid;
        conversion.convertformat = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
        conversion.location = -1;
    });
    conversion
}

/// A named output column.
pub fn target(expression: Any, number: i16, name: &str) -> Target {
    let name = node::cstring(name);
    // SAFETY: makeTargetEntry returns a new node.
    let target = unsafe { pg_sys::makeTargetEntry(expression.as_ptr().cast(), number, name, false) };
    // SAFETY: a live new node.
    unsafe { Node::from_raw(target) }.expect("palloc does not return null")
}

/// The name of an output column.
pub fn name_of(target: Target) -> String {
    // SAFETY: null or a NUL-terminated string of a live node.
    unsafe { node::string(target.get().resname) }
}

impl Target {
    pub fn expression(self) -> Any {
        self.child(|target| target.expr.cast()).expect("a target has an expression")
    }

    pub fn set_expression(self, expression: Any) {
        self.set(|target| target.expr = expression.as_ptr().cast());
    }
}

/// `SELECT every output FROM (query)`; the query's outer references keep their meaning.
pub fn select_from(query: Query) -> Query {
    raise_levels(query, 1, 1);
    let outputs = query.outputs();
    let names: Vec<_> = outputs.iter().map(|&output| name_of(output)).collect();
    let outer = Node::<pg_sys::Query>::make();
    outer.set(|outer| {
        outer.commandType = pg_sys::CmdType::CMD_SELECT;
        outer.canSetTag = query.get().canSetTag;
    });
    outer.set_entries(&[subquery(query, &names)]);
    outer.set(|outer| outer.jointree = from_one(1).as_ptr());
    let column = |(i, &output): (usize, &Target)| {
        let number = i as i16 + 1;
        let column = target(var(1, number, type_of(output.expression())).any(), number, &names[i]);
        with_origin_of(column, output)
    };
    outer.set_targets(&outputs.iter().enumerate().map(column).collect::<Vec<_>>());
    outer
}

fn with_origin_of(target: Target, source: Target) -> Target {
    target.set(|target| {
        target.resorigtbl = source.get().resorigtbl;
        target.resorigcol = source.get().resorigcol;
    });
    target
}

/// `SELECT` without columns or tables.
pub fn nothing() -> Query {
    let query = Node::<pg_sys::Query>::make();
    query.set(|query| {
        query.commandType = pg_sys::CmdType::CMD_SELECT;
        query.jointree = Node::<pg_sys::FromExpr>::make().as_ptr();
    });
    query
}

/// Whether an entry `levels` below a WITH list refers to this CTE of it.
pub fn refers_to(entry: Entry, cte: Node<pg_sys::CommonTableExpr>, levels: u32) -> bool {
    entry.get().rtekind == pg_sys::RTEKind::RTE_CTE
        && entry.get().ctelevelsup == levels
        // SAFETY: both names are NUL-terminated strings of live nodes.
        && unsafe { std::ffi::CStr::from_ptr(entry.get().ctename) == std::ffi::CStr::from_ptr(cte.get().ctename) }
}

/// A range table entry for a subquery in FROM.
pub fn subquery(query: Query, columns: &[String]) -> Entry {
    let entry = Node::<pg_sys::RangeTblEntry>::make();
    entry.set(|entry| {
        entry.rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        entry.subquery = query.as_ptr();
        entry.inFromCl = true;
    });
    // SAFETY: new string nodes in a new alias.
    unsafe {
        let names = columns.iter().map(|name| pg_sys::makeString(node::cstring(name)));
        entry.set(|entry| entry.eref = pg_sys::makeAlias(c"*SELECT*".as_ptr(), list::make(names)));
    }
    entry
}

/// A join tree of one range table entry.
pub fn from_one(entry: i32) -> Node<pg_sys::FromExpr> {
    from_all(&[entry])
}

/// A join tree of all combinations of some range table entries.
pub fn from_all(entries: &[i32]) -> Node<pg_sys::FromExpr> {
    let reference = |&entry: &i32| {
        let reference = Node::<pg_sys::RangeTblRef>::make();
        reference.set(|reference| reference.rtindex = entry);
        reference
    };
    let from = Node::<pg_sys::FromExpr>::make();
    from.set(|from| from.fromlist = to_list(&entries.iter().map(reference).collect::<Vec<_>>()));
    from
}

/// An entry in the place of one that is not there, so that the others keep their numbers.
pub fn no_entry() -> Entry {
    let entry = Node::<pg_sys::RangeTblEntry>::make();
    // SAFETY: a new alias without columns.
    let names = unsafe { pg_sys::makeAlias(c"*RESULT*".as_ptr(), std::ptr::null_mut()) };
    entry.set(|entry| {
        entry.rtekind = pg_sys::RTEKind::RTE_RESULT;
        entry.eref = names;
    });
    entry
}

/// Of the joins that may replace a column by NULL, those stay that are said to.
pub fn keep_nulling(var: Node<pg_sys::Var>, mut is_kept: impl FnMut(i32) -> bool) {
    let all = var.get().varnullingrels;
    let mut kept = std::ptr::null_mut();
    // SAFETY: the set of a live node, which stays as it is; the new one is in the current memory context.
    unsafe {
        let mut join = pg_sys::bms_next_member(all, -1);
        while join >= 0 {
            if is_kept(join) {
                kept = pg_sys::bms_add_member(kept, join);
            }
            join = pg_sys::bms_next_member(all, join);
        }
    }
    var.set(|var| var.varnullingrels = kept);
}

/// The expressions of a range table entry: functions, VALUES, a table function, conditions of row security.
pub fn expressions_of(entry: Entry) -> Vec<Any> {
    let lists = [
        entry.nodes(|entry| entry.functions),
        entry.nodes(|entry| entry.values_lists),
        entry.nodes(|entry| entry.securityQuals),
        entry.child(|entry| entry.tablefunc).map(Node::any).into_iter().collect(),
    ];
    lists.concat()
}

/// `NOT EXISTS (query)`
pub fn not_exists(query: Query) -> Any {
    construct::not(exists(query))
}

/// `EXISTS (query)`
pub fn exists(query: Query) -> Any {
    let sublink = Node::<pg_sys::SubLink>::make();
    sublink.set(|sublink| {
        sublink.subLinkType = pg_sys::SubLinkType::EXISTS_SUBLINK;
        sublink.subselect = query.any().as_ptr();
        sublink.location = -1;
    });
    sublink.any()
}

/// `(condition) IS NOT FALSE` and the like.
pub fn boolean_test(condition: Any, kind: pg_sys::BoolTestType::Type) -> Any {
    let test = Node::<pg_sys::BooleanTest>::make();
    test.set(|test| {
        test.arg = condition.as_ptr().cast();
        test.booltesttype = kind;
        test.location = -1;
    });
    test.any()
}

/// Whether an expression makes several rows of one.
pub fn returns_set(expression: Any) -> bool {
    // SAFETY: alive; only reads.
    unsafe { pg_sys::expression_returns_set(expression.as_ptr()) }
}

/// The conjunction of two conditions, either of which may be missing.
pub fn and(a: Option<Any>, b: Option<Any>) -> Option<Any> {
    let pointer = |node: Option<Any>| node.map_or(std::ptr::null_mut(), Node::as_ptr);
    // SAFETY: live expressions or null, both of which make_and_qual takes.
    unsafe { Node::from_raw(pg_sys::make_and_qual(pointer(a), pointer(b))) }
}

/// The expression with what is constant in it computed.
pub fn folded(expression: Any, owner: &AsOwner) -> Any {
    owner.check();
    // SAFETY: a live expression; without a planner's root only immutable functions are called.
    let folded = unsafe { Node::from_raw(pg_sys::eval_const_expressions(std::ptr::null_mut(), expression.as_ptr())) };
    folded.expect("a folded expression is an expression")
}

/// The expression converted implicitly to a type, as the server converts the legs of a UNION.
pub fn converted(expression: Any, typid: pg_sys::Oid) -> Any {
    // SAFETY: no parse state is needed for an expression of a known type.
    let converted = unsafe {
        pg_sys::coerce_to_common_type(std::ptr::null_mut(), expression.as_ptr(), typid, c"UNION ALL".as_ptr())
    };
    // SAFETY: a live expression.
    unsafe { Node::from_raw(converted) }.expect("a conversion is an expression")
}

/// The expression with another collation.
pub fn relabelled(expression: Any, collation: pg_sys::Oid) -> Any {
    let of = type_of(expression);
    let form = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
    // SAFETY: a live expression of this type.
    let relabelled =
        unsafe { pg_sys::applyRelabelType(expression.as_ptr(), of.typid, of.typmod, collation, form, -1, false) };
    // SAFETY: a live expression.
    unsafe { Node::from_raw(relabelled) }.expect("a relabelled expression is an expression")
}

/// Writes a mark on a relation's entry, where the server keeps nothing for relations.
pub fn set_mark(entry: Entry, text: &str) {
    entry.set(|entry| entry.enrname = node::cstring(text));
}

/// The mark on the entry of a relation or a subquery, whose `enrname` the server does not use.
pub fn mark(entry: Entry) -> Option<String> {
    let kinds = [pg_sys::RTEKind::RTE_RELATION, pg_sys::RTEKind::RTE_SUBQUERY];
    let is_marked = kinds.contains(&entry.get().rtekind) && !entry.get().enrname.is_null();
    // SAFETY: a NUL-terminated string of a live node.
    is_marked.then(|| unsafe { node::string(entry.get().enrname) })
}

/// A read-only copy of a list of nodes that is not empty.
pub fn list_tree<T>(items: &[Node<T>]) -> Tree<pg_sys::List> {
    // SAFETY: a fresh deep copy that nobody else can change.
    unsafe { Tree::new(node::copy(to_list(items))) }
}

/// The elements of a kept list of target entries.
pub fn list_nodes(tree: &Tree<pg_sys::List>) -> Vec<Target> {
    // SAFETY: the tree is alive and a list of nodes.
    unsafe { list::iter(tree.as_ptr()).filter_map(|target| Node::from_raw(target)).collect() }
}

/// Plans a copy of the query, which raises the server's error when the tree is not sound.
pub fn plan(query: Query, owner: &AsOwner) {
    owner.check();
    // SAFETY: a private copy of a complete query without parameters.
    unsafe { pg_sys::pg_plan_query(query.copy().as_ptr(), c"".as_ptr(), 0, std::ptr::null_mut()) };
}

/// The query as SQL, for people.
pub fn sql(query: Query) -> String {
    // SAFETY: alive; the server may scribble on it while deparsing, so it gets a copy; returns a palloc'd string.
    unsafe { node::string(pg_sys::pg_get_querydef(query.copy().as_ptr(), false)) }
}
