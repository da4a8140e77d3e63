//! Walks the TOML tree into the raw tables. serde stops at the first mistake; this notes each one with its place and
//! goes on, so that one bad value never hides another.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::mistake::{Collector, Place, join, nearest};
use super::units;

/// A key of a raw table.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    /// It was not written.
    #[default]
    Absent,
    /// It was written and is wrong; the mistake is noted already.
    Bad,
    /// It was written.
    Here(At<T>),
}

/// A value and where it was written.
#[derive(Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl<T> Field<T> {
    /// The value, if it was written and is well-formed.
    pub(super) fn get(&self) -> Option<&At<T>> {
        match self {
            Field::Here(at) => Some(at),
            Field::Absent | Field::Bad => None,
        }
    }

    /// It was not written at all.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }
}

impl<T: Read> Field<T> {
    pub(super) fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Self {
        let place = if T::POINTS_AT_KEY { node.key_place() } else { node.place(T::SECRET) };
        match T::read(node, mistakes) {
            Some(value) => Field::Here(At { value, place }),
            None => Field::Bad,
        }
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// One key with its value in the TOML tree.
#[derive(Debug, Clone)]
pub(super) struct Node<'d> {
    value: &'d DeValue<'d>,
    value_span: Range<usize>,
    key_span: Range<usize>,
    /// The key with its path.
    path: String,
    /// The key alone.
    pub(super) name: &'d str,
}

impl<'d> Node<'d> {
    /// A key of a table whose own path is `path`.
    pub(super) fn child(path: &str, key: &'d Spanned<DeString<'d>>, value: &'d Spanned<DeValue<'d>>) -> Self {
        Node {
            value: value.get_ref(),
            value_span: value.span(),
            key_span: key.span(),
            path: join(path, key.get_ref()),
            name: key.get_ref(),
        }
    }

    /// Where the value is.
    pub(super) fn place(&self, secret: bool) -> Place {
        Place { key: self.path.clone(), span: self.value_span.clone(), secret }
    }

    /// Where the key is.
    pub(super) fn key_place(&self) -> Place {
        Place { key: self.path.clone(), span: self.key_span.clone(), secret: false }
    }

