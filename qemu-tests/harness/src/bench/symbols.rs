// SPDX-License-Identifier: GPL-2.0

//! Which functions of the guest's kernel the instructions belong to.

use std::collections::BTreeMap;
use std::fmt;

use crate::counter::Blocks;

/// A function of the guest's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Its first address.
    start: u64,
    /// Its name, as the compiler made it.
    pub(super) name: String,
    /// The module it is in; empty for the kernel itself.
    pub(super) module: String,
}

/// As people write it.
impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", rustc_demangle::demangle(&self.name))?;
        if self.module.is_empty() {
            return Ok(());
        }
        write!(f, " [{}]", self.module)
    }
}

/// All functions, by their addresses.
pub(super) struct Symbols(Vec<Symbol>);

/// A function, and what was seen of it.
#[derive(Debug)]
pub(super) struct Function<'a> {
    /// The function.
    pub(super) symbol: &'a Symbol,
    /// Instructions in it.
    pub(super) instructions: u64,
    /// How often it was called.
    pub(super) calls: u64,
}

impl Symbols {
    /// From the text of `/proc/kallsyms`.
    pub(super) fn parse(kallsyms: &str) -> Self {
        let mut symbols: Vec<Symbol> = kallsyms.lines().filter_map(symbol).collect();
        symbols.sort_by_key(|s| s.start);
        Self(symbols)
    }

    /// The functions that these blocks are in.
    pub(super) fn functions(&self, blocks: &Blocks) -> Vec<Function<'_>> {
        let mut functions: BTreeMap<usize, Function<'_>> = BTreeMap::new();
        for ((address, length), times) in blocks {
            let next = self.0.partition_point(|s| s.start <= *address);
            let Some(at) = next.checked_sub(1) else {
                continue;
            };
            let symbol = &self.0[at];
            let function = functions.entry(at).or_insert_with(|| Function {
                symbol,
                instructions: 0,
                calls: 0,
            });
            function.instructions += times * u64::from(*length);
            if *address == symbol.start {
                function.calls += times;
            }
        }
        functions.into_values().collect()
    }
}

/// What a line says, if it is about a function: `ADDRESS t NAME [MODULE]`.
fn symbol(line: &str) -> Option<Symbol> {
    let mut words = line.split_ascii_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let code = matches!(words.next()?, "t" | "T" | "w" | "W");
    let name = words.next()?.to_owned();
    let module = words
        .next()
        .unwrap_or("")
        .trim_matches(['[', ']'])
        .to_owned();
    code.then_some(Symbol {
        start,
        name,
        module,
    })
}

#[cfg(test)]
mod tests {
    use super::Symbols;
    use crate::counter::Blocks;

    #[test]
    fn blocks_belong_to_the_function_before() {
        let symbols = Symbols::parse("20 t second\t[module]\n10 T first\n18 d data\n");
        let blocks = Blocks::from([
            ((0x8, 1), 9),
            ((0x10, 2), 3),
            ((0x1c, 5), 1),
            ((0x24, 1), 7),
        ]);
        let found = symbols.functions(&blocks);
        let told: Vec<_> = found
            .iter()
            .map(|f| (&*f.symbol.name, &*f.symbol.module, f.instructions, f.calls))
            .collect();
        assert_eq!(told, [("first", "", 11, 3), ("second", "module", 7, 0)]);
    }
}
