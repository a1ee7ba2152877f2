// SPDX-License-Identifier: GPL-2.0

//! What a guest can see of its hypervisor, in a form in which two levels can be compared.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

/// Each thing by its name; what is not there has no entry.
pub(crate) type View = BTreeMap<String, String>;

/// Stands for what is not there: an MSR that is refused, a leaf of zeroes, a line nobody said.
pub(crate) const ABSENT: &str = "-";

/// A difference that is meant.
#[derive(Debug)]
pub(crate) struct Meant {
    /// The thing's name; one that ends with `*` stands for each that begins so.
    pub(crate) name: &'static str,
    /// What it is on the emulated level.
    pub(crate) emulated: &'static str,
    /// What it is on the nested level.
    pub(crate) nested: &'static str,
    /// Why it may be so.
    pub(crate) why: &'static str,
}

/// The lines `name = value` that a guest gives.
pub(crate) fn parse(text: &str) -> Result<View> {
    text.lines()
        .map(|line| {
            let (name, value) = line
                .split_once(" = ")
                .with_context(|| format!("not a line of a view: {line}"))?;
            Ok((name.to_owned(), steady(name, value)?))
        })
        .collect()
}

/// What of a value does not depend on the moment, on where the guest's memory happens to be, or on
/// how fast this machine is.
fn steady(name: &str, value: &str) -> Result<String> {
    let Some(msr) = name.strip_prefix("msr ") else {
        return Ok(value.to_owned());
    };
    let (msr, _) = msr.split_once(' ').context("an MSR without a CPU")?;
    let msr = u32::from_str_radix(msr, 16).context("an MSR's number")?;
    let number =
        u64::from_str_radix(value.trim_start_matches("0x"), 16).context(value.to_owned())?;
    let unless_zero = |what: &str| if number == 0 { "0" } else { what }.to_owned();
    Ok(match msr {
        // hypercall, reference TSC, APIC assist, event flags, messages: a page's address and flags
        0x4000_0001 | 0x4000_0021 | 0x4000_0073 | 0x4000_0082 | 0x4000_0083 => {
            format!("a page, {:#x}", number & 0xfff)
        }
        // runtime, reference counter, counts of the timers
        0x4000_0010 | 0x4000_0020 | 0x4000_00b1 | 0x4000_00b3 | 0x4000_00b5 | 0x4000_00b7 => {
            unless_zero("a time")
        }
        // of the TSC
        0x4000_0022 => unless_zero("a frequency"),
        // the last interrupt that this CPU sent to another one
        0x4000_0071 => "an interrupt".into(),
        // configurations of the timers: bit 0 is set while one waits
        0x4000_00b0 | 0x4000_00b2 | 0x4000_00b4 | 0x4000_00b6 => format!("{:#x}", number & !1),
        _ => format!("{number:#x}"),
    })
}

impl Meant {
    fn is_about(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => self.name == name,
        }
    }
}

/// What is wrong: differences that nobody meant, and meant ones that there are not.
pub(crate) fn compare(emulated: &View, nested: &View, meant: &[Meant]) -> Vec<String> {
    let names: BTreeSet<&String> = emulated.keys().chain(nested.keys()).collect();
    let missing = meant
        .iter()
        .filter(|m| !names.iter().any(|name| m.is_about(name)))
        .map(|m| format!("{}: on no level, but meant to differ", m.name));
    let value = |view: &View, name: &str| view.get(name).map_or(ABSENT, |v| v).to_owned();
    let wrong = names.iter().filter_map(|name| {
        let (emulated, nested) = (value(emulated, name), value(nested, name));
        let found = format!("{name}: emulated {emulated}, nested {nested}");
        match meant.iter().find(|m| m.is_about(name)) {
            Some(m) if (m.emulated, m.nested) == (&*emulated, &*nested) => None,
            Some(m) => Some(format!(
                "{found}; meant are {} and {}: {}",
                m.emulated, m.nested, m.why
            )),
            None if emulated == nested => None,
            None => Some(found),
        }
    });
    wrong.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::{compare, parse, Meant};

    const MEANT: [Meant; 1] = [Meant {
        name: "cpuid 40000004 eax",
        emulated: "0x28",
        nested: "0x2c",
        why: "of a test",
    }];

    #[test]
    fn addresses_times_and_states_do_not_count() {
        let view = parse(
            "msr 40000001 cpu0 = 0x12345001\n\
             msr 40000020 cpu0 = 0x77777\n\
             msr 400000b0 cpu1 = 0x30001\n\
             msr 400000b1 cpu1 = 0x0\n\
             msr 40000082 cpu0 = 0x5000\n\
             msr 40000092 cpu0 = 0xf3\n\
             cpuid hypervisor = true\n",
        )
        .unwrap();
        let seen: Vec<_> = view.values().map(String::as_str).collect();
        assert_eq!(
            seen,
            [
                "true",
                "a page, 0x1",
                "a time",
                "a page, 0x0",
                "0xf3",
                "0x30000",
                "0"
            ]
        );
    }

    #[test]
    fn lines_of_another_kind_are_errors() {
        assert!(parse("msr 40000001 cpu0 = yes").is_err());
        assert!(parse("msr 40000001 = 0x1").is_err());
        assert!(parse("something else").is_err());
    }

    #[test]
    fn what_differs_must_be_meant() {
        let view = |text| parse(text).unwrap();
        let (emulated, nested) = (
            view("cpuid 40000004 eax = 0x28"),
            view("cpuid 40000004 eax = 0x2c"),
        );
        assert!(compare(&emulated, &nested, &MEANT).is_empty());
        assert_eq!(
            compare(&emulated, &nested, &[]),
            ["cpuid 40000004 eax: emulated 0x28, nested 0x2c"]
        );
        let more = view("cpuid 40000004 eax = 0x28\nmsr 40000118 cpu0 = 0x1");
        assert_eq!(
            compare(&more, &nested, &MEANT),
            ["msr 40000118 cpu0: emulated 0x1, nested -"]
        );
    }

    #[test]
    fn what_is_meant_must_differ_so() {
        let same = parse("cpuid 40000004 eax = 0x28").unwrap();
        let found = compare(&same, &same, &MEANT);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("meant are 0x28 and 0x2c: of a test"));
        let other = parse("cpuid 40000004 eax = 0x2e").unwrap();
        assert_eq!(compare(&same, &other, &MEANT).len(), 1);
        assert_eq!(
            compare(&parse("").unwrap(), &parse("").unwrap(), &MEANT).len(),
            1
        );
    }

    #[test]
    fn a_star_stands_for_each() {
        let meant = [Meant {
            name: "msr 40000106*",
            emulated: super::ABSENT,
            nested: "0x0",
            why: "of a test",
        }];
        let none = parse("").unwrap();
        let view = |text| parse(text).unwrap();
        let both = view("msr 40000106 cpu0 = 0x0\nmsr 40000106 cpu1 = 0x0");
        assert!(compare(&none, &both, &meant).is_empty());
        let other = view("msr 40000106 cpu0 = 0x0\nmsr 40000106 cpu1 = 0x1");
        assert_eq!(compare(&none, &other, &meant).len(), 1);
    }
}
