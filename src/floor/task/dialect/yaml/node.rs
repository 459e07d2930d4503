//! A value of a task file.

use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Tagged};

/// A Python function named in a file: `module.function` beside the file with the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::task) struct Function {
    /// As written: `utils.process_docs`.
    pub(in crate::task) name: String,
    /// The folder of the file with the tag.
    pub(in crate::task) folder: PathBuf,
}

/// A value of a task file. Of duplicate keys the last one wins.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::task) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    Function(Function),
}

impl Node {
    /// Parses a file as PyYAML does; functions are relative to `folder`. Error: not YAML, with the location.
    pub(in crate::task) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let read = |strict_booleans| -> Result<Self, String> {
            let options = serde_saphyr::options! {
                duplicate_keys: DuplicateKeyPolicy::PassThrough,
                non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
                legacy_octal_numbers: true,
                strict_booleans: strict_booleans,
                with_snippet: false,
            };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
        };
        let mut node = read(false)?;
        node.single_letters(&read(true)?);
        node.place(folder);
        Ok(node)
    }

    /// `y` and `n` are booleans in YAML 1.1 but strings in PyYAML: take them from a parse that knows only `true` and `false`.
    fn single_letters(&mut self, strict: &Node) {
        match (self, strict) {
            (node @ Self::Bool(_), Self::Text(text)) if matches!(text.as_str(), "y" | "Y" | "n" | "N") => {
                *node = Self::Text(text.clone());
            }
            (Self::List(nodes), Self::List(strict)) => {
                nodes.iter_mut().zip(strict).for_each(|(node, strict)| node.single_letters(strict));
            }
            (Self::Map(pairs), Self::Map(strict)) => {
                pairs.iter_mut().zip(strict).for_each(|((_, node), (_, strict))| node.single_letters(strict));
            }
            _ => {}
        }
    }

    fn place(&mut self, at: &Path) {
        match self {
            Self::Function(function) => function.folder = at.to_owned(),
            Self::List(items) => items.iter_mut().for_each(|item| item.place(at)),
            Self::Map(entries) => entries.iter_mut().for_each(|(_, value)| value.place(at)),
            _ => {}
        }
    }

    /// The value of a map's key, unless null.
    pub(in crate::task) fn get(&self, key: &str) -> Option<&Node> {
        let Self::Map(entries) = self else { return None };
        let found = entries.iter().find(|(known, _)| known == key).map(|(_, value)| value);
        found.filter(|value| **value != Self::Null)
    }

    /// The map without a key.
    pub(in crate::task) fn without(&self, key: &str) -> Node {
        match self {
            Self::Map(entries) => {
                Self::Map(entries.iter().filter(|(known, _)| known != key).cloned().collect())
            }
            other => other.clone(),
        }
    }

    /// The map updated with the keys of another.
    pub(in crate::task) fn merged(self, over: &Node) -> Node {
        let (Self::Map(mut entries), Self::Map(changes)) = (self, over) else { return over.clone() };
        for (key, value) in changes {
            match entries.iter_mut().find(|(known, _)| known == key) {
                Some((_, old)) => *old = value.clone(),
                None => entries.push((key.clone(), value.clone())),
            }
        }
        Self::Map(entries)
    }

    pub(in crate::task) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A scalar as a string, printed as in Python.
    pub(in crate::task) fn scalar(&self) -> Option<String> {
        match self {
            Self::Text(_) | Self::Bool(_) | Self::Int(_) | Self::Float(_) => {
                Some(crate::python::python_str(&self.json()))
            }
            _ => None,
        }
    }

    /// As JSON; a function is printed as its name.
    pub(in crate::task) fn json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
            Self::List(items) => items.iter().map(Self::json).collect(),
            Self::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.json())).collect())
            }
            Self::Function(function) => format!("!function {}", function.name).into(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Tagged(Bare(node), tag) = Tagged::deserialize(deserializer)?;
        Ok(match (tag.as_deref(), node) {
            (Some("!function"), Node::Text(name)) => {
                Node::Function(Function { name, folder: PathBuf::new() })
            }
            (_, other) => other,
        })
    }
}

/// A value without its tag.
struct Bare(Node);

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(Self)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value of a task file")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Float(value as f64), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Node>()? {
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some((_, old)) => *old = value,
                None => entries.push((key, value)),
            }
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_keys_the_last_counts_and_functions_know_their_folder() {
        let text = "task: a\ntask: b\nprocess_docs: !function utils.f\nxs: [1, 2.5, True, null, 'y']\n";
        let node = Node::parse(text, Path::new("/folder")).unwrap();
        assert_eq!(node.get("task"), Some(&Node::Text("b".into())));
        let function = Function { name: "utils.f".into(), folder: "/folder".into() };
        assert_eq!(node.get("process_docs"), Some(&Node::Function(function)));
        let items = [Node::Int(1), Node::Float(2.5), Node::Bool(true), Node::Null, Node::Text("y".into())];
        assert_eq!(node.get("xs"), Some(&Node::List(items.to_vec())));
        assert!(Node::parse("a: [", Path::new(".")).is_err());
        let node = Node::parse("y: y\nn: [n, 'yes', yes, 010, .nan]\n", Path::new(".")).unwrap();
        assert_eq!(node.get("y"), Some(&Node::Text("y".into())));
        let Some(Node::List(items)) = node.get("n") else { panic!("{node:?}") };
        let start = [Node::Text("n".into()), Node::Text("yes".into()), Node::Bool(true), Node::Int(8)];
        assert_eq!(items[..4], start);
        assert!(matches!(items[4], Node::Float(nan) if nan.is_nan()));
    }
}