    /// Each key of a table; `None` and a mistake when it is none.
    fn children(&self, mistakes: &Collector<'_>) -> Option<Vec<Node<'d>>> {
        match self.value {
            DeValue::Table(table) => Some(children(&self.path, table)),
            _ => {
                self.wrong_type(
                    mistakes,
                    "a table",
                    format!("write [{}] and its keys below, or {{ key = … }}", self.path),
                );
                None
            }
        }
    }

    /// Each item of a list; `None` and a mistake when it is none.
    fn items(&self, mistakes: &Collector<'_>, remedy: &str) -> Option<Vec<Node<'d>>> {
        match self.value {
            DeValue::Array(items) => Some(items.iter().map(|item| self.item(item)).collect()),
            _ => {
                self.wrong_type(mistakes, "a list", remedy);
                None
            }
        }
    }

    /// An item of a list goes by the list's key and its own place.
    fn item(&self, item: &'d Spanned<DeValue<'d>>) -> Node<'d> {
        Node {
            value: item.get_ref(),
            value_span: item.span(),
            key_span: item.span(),
            path: self.path.clone(),
            name: self.name,
        }
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    fn wrong_type(&self, mistakes: &Collector<'_>, wanted: &str, remedy: impl Into<String>) {
        let what = format!("{} where {wanted} belongs", type_words(self.value));
        mistakes.value(&self.place(false), what, remedy);
    }
}

/// Each key of a table.
pub(super) fn children<'d>(path: &str, table: &'d DeTable<'d>) -> Vec<Node<'d>> {
    table.iter().map(|(key, value)| Node::child(path, key, value)).collect()
}

/// Something that can be read from a TOML value.
pub(super) trait Read: Sized {
    /// Mistakes about it point at its key instead of its value.
    const POINTS_AT_KEY: bool = false;
    /// What was written may be secret.
    const SECRET: bool = false;

    /// Reads it; `None` when it is wrong, with the mistake noted.
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self>;
}

/// Defines a raw table: its struct, its reader and its part of the reference, from one list of keys.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default, schemars::JsonSchema)]
        #[schemars(rename_all = "kebab-case", default, inline)]
        pub(in crate::config) struct $name {
            $($(#[$field_meta])* pub(in crate::config) $field: $crate::config::read::Field<$type>,)*
        }

        impl $name {
            /// Takes the keys that it knows; the others are mistakes.
            pub(in crate::config) fn read_keys(
                nodes: Vec<$crate::config::read::Node<'_>>,
                mistakes: &$crate::config::mistake::Collector<'_>,
            ) -> Self {
                let mut table = Self::default();
                for node in nodes {
                    let name = node.name;
                    $(if name == $crate::config::read::key(stringify!($field)) {
                        table.$field = $crate::config::read::Field::read(&node, mistakes);
                        continue;
                    })*
                    $crate::config::read::unknown_key(&node, &[$(stringify!($field)),*], mistakes);
                }
                table
            }
        }

        impl $crate::config::read::Read for $name {
            const POINTS_AT_KEY: bool = true;

            fn read(
                node: &$crate::config::read::Node<'_>,
                mistakes: &$crate::config::mistake::Collector<'_>,
            ) -> Option<Self> {
                Some(Self::read_keys($crate::config::read::table_keys(node, mistakes)?, mistakes))
            }
        }
    };
}
pub(super) use table;

/// How a field of a raw table is written: `r#for` and `on_call` are `for` and `on-call`.
pub(super) fn key(field: &str) -> String {
    field.trim_start_matches("r#").replace('_', "-")
}

/// The keys of a table; `None` and a mistake when it is none.
pub(super) fn table_keys<'d>(node: &Node<'d>, mistakes: &Collector<'_>) -> Option<Vec<Node<'d>>> {
    node.children(mistakes)
}

/// Notes a key that no table of this version has.
pub(super) fn unknown_key(node: &Node<'_>, fields: &[&str], mistakes: &Collector<'_>) {
    let place = node.key_place();
    let known: Vec<String> = fields.iter().map(|field| key(field)).collect();
    let other_word = OTHER_WORDS.iter().find(|(word, ours)| *word == node.name && fields.contains(ours));
    let meant = nearest(node.name, known.iter().map(String::as_str)).or(other_word.map(|(_, ours)| *ours));
    let remedy = match (meant, super::schema::tables_with(node.name)) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, tables) if !tables.is_empty() => format!("it belongs {}", tables.join(" or ")),
        (None, _) => format!("remove it, or write one of: {}", known.join(", ")),
    };
    mistakes.key(&place, "unknown key", remedy);
}

/// What other programs call our keys.
const OTHER_WORDS: [(&str, &str); 9] = [
    ("url", "address"),
    ("uri", "address"),
    ("host", "hosts"),
    ("domains", "hosts"),
    ("path", "http"),
    ("cmd", "command"),
    ("exec", "command"),
    ("cwd", "dir"),
    ("lb", "balance"),
];

/// Tables whose keys are names of the user's own, in the order of the names.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<(At<String>, Field<T>)>);

impl<T: Read> Read for Named<T> {
    const POINTS_AT_KEY: bool = true;

    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let named = |node: Node<'_>| {
            let name = At { value: node.name.to_owned(), place: node.key_place() };
            (name, Field::read(&node, mistakes))
        };
        Some(Named(node.children(mistakes)?.into_iter().map(named).collect()))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each = T::json_schema(generator);
        json_schema!({ "type": "object", "title": "table", "additionalProperties": each })
    }
}

/// A list. Items that are wrong are left out; `complete` says whether there were any.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<At<T>>,
    pub(super) complete: bool,
}

impl<T: Read> List<T> {
    fn of(nodes: Vec<Node<'_>>, mistakes: &Collector<'_>) -> Self {
        let mut list = List { items: Vec::new(), complete: true };
        for node in nodes {
            match Field::read(&node, mistakes) {
                Field::Here(item) => list.items.push(item),
                Field::Absent | Field::Bad => list.complete = false,
            }
        }
        list
    }

    /// It was written empty.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.complete
    }
}

impl<T: Read> Read for List<T> {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let remedy = match node.value.as_str() {
            Some(text) => {
                let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
                format!("write [{}]", words.join(", "))
            }
            None => "write [ … ]".to_owned(),
        };
        Some(Self::of(node.items(mistakes, &remedy)?, mistakes))
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("List{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each = T::json_schema(generator);
        json_schema!({ "type": "array", "title": "list", "items": each })
    }
}

