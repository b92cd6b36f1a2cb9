//! What a node carries from the planner to the executor: a struct of its own, the [`Provider::Spec`], written as nodes
//! into `custom_private` of the plan.
//!
//! The server copies plans, and may write them as text and read them back, so everything is written as nodes that the server
//! knows. [`private!`] writes and reads a struct or an enum field by field, in one order: a list whose first item is the name
//! of the struct or of the variant, and then one node for each field. A reader that meets another kind of node than the
//! field's type is written as raises an error, as does one that finds too few or too many.
//!
//! [`Provider::Spec`]: super::node::Provider::Spec

use crate::error::cannot_happen;
use crate::pg::{list, node};
use pgrx::pg_sys::{self, NodeTag};

/// A value that can be carried by a plan.
pub trait Private: Sized {
    /// The value as one node (or null, the empty list) in the current memory context. Trees are not copied.
    fn to_node(&self) -> *mut pg_sys::Node;

    /// The value of a node. Trees are those in the node.
    ///
    /// # Safety
    /// `node` was made by `to_node`, for this type, or is a copy; it stays alive and unchanged as long as trees of the value are
    /// in use.
    unsafe fn from_node(node: *mut pg_sys::Node) -> Self;

    /// The value as `custom_private`.
    fn to_private(&self) -> *mut pg_sys::List {
        // SAFETY: a new list of one node.
        unsafe { list::make([self.to_node()]) }
    }

    /// The value that `custom_private` has.
    ///
    /// # Safety
    /// `private` was made by `to_private`, for this type, or is a copy; see `from_node`.
    unsafe fn from_private(private: *mut pg_sys::List) -> Self {
        // SAFETY: the only item of the list is what `to_node` made.
        let node = unsafe { list::iter(private) }.next();
        // SAFETY: the caller keeps the list alive.
        unsafe { Self::from_node(node.unwrap_or_else(|| cannot_happen("a plan node lacks its private data"))) }
    }
}

/// `node` as a node of type `T`, which has this tag.
///
/// # Safety
/// `node` is null or a live node.
unsafe fn as_a<'a, T>(node: *mut pg_sys::Node, tag: NodeTag) -> &'a T {
    // SAFETY: the tag tells the type of a node.
    unsafe {
        if !node::is_a(node, tag) {
            cannot_happen("private data of a plan node is not of its type");
        }
        &*node.cast()
    }
}

impl Private for bool {
    fn to_node(&self) -> *mut pg_sys::Node {
        // SAFETY: plain node construction.
        unsafe { pg_sys::makeBoolean(*self).cast() }
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: the caller has a live node.
        unsafe { as_a::<pg_sys::Boolean>(node, NodeTag::T_Boolean).boolval }
    }
}

/// A constant of this type, which has four bytes.
fn constant(typid: pg_sys::Oid, value: pg_sys::Datum) -> *mut pg_sys::Node {
    // SAFETY: the value is passed by value.
    unsafe { pg_sys::makeConst(typid, -1, pg_sys::InvalidOid, 4, value, false, true).cast() }
}

/// The value of a constant of this type.
///
/// # Safety
/// `node` is null or a live node.
unsafe fn value_of(node: *mut pg_sys::Node, typid: pg_sys::Oid) -> pg_sys::Datum {
    // SAFETY: the caller has a live node.
    let constant = unsafe { as_a::<pg_sys::Const>(node, NodeTag::T_Const) };
    if constant.consttype != typid {
        cannot_happen("private data of a plan node is not of its type");
    }
    constant.constvalue
}

/// Not an Integer node: the least of all is read back from text as a Float.
impl Private for i32 {
    fn to_node(&self) -> *mut pg_sys::Node {
        constant(pg_sys::INT4OID, (*self).into())
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: the caller has a live node.
        unsafe { value_of(node, pg_sys::INT4OID) }.value() as i32
    }
}

/// Numbers of columns.
impl Private for usize {
    fn to_node(&self) -> *mut pg_sys::Node {
        i32::try_from(*self).unwrap_or_else(|_| cannot_happen("a number in a plan node is too large")).to_node()
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: the caller has a live node.
        let number = unsafe { i32::from_node(node) };
        number.try_into().unwrap_or_else(|_| cannot_happen("a number in a plan node is negative"))
    }
}

impl Private for pg_sys::Oid {
    fn to_node(&self) -> *mut pg_sys::Node {
        constant(pg_sys::OIDOID, (*self).into())
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: the caller has a live node.
        pg_sys::Oid::from(unsafe { value_of(node, pg_sys::OIDOID) }.value() as u32)
    }
}

/// A tree. It must be one that the server can copy.
impl<T> Private for *mut T {
    fn to_node(&self) -> *mut pg_sys::Node {
        self.cast()
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        node.cast()
    }
}

/// The items of a list that was written by this file.
unsafe fn items(node: *mut pg_sys::Node) -> impl ExactSizeIterator<Item = *mut pg_sys::Node> {
    // SAFETY: a null node is the empty list; the caller has a live one.
    let list: Vec<_> = unsafe {
        if !node.is_null() {
            as_a::<pg_sys::List>(node, NodeTag::T_List);
        }
        list::iter::<pg_sys::Node>(node.cast()).collect()
    };
    list.into_iter()
}

