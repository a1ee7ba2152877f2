// SPDX-License-Identifier: GPL-2.0

//! A small deterministic random number generator.

/// Xorshift64*; the same seed gives the same numbers everywhere.
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed; 0 counts as 1.
    pub fn new(seed: u64) -> Self {
        Rng(seed.max(1))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit` (0 when `limit` is 0).
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 {
            0
        } else {
            self.next_u64() % limit
        }
    }

    /// `len` bytes, with many small and extreme values among them.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len)
            .map(|_| match self.below(4) {
                0 => 0,
                1 => self.below(32) as u8,
                2 => 0xff,
                _ => self.next_u64() as u8,
            })
            .collect()
    }
}
