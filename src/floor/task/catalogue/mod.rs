//! Resolves names to tasks: a task, a file, or all tasks of a group or tag.

use std::collections::HashMap;
use std::path::Path;

use crate::data::DataRoots;
use crate::job::PromptProfile;
use crate::task::definition::group::{Group, Member};
use crate::task::definition::task::Task;
use crate::task::dialect::build::Surroundings;
use crate::task::dialect::index::{Entry, TaskIndex, TaskLocation};
use crate::task::dialect::yaml::Node;
use crate::task::error::TaskError;

/// Maximum nesting of groups.
const DEEPEST: usize = 16;

/// Finds tasks by name or file path.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue<'a> {
    /// Base folder of relative task files.
    pub folder: &'a Path,
    /// Local data.
    pub roots: &'a DataRoots,
    /// Known names.
    pub index: &'a TaskIndex,
    /// Prompt profile: shipped files list a profile's changes in their metadata.
    pub profile: PromptProfile,
}

/// Requested tasks, with the requested groups.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Each task once.
    pub tasks: Vec<Task>,
    /// The requested names, in order; a tag is its tasks.
    pub roots: Vec<Member>,
}

impl Catalogue<'_> {
    /// The task with this name, or in this `.yaml` file. Errors: unknown, a group, malformed, unsupported.
    pub fn find(&self, name: &str) -> Result<Task, TaskError> {
        let mut selection = self.select(&[name.to_owned()])?;
        match selection.roots.as_slice() {
            [Member::Task(_)] => Ok(selection.tasks.remove(0)),
            _ => Err(TaskError::Several { name: name.to_owned(), tasks: selection.tasks.len() }),
        }
    }

    /// The tasks of names, files, groups, tags and patterns. Errors: unknown, malformed, unsupported, a task matched
    /// twice.
    pub fn select(&self, names: &[String]) -> Result<Selection, TaskError> {
        let mut builder =
            Builder { catalogue: self, selection: Selection::default(), by_name: HashMap::new() };
        for pattern in names {
            let found = self.index.matching(pattern);
            if found.is_empty() {
                return Err(self.unknown(pattern));
            }
            for name in found {
                let members = builder.named(&name, &Node::Map(Vec::new()), DEEPEST)?;
                builder.ask(members)?;
            }
        }
        Ok(builder.selection)
    }

    fn unknown(&self, name: &str) -> TaskError {
        if let Some(error) = self.index.broken(name) {
            return error;
        }
        let near = self.index.entries().map(|(known, _)| (strsim::damerau_levenshtein(known, name), known));
        let nearest = near.min().filter(|(distance, _)| *distance <= 1 + name.len() / 4);
        TaskError::Unknown { name: name.to_owned(), nearest: nearest.map(|(_, known)| known.to_owned()) }
    }

    fn task(&self, place: &TaskLocation, node: Node) -> Result<Task, TaskError> {
        let file = place.name();
        let roots = self.roots;
        let around = Surroundings { file: &file, folder: self.folder, roots, modules: &self.index.modules };
        Task::build(self.profiled(node), around)
    }

    /// Applies the profile's changes from a map's metadata.
    fn profiled(&self, node: Node) -> Node {
        let changes = node.get("metadata").and_then(|metadata| metadata.get(self.profile.as_str())).cloned();
        match changes {
            Some(changes) if self.profile != PromptProfile::LmEval => node.merged(&changes),
            _ => node,
        }
    }
}

struct Builder<'a> {
    catalogue: &'a Catalogue<'a>,
    selection: Selection,
    /// Index of each task by name.
    by_name: HashMap<String, usize>,
}

