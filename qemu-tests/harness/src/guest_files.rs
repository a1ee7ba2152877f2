// SPDX-License-Identifier: GPL-2.0

//! Numbers from the kernel's text files.

/// A field of `/proc/meminfo`, in KiB.
pub(crate) fn field_kib(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (field, rest) = line.split_once(':')?;
        (field == name)
            .then_some(rest)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    })
}

/// A counter of `/proc/vmstat`.
pub(crate) fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (field, value) = line.split_once(' ')?;
        (field == name).then(|| value.trim().parse().ok())?
    })
}

/// Free pages of all zones of `/proc/zoneinfo`, with those that each CPU keeps
/// at hand, which `nr_free_pages` leaves out.
pub(crate) fn free_pages(zoneinfo: &str) -> u64 {
    let mut sum = 0;
    for line in zoneinfo.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["nr_free_pages" | "count:", pages] = words[..] {
            sum += pages.parse().unwrap_or(0);
        }
    }
    sum
}

/// One cache of `/proc/slabinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slab {
    /// Its name.
    pub(crate) name: String,
    /// Objects in use.
    pub(crate) objects: u64,
    /// Bytes for each.
    pub(crate) size: u64,
}

/// The caches of `/proc/slabinfo`.
pub(crate) fn slabs(text: &str) -> Vec<Slab> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("slabinfo"))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let objects = words.next()?.parse().ok()?;
            let size = words.nth(1)?.parse().ok()?;
            Some(Slab {
                name,
                objects,
                size,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:         996000 kB\nMemFree:   5 kB\n";
        assert_eq!(field_kib(text, "MemTotal"), Some(996_000));
        assert_eq!(field_kib(text, "Mem"), None);
        assert_eq!(counter("nr_free_pages 7\nnr_free 8\n", "nr_free"), Some(8));
    }

    #[test]
    fn pages_of_cpus_are_free_too() {
        let zone = "Node 0, zone DMA\n  pages free 3\n      nr_free_pages 3\n  pagesets\n    cpu: 0\n              count:    5\n              high: 9\n";
        assert_eq!(free_pages(zone), 8);
    }

    #[test]
    fn slab_lines_are_read() {
        let text = "slabinfo - version: 2.1\n# name <active_objs>\n\
                    kmalloc-64  100 128 64 64 1 : tunables 0 0 0 : slabdata 2 2 0\n";
        let want = Slab {
            name: "kmalloc-64".into(),
            objects: 100,
            size: 64,
        };
        assert_eq!(slabs(text), [want]);
    }
}
