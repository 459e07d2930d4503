//! Memory of this machine available to processes: a container or a batch system may limit it.

use std::path::{Path, PathBuf};

use crate::job::Bytes;

/// Memory available now: the minimum of the kernel's figure and the limits of this process's control groups.
pub fn available_memory() -> Bytes {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    let machine = line.trim().trim_end_matches(" kB").trim().parse::<u64>().map_or(u64::MAX, |kb| kb * 1024);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Bytes(left_by_groups(&groups, Path::new("/sys/fs/cgroup")).map_or(machine, |left| left.min(machine)))
}

/// Memory left by the control groups of a process and their parents; none without a limit.
fn left_by_groups(groups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let version_1 = controllers.split(',').any(|name| name == "memory");
        let (top, files) = match (controllers.is_empty(), version_1) {
            (true, _) => (root.to_owned(), ["memory.max", "memory.current"]),
            (_, true) => (root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes"]),
            _ => continue,
        };
        let inside: PathBuf = top.join(group.trim_start_matches('/'));
        let above = inside.ancestors().take_while(|folder| folder.starts_with(&top));
        let left = above.filter_map(|folder| left_in(folder, files)).min();
        least = [least, left].into_iter().flatten().min();
    }
    least
}

/// Memory left in a group: its limit less usage, of which the page cache is reclaimable.
fn left_in(folder: &Path, [limit, held]: [&str; 2]) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // "max", and its equivalent in version 1, means no limit.
    let limit = number(limit).filter(|limit| *limit < 1 << 60)?;
    let statistics = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let pages = statistics.lines().find_map(|line| {
        line.strip_prefix("inactive_file ")
            .or(line.strip_prefix("total_inactive_file "))?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let held = number(held).unwrap_or_default().saturating_sub(pages.unwrap_or_default());
    Some(limit.saturating_sub(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_above_a_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("user/memory.max", "600\n");
        write("user/memory.current", "500\n");
        write("user/memory.stat", "anon 1\ninactive_file 200\n");
        write("user/job/memory.max", "10000\n");
        write("user/job/memory.current", "1\n");
        assert_eq!(left_by_groups("0::/user/job\n", root.path()), Some(300));
        assert_eq!(left_by_groups("0::/\n", root.path()), None);
        write("memory/old/memory.limit_in_bytes", "4000");
        write("memory/old/memory.usage_in_bytes", "1000");
        assert_eq!(left_by_groups("5:cpu:/x\n7:memory:/old\n", root.path()), Some(3000));
        write("memory/old/memory.limit_in_bytes", "9223372036854771712");
        assert_eq!(left_by_groups("7:memory:/old\n", root.path()), None);
    }
}