/// One value, or a list of them.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub(super) List<T>);

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let nodes = match node.value {
            DeValue::Array(_) => node.items(mistakes, "")?,
            _ => vec![node.clone()],
        };
        let list = List::of(nodes, mistakes);
        (list.complete || !list.items.is_empty()).then_some(OneOrMany(list))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::json_schema(generator);
        let word = one.get("title").and_then(|t| t.as_str()).unwrap_or("value").to_owned();
        json_schema!({
            "title": format!("{word} or list"),
            "anyOf": [one, { "type": "array", "items": one }],
        })
    }
}

/// `true`, `false`, or a table that says more than `true`.
#[derive(Debug)]
pub(super) enum TrueOr<T> {
    Bare(bool),
    Table(T),
}

impl<T: Read> Read for TrueOr<T> {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        match node.value {
            DeValue::Boolean(value) => Some(TrueOr::Bare(*value)),
            DeValue::Table(_) => T::read(node, mistakes).map(TrueOr::Table),
            _ => {
                let remedy = format!("write {} = true, or {{ key = … }}", node.name);
                node.wrong_type(mistakes, "true or a table", remedy);
                None
            }
        }
    }
}

impl<T: JsonSchema> JsonSchema for TrueOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("TrueOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The keys of the table are heeded of a table only.
        let mut schema = T::json_schema(generator);
        schema.insert("title".to_owned(), "true or table".into());
        schema.insert("type".to_owned(), vec!["boolean", "object"].into());
        schema
    }
}

/// A text, or a table that says more than it.
#[derive(Debug)]
pub(super) enum TextOr<T> {
    Text(String),
    Table(T),
}

impl<T: Read> Read for TextOr<T> {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => T::read(node, mistakes).map(TextOr::Table),
            _ => Text::read(node, mistakes).map(|text| TextOr::Text(text.0)),
        }
    }
}

impl<T: JsonSchema> JsonSchema for TextOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("TextOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The keys of the table are heeded of a table only.
        let mut schema = T::json_schema(generator);
        schema.insert("title".to_owned(), "text or table".into());
        schema.insert("type".to_owned(), vec!["string", "object"].into());
        schema
    }
}

/// A list of texts, or a table that says more than it.
#[derive(Debug)]
pub(super) enum ListOr<T> {
    List(List<Text>),
    Table(T),
}

impl<T: Read> Read for ListOr<T> {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => T::read(node, mistakes).map(ListOr::Table),
            _ => List::read(node, mistakes).map(ListOr::List),
        }
    }
}

impl<T: JsonSchema> JsonSchema for ListOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each = Text::json_schema(generator);
        // The keys of the table are heeded of a table only, the items of a list only.
        let mut schema = T::json_schema(generator);
        schema.insert("title".to_owned(), "list or table".into());
        schema.insert("type".to_owned(), vec!["array", "object"].into());
        schema.insert("items".to_owned(), each.into());
        schema
    }
}

/// A share of a whole: `"20%"` or `0.2`, kept as written; its range is checked where it is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share(pub(super) f64);

/// A size in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u64);

/// So many in so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(pub(super) u32, pub(super) Duration);

/// Bytes in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow(pub(super) u64);

/// An address as `host:port`.
#[derive(Debug, Clone)]
pub(super) struct Address(pub(super) String);

/// Text that may be secret: never shown in a mistake.
#[derive(Debug, Clone)]
pub(super) struct Private(pub(super) String);

/// A leaf of the reference: a TOML type and the word for it.
macro_rules! leaf_schema {
    ($type:ty, $word:literal, $($schema:tt)*) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $word.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($($schema)*);
                schema.insert("title".to_owned(), $word.into());
                schema
            }
        }
    };
}

leaf_schema!(Text, "text", { "type": "string" });
leaf_schema!(Private, "text", { "type": "string" });
leaf_schema!(Address, "host:port", { "type": "string" });
leaf_schema!(Whole, "whole number", { "type": "integer", "minimum": 0 });
leaf_schema!(Span, "duration", { "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d|y)$" });
leaf_schema!(Share, "share", { "type": ["string", "number"], "pattern": "^[0-9.]+ *%$", "minimum": 0, "maximum": 1 });
leaf_schema!(Rate, "rate", { "type": "string", "pattern": "^[0-9]+ */ *[smh]$" });
leaf_schema!(Flow, "size a second", { "type": "string", "pattern": "^[0-9]+ *([kKMG]i?)?B/s$" });
leaf_schema!(Amount, "number", { "type": "number", "minimum": 0 });
leaf_schema!(Size, "size", { "type": "string", "pattern": "^[0-9]+ *([kKMG]i?)?B$" });

