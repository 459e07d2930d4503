//! Resolves a file's includes.

use std::path::{Path, PathBuf};

use crate::task::TaskError;
use crate::task::dialect::yaml::node::Node;

/// Reads included files.
pub(in crate::task) trait Include {
    /// The content at a path. Error: I/O.
    fn text(&self, path: &Path) -> std::io::Result<String>;
}

impl<F: Fn(&Path) -> std::io::Result<String>> Include for F {
    fn text(&self, path: &Path) -> std::io::Result<String> {
        self(path)
    }
}

/// A file's map, merged over its includes: shallow, in list order, its own keys last. `task_list` is not inherited.
/// Errors: unreadable, not YAML, a file reached twice.
pub(in crate::task) fn load(path: &Path, files: &dyn Include) -> Result<Node, TaskError> {
    let mut seen = Vec::new();
    merged(path, files, &mut seen)
}

fn merged(path: &Path, files: &dyn Include, seen: &mut Vec<PathBuf>) -> Result<Node, TaskError> {
    let file = path.display().to_string();
    if seen.iter().any(|known| known == path) {
        return Err(TaskError::Malformed {
            file,
            reason: "it includes itself, or is included twice".to_owned(),
        });
    }
    seen.push(path.to_owned());
    let text = files.text(path).map_err(|source| TaskError::Io { file: file.clone(), source })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let node =
        Node::parse(&text, folder).map_err(|reason| TaskError::Malformed { file: file.clone(), reason })?;
    let Node::Map(pairs) = node else {
        return Err(TaskError::Malformed { file, reason: "expected a mapping of keys".to_owned() });
    };
    let mut entries: Vec<(String, Node)> = Vec::new();
    let mut put = |key: String, value: Node| match entries.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => entries.push((key, value)),
    };
    let includes = pairs.iter().find(|(key, _)| key == "include").map(|(_, value)| value);
    let names: Vec<&str> = match includes {
        Some(Node::Text(name)) => vec![name],
        Some(Node::List(names)) => names.iter().filter_map(Node::text).collect(),
        _ => Vec::new(),
    };
    for name in names {
        if let Node::Map(included) = merged(&normal(&folder.join(name)), files, seen)? {
            included
                .into_iter()
                .filter(|(key, _)| key != "task_list")
                .for_each(|(key, value)| put(key, value));
        }
    }
    pairs.into_iter().filter(|(key, _)| key != "include").for_each(|(key, value)| put(key, value));
    Ok(Node::Map(entries))
}

/// A path without `.` and `..`, so each file has one name.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &Path) -> std::io::Result<String> {
        let text = match path.to_str().unwrap() {
            "/t/a.yaml" => "include: [base, ../other/more]\ntask: a\nx: 1\n",
            "/t/base" => "x: 0\ny: 0\nprocess_docs: !function utils.f\ntask_list: [1]\n",
            "/other/more" => "y: 2\n",
            "/t/loop" => "include: loop2\n",
            "/t/loop2" => "include: loop\n",
            _ => return Err(std::io::ErrorKind::NotFound.into()),
        };
        Ok(text.to_owned())
    }

    #[test]
    fn own_keys_win_and_later_includes_over_earlier_ones() {
        let node = load(Path::new("/t/a.yaml"), &files).unwrap();
        assert_eq!((node.get("x"), node.get("y")), (Some(&Node::Int(1)), Some(&Node::Int(2))));
        assert_eq!(node.get("task_list"), None);
        let Some(Node::Function(function)) = node.get("process_docs") else { panic!("no function") };
        assert_eq!(function.folder, Path::new("/t"));
    }

    #[test]
    fn a_circle_and_a_missing_file_are_errors() {
        assert!(load(Path::new("/t/loop"), &files).unwrap_err().to_string().contains("includes itself"));
        assert!(load(Path::new("/t/none"), &files).is_err());
    }
}
