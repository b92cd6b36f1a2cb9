//! `Node<T>`: a safe handle over a node of a parse tree.
//!
//! A handle is a plain pointer that is known to be alive and of type T. Handles come from other handles (whose fields
//! the server keeps pointing at live nodes) with the node's tag checked on the way, so code outside the fence reads and
//! rewrites trees without a raw pointer. Trees live in memory contexts; whoever rewrites one works on a private copy
//! and drops its handles before the context goes.
//!
//! Any number of handles may stand for one node, so a handle is to its node what `&Cell<T>` is to a value: fields are
//! copied out ([`Node::get`]) and put back ([`Node::set`]), and nobody ever holds a reference into a tree that another
//! handle, or the server, may change.

use super::tree::Tree;
use super::{list, node};
use pgrx::pg_sys;
use std::ffi::c_void;
use std::ptr::NonNull;

pub struct Node<T>(NonNull<T>);

/// A node whose type is not known yet.
pub type Any = Node<pg_sys::Node>;

/// Node types whose tag is known.
pub trait Tagged {
    const TAG: pg_sys::NodeTag;
}

macro_rules! tagged {
    ($($name:ident = $tag:ident),* $(,)?) => {
        $(impl Tagged for pg_sys::$name { const TAG: pg_sys::NodeTag = pg_sys::NodeTag::$tag; })*
    };
}

tagged! {
    Aggref = T_Aggref,
    ArrayCoerceExpr = T_ArrayCoerceExpr,
    BoolExpr = T_BoolExpr,
    BooleanTest = T_BooleanTest,
    CaseExpr = T_CaseExpr,
    CaseTestExpr = T_CaseTestExpr,
    CaseWhen = T_CaseWhen,
    CoerceViaIO = T_CoerceViaIO,
    CommonTableExpr = T_CommonTableExpr,
    Const = T_Const,
    FromExpr = T_FromExpr,
    FuncExpr = T_FuncExpr,
    GroupingFunc = T_GroupingFunc,
    GroupingSet = T_GroupingSet,
    JoinExpr = T_JoinExpr,
    JsonConstructorExpr = T_JsonConstructorExpr,
    JsonExpr = T_JsonExpr,
    MinMaxExpr = T_MinMaxExpr,
    NextValueExpr = T_NextValueExpr,
    OpExpr = T_OpExpr,
    Param = T_Param,
    PlannerInfo = T_PlannerInfo,
    Query = T_Query,
    RTEPermissionInfo = T_RTEPermissionInfo,
    RangeTblEntry = T_RangeTblEntry,
    RangeTblFunction = T_RangeTblFunction,
    RangeTblRef = T_RangeTblRef,
    RelabelType = T_RelabelType,
    SetOperationStmt = T_SetOperationStmt,
    SortGroupClause = T_SortGroupClause,
    CollateExpr = T_CollateExpr,
    ConvertRowtypeExpr = T_ConvertRowtypeExpr,
    RowExpr = T_RowExpr,
    SQLValueFunction = T_SQLValueFunction,
    SubLink = T_SubLink,
    TableFunc = T_TableFunc,
    TargetEntry = T_TargetEntry,
    Var = T_Var,
    WindowFunc = T_WindowFunc,
}

impl<T> Node<T> {
    /// # Safety
    /// `pointer` is null or a live node of type `T` that outlives the handle.
    pub unsafe fn from_raw(pointer: *mut T) -> Option<Self> {
        NonNull::new(pointer).map(Self)
    }

    pub fn as_ptr(self) -> *mut T {
        self.0.as_ptr()
    }

    pub fn any(self) -> Any {
        Node(self.0.cast())
    }

    pub fn tag(self) -> pg_sys::NodeTag {
        // SAFETY: every node starts with its tag.
        unsafe { (*self.0.as_ptr().cast::<pg_sys::Node>()).type_ }
    }

    pub fn is<U: Tagged>(self) -> bool {
        self.tag() == U::TAG
    }