/// Any text.
#[derive(Debug, Clone)]
pub(super) struct Text(pub(super) String);

/// A number without sign or fraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole(pub(super) u64);

/// A number that may have a fraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount(pub(super) f64);

/// A duration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl Read for Text {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) => Some(Text(text.as_ref().to_owned())),
            other => {
                let remedy = match other {
                    DeValue::Array(_) | DeValue::Table(_) => "write one text in quotes".to_owned(),
                    _ => format!("write it in quotes: {:?}", written(other)),
                };
                node.wrong_type(mistakes, "text", remedy);
                None
            }
        }
    }
}

impl Read for Private {
    const SECRET: bool = true;

    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) => Some(Private(text.as_ref().to_owned())),
            other => {
                let what = format!("{} where text belongs", type_words(other));
                mistakes.value(&node.place(true), what, "write it in quotes");
                None
            }
        }
    }
}

impl Read for Address {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) => Some(Address(text.as_ref().to_owned())),
            DeValue::Integer(port) => {
                let port = port.as_str();
                node.wrong_type(
                    mistakes,
                    "an address",
                    format!(
                        "write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for every address of this machine"
                    ),
                );
                None
            }
            _ => {
                node.wrong_type(mistakes, "an address", "write \"127.0.0.1:3000\"");
                None
            }
        }
    }
}

impl Read for bool {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let value = node.value.as_bool();
        if value.is_none() {
            node.wrong_type(mistakes, "true or false", "write true or false, without quotes");
        }
        value
    }
}

impl Read for Whole {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let DeValue::Integer(integer) = node.value else {
            node.wrong_type(mistakes, "a whole number", "write a whole number without quotes");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if number.is_none() {
            mistakes.value(&node.place(false), "out of range", "write a whole number from 0 up");
        }
        number.map(Whole)
    }
}

impl Read for Amount {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let number: Option<f64> = match node.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            node.wrong_type(mistakes, "a number", "write a number without quotes: 1200 or 99.5");
        }
        number.map(Amount)
    }
}

impl Read for Span {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let number = match node.value {
            DeValue::Integer(number) => number.as_str(),
            DeValue::String(text) => text.as_ref(),
            _ => {
                node.wrong_type(mistakes, "a duration", "write \"1s\", \"800ms\", \"5m\" or \"2h\"");
                return None;
            }
        };
        match units::duration(number) {
            Ok(duration) => Some(Span(duration)),
            Err(bad) => {
                mistakes.value(&node.place(false), bad.what, bad.remedy);
                None
            }
        }
    }
}

impl Read for Size {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let number = match node.value {
            DeValue::Integer(number) => number.as_str(),
            DeValue::String(text) => text.as_ref(),
            _ => {
                node.wrong_type(mistakes, "a size", "write \"64KiB\"");
                return None;
            }
        };
        match units::size(number) {
            Ok(bytes) => Some(Size(bytes)),
            Err(bad) => {
                mistakes.value(&node.place(false), bad.what, bad.remedy);
                None
            }
        }
    }
}

impl Read for Rate {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        quantity(node, mistakes, units::rate).map(|(number, time)| Rate(number, time))
    }
}

impl Read for Flow {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        quantity(node, mistakes, units::flow).map(Flow)
    }
}

/// A number with a unit, whether or not it was written in quotes.
fn quantity<T>(
    node: &Node<'_>,
    mistakes: &Collector<'_>,
    read: fn(&str) -> Result<T, units::BadQuantity>,
) -> Option<T> {
    let text = match node.value {
        DeValue::Integer(number) => number.as_str(),
        other => other.as_str().unwrap_or_default(),
    };
    read(text).map_err(|bad| mistakes.value(&node.place(false), bad.what, bad.remedy)).ok()
}

impl Read for Share {
    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let share = match node.value {
            DeValue::String(text) => units::percentage(text),
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        if share.is_none() {
            mistakes.value(
                &node.place(false),
                "not a share",
                "write a percentage, \"20%\", or a number from 0 to 1",
            );
        }
        share.map(Share)
    }
}

fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => String::new(),
    }
}

fn type_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