impl Builder<'_> {
    /// Adds a requested name. Error: a task is in two of them.
    fn ask(&mut self, members: Vec<Member>) -> Result<(), TaskError> {
        for member in members {
            let tasks = |member: &Member| match member {
                Member::Task(number) => vec![*number],
                Member::Group(group) => group.tasks(),
            };
            let numbers = tasks(&member);
            let twice = self.selection.roots.iter().flat_map(tasks).find(|number| numbers.contains(number));
            if let Some(number) = twice {
                return Err(TaskError::Twice { task: self.selection.tasks[number].name.clone() });
            }
            self.selection.roots.push(member);
        }
        Ok(())
    }

    /// The tasks of a name, with `overrides` applied to their keys.
    fn named(&mut self, name: &str, overrides: &Node, depth: usize) -> Result<Vec<Member>, TaskError> {
        match self.catalogue.index.get(name) {
            Some(Entry::Task(place)) => Ok(vec![self.task(place, overrides)?]),
            Some(Entry::Group(place)) => {
                let node = place.node()?;
                Ok(vec![Member::Group(self.group(name, &node, place, overrides, depth)?)])
            }
            Some(Entry::Tag(tasks)) => {
                let mut members = Vec::new();
                for task in tasks {
                    members.extend(self.named(task, overrides, depth)?);
                }
                Ok(members)
            }
            None if name.ends_with(".yaml") || name.ends_with(".yml") => {
                let place = TaskLocation::of_file(&self.catalogue.folder.join(name));
                let node = place.node()?;
                match node.get("group").and_then(Node::scalar) {
                    Some(group) => {
                        Ok(vec![Member::Group(self.group(&group, &node, &place, overrides, depth)?)])
                    }
                    None => Ok(vec![self.task(&place, overrides)?]),
                }
            }
            None => Err(self.catalogue.unknown(name)),
        }
    }

    fn task(&mut self, place: &TaskLocation, overrides: &Node) -> Result<Member, TaskError> {
        let node = place.node()?.merged(overrides);
        self.built(place, node)
    }

    fn built(&mut self, place: &TaskLocation, node: Node) -> Result<Member, TaskError> {
        let task = self.catalogue.task(place, node)?;
        let next = self.selection.tasks.len();
        let number = *self.by_name.entry(task.name.clone()).or_insert(next);
        if number == next {
            self.selection.tasks.push(task);
        }
        Ok(Member::Task(number))
    }

    fn group(
        &mut self,
        name: &str,
        node: &Node,
        place: &TaskLocation,
        overrides: &Node,
        depth: usize,
    ) -> Result<Group, TaskError> {
        let malformed = |reason: String| TaskError::Malformed { file: place.name(), reason };
        if depth == 0 {
            return Err(malformed(format!("the group '{name}' is in itself, or too deep")));
        }
        let mut group = Group::shell(name, node).map_err(malformed)?;
        // Keys that are not group keys apply to its tasks; overrides passed in take precedence.
        let keys = ["group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag"];
        let mut inherited = node.clone();
        for key in keys {
            inherited = inherited.without(key);
        }
        let overrides = inherited.merged(overrides);
        let items = match node.get("task") {
            Some(Node::List(items)) => items.clone(),
            Some(item) => vec![item.clone()],
            None => Vec::new(),
        };
        for item in &items {
            let members = self.item(name, item, place, &overrides, depth - 1)?;
            group.members.extend(members);
        }
        Ok(group)
    }

    /// An entry of a group's list: a name, a task or group with overrides, or an inline definition of either.
    fn item(
        &mut self,
        group: &str,
        item: &Node,
        place: &TaskLocation,
        overrides: &Node,
        depth: usize,
    ) -> Result<Vec<Member>, TaskError> {
        let Node::Map(_) = item else {
            return self.named(&item.scalar().unwrap_or_default(), overrides, depth);
        };
        let name = |key: &str| item.get(key).and_then(Node::scalar);
        if let Some(inner) = name("group") {
            if self.catalogue.index.get(&inner).is_some() {
                return self.named(&inner, &overrides.clone().merged(&item.without("group")), depth);
            }
            let full = format!("{group}::{inner}");
            return Ok(vec![Member::Group(self.group(&full, item, place, overrides, depth)?)]);
        }
        let Some(task) = name("task") else {
            let reason = format!("an entry of the group '{group}' has neither task nor group");
            return Err(TaskError::Malformed { file: place.name(), reason });
        };
        let changes = overrides.clone().merged(item);
        match self.catalogue.index.get(&task) {
            // The name of a group or tag does not rename its tasks.
            Some(Entry::Group(_) | Entry::Tag(_)) => self.named(&task, &changes.without("task"), depth),
            Some(Entry::Task(_)) => self.named(&task, &changes, depth),
            None => {
                let named = Node::Map(vec![("task".to_owned(), Node::Text(format!("{group}::{task}")))]);
                Ok(vec![self.built(place, changes.merged(&named))?])
            }
        }
    }
}

#[cfg(test)]
mod tests;