    /// The node as a `U` when it is one.
    pub fn cast<U: Tagged>(self) -> Option<Node<U>> {
        self.is::<U>().then(|| Node(self.0.cast()))
    }

    /// A private deep copy in the current memory context.
    pub fn copy(self) -> Self {
        // SAFETY: alive, as whoever made the handle promised; copyObject of a node is not null.
        unsafe { Self(NonNull::new_unchecked(node::copy(self.0.as_ptr()))) }
    }

    /// A read-only copy in the current memory context.
    pub fn tree(self) -> Tree<T> {
        // SAFETY: a fresh copy that nobody else can change.
        unsafe { Tree::new(self.copy().as_ptr()) }
    }

    /// The tree's text form without source locations.
    pub fn text(self) -> String {
        // SAFETY: alive; nodeToString only reads and returns a palloc'd string.
        unsafe { node::string(pg_sys::nodeToString(self.as_ptr().cast())) }
    }

    /// The server's `equal`: same tree, source locations aside.
    pub fn equals<U>(self, other: Node<U>) -> bool {
        // SAFETY: both alive; equal only reads.
        unsafe { pg_sys::equal(self.as_ptr().cast::<c_void>(), other.as_ptr().cast::<c_void>()) }
    }
}

impl<T: Copy> Node<T> {
    /// A copy of the node's fields, of which most callers want one.
    #[inline]
    pub fn get(self) -> T {
        // SAFETY: alive and of type T, as whoever made the handle promised.
        unsafe { self.0.read() }
    }

    /// Changes the node's fields. `change` works on a copy that then replaces them: what it does meanwhile to this very
    /// node, through another handle or through the server, is lost.
    #[inline]
    pub fn set(self, change: impl FnOnce(&mut T)) {
        let mut fields = self.get();
        change(&mut fields);
        // SAFETY: as in `get`.
        unsafe { self.0.write(fields) };
    }

    /// A node-valued field.
    pub fn child<U>(self, field: impl FnOnce(&T) -> *mut U) -> Option<Node<U>> {
        NonNull::new(field(&self.get())).map(Node)
    }

    /// The elements of a list-valued field of nodes.
    pub fn list<U: Tagged>(self, field: impl FnOnce(&T) -> *mut pg_sys::List) -> Vec<Node<U>> {
        self.nodes(field)
            .into_iter()
            .map(|item| item.cast().unwrap_or_else(|| panic!("list holds {:?}, not {:?}", item.tag(), U::TAG)))
            .collect()
    }

    /// The elements of a list-valued field of nodes of several types; empty elements are left out.
    pub fn nodes(self, field: impl FnOnce(&T) -> *mut pg_sys::List) -> Vec<Any> {
        // SAFETY: the field of a live node is NIL or a live list of nodes.
        unsafe { list::iter(field(&self.get())).filter_map(|item| Node::from_raw(item)).collect() }
    }

    pub fn oids(self, field: impl FnOnce(&T) -> *mut pg_sys::List) -> Vec<pg_sys::Oid> {
        // SAFETY: as in `nodes`, of a list of oids.
        unsafe { list::oids(field(&self.get())).collect() }
    }

    pub fn ints(self, field: impl FnOnce(&T) -> *mut pg_sys::List) -> Vec<i32> {
        // SAFETY: as in `nodes`, of a list of integers.
        unsafe { list::ints(field(&self.get())).collect() }
    }
}

impl<T: Tagged> Node<T> {
    /// `makeNode`: zeroed, in the current memory context.
    pub fn make() -> Self {
        // SAFETY: the tag belongs to the type by `Tagged`; palloc does not return null.
        unsafe { Self(NonNull::new_unchecked(node::make(T::TAG))) }
    }
}

/// A server list of these nodes in the current memory context.
pub fn to_list<T>(items: &[Node<T>]) -> *mut pg_sys::List {
    // SAFETY: handles are live nodes.
    unsafe { list::make(items.iter().map(|item| item.as_ptr())) }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Node<T> {}

/// Identity, not `equals`.
impl<T> PartialEq for Node<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