impl<T: Private> Private for Vec<T> {
    fn to_node(&self) -> *mut pg_sys::Node {
        // SAFETY: a new list of nodes.
        unsafe { list::make(self.iter().map(Private::to_node)).cast() }
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: the items are what `to_node` of T made.
        unsafe { items(node).map(|item| T::from_node(item)).collect() }
    }
}

impl<T: Private, const N: usize> Private for [T; N] {
    fn to_node(&self) -> *mut pg_sys::Node {
        // SAFETY: a new list of nodes.
        unsafe { list::make(self.iter().map(Private::to_node)).cast() }
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: written as a list of T.
        let items: Vec<T> = unsafe { Vec::from_node(node) };
        items.try_into().unwrap_or_else(|_| cannot_happen("a list in a plan node has another length"))
    }
}

/// A list of one or no item.
impl<T: Private> Private for Option<T> {
    fn to_node(&self) -> *mut pg_sys::Node {
        // SAFETY: a new list of nodes.
        unsafe { list::make(self.iter().map(Private::to_node)).cast() }
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: the item is what `to_node` of T made.
        unsafe { items(node).next().map(|item| T::from_node(item)) }
    }
}

/// Texts without NUL.
impl Private for String {
    fn to_node(&self) -> *mut pg_sys::Node {
        // SAFETY: plain node construction.
        unsafe { pg_sys::makeString(node::cstring(self)).cast() }
    }

    unsafe fn from_node(node: *mut pg_sys::Node) -> Self {
        // SAFETY: the caller has a live node.
        unsafe { node::string(as_a::<pg_sys::String>(node, NodeTag::T_String).sval) }
    }
}

/// For `private!`: a name and what follows it.
pub fn written(name: &str, fields: &[*mut pg_sys::Node]) -> *mut pg_sys::Node {
    // SAFETY: a new list of nodes.
    unsafe { list::make([name.to_owned().to_node()].into_iter().chain(fields.iter().copied())).cast() }
}

/// For `private!`: reads what `written` wrote.
pub struct Fields(std::vec::IntoIter<*mut pg_sys::Node>);

impl Fields {
    /// The name, and the fields after it.
    ///
    /// # Safety
    /// `node` was made by `written` or is a copy, and outlives what is read from it.
    pub unsafe fn of(node: *mut pg_sys::Node) -> (String, Self) {
        // SAFETY: `written` put the name first.
        unsafe {
            let mut items = items(node).collect::<Vec<_>>().into_iter();
            (String::from_node(items.next().unwrap_or(std::ptr::null_mut())), Self(items))
        }
    }

    /// The next field.
    ///
    /// # Safety
    /// It was written as a T.
    pub unsafe fn read<T: Private>(&mut self) -> T {
        // SAFETY: the caller knows the type.
        unsafe { T::from_node(self.0.next().unwrap_or_else(|| cannot_happen("a plan node lacks private data"))) }
    }

    pub fn end(self) {
        if self.0.len() > 0 {
            cannot_happen("a plan node has more private data than is known");
        }
    }
}

/// Makes a struct or an enum [`Private`]: `private!(struct Name { field, .. })`, `private!(enum Name { Variant, Other { field, .. }, .. })`.
macro_rules! private {
    (struct $name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::exec::private::Private for $name {
            fn to_node(&self) -> *mut pgrx::pg_sys::Node {
                let Self { $($field),* } = self;
                let fields = [$($crate::exec::private::Private::to_node($field)),*];
                $crate::exec::private::written(stringify!($name), &fields)
            }

            unsafe fn from_node(node: *mut pgrx::pg_sys::Node) -> Self {
                // SAFETY: `to_node` wrote the fields in this order.
                unsafe {
                    let (name, mut fields) = $crate::exec::private::Fields::of(node);
                    if name != stringify!($name) {
                        $crate::error::cannot_happen(format!("a plan node has private data of a {name}"));
                    }
                    let value = Self { $($field: fields.read()),* };
                    fields.end();
                    value
                }
            }
        }
    };
    (enum $name:ident { $($variant:ident $({ $($field:ident),* $(,)? })?),* $(,)? }) => {
        impl $crate::exec::private::Private for $name {
            fn to_node(&self) -> *mut pgrx::pg_sys::Node {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        let fields: &[*mut pgrx::pg_sys::Node] = &[$($($crate::exec::private::Private::to_node($field)),*)?];
                        $crate::exec::private::written(stringify!($variant), fields)
                    })*
                }
            }

            unsafe fn from_node(node: *mut pgrx::pg_sys::Node) -> Self {
                // SAFETY: `to_node` wrote the variant's fields in this order.
                unsafe {
                    #[allow(unused_mut)]
                    let (name, mut fields) = $crate::exec::private::Fields::of(node);
                    let value = match name.as_str() {
                        $(stringify!($variant) => Self::$variant $({ $($field: fields.read()),* })?,)*
                        _ => $crate::error::cannot_happen(format!("a plan node has private data of a {name}")),
                    };
                    fields.end();
                    value
                }
            }
        }
    };
}
pub(crate) use private;
