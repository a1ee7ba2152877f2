// SPDX-License-Identifier: GPL-2.0

//! The two ways a scenario can go wrong, which the report keeps apart.

use std::fmt;

/// Why a scenario did not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The bed: QEMU or level 1 died, or the guest never reached user space.
    /// Tried again, visibly.
    Bed(String),
    /// What the drivers did is not what was expected. Not tried again, but see [`crate::second_try`].
    Unmet {
        /// What should have been seen.
        expected: String,
        /// What was.
        found: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bed(what) => write!(f, "the test bed failed: {what}"),
            Self::Unmet { expected, found } => write!(f, "expected {expected}; found {found}"),
        }
    }
}

impl std::error::Error for Failure {}

/// A failure of the bed, as an error.
pub(crate) fn bed(what: impl fmt::Display) -> anyhow::Error {
    Failure::Bed(what.to_string()).into()
}

/// An expectation that was not met, as an error.
pub(crate) fn unmet(expected: impl fmt::Display, found: impl fmt::Display) -> anyhow::Error {
    Failure::Unmet {
        expected: expected.to_string(),
        found: found.to_string(),
    }
    .into()
}

/// The same error, with more that was found where an expectation was not met.
pub(crate) fn found_too(error: anyhow::Error, more: &str) -> anyhow::Error {
    match error.downcast() {
        Ok(Failure::Unmet { expected, found }) => unmet(expected, format!("{found}; {more}")),
        Ok(other) => other.into(),
        Err(error) => error,
    }
}

/// Whether an error is one of the bed.
pub(crate) fn is_bed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Failure>(), Some(Failure::Bed(_)))
}

/// Check one expectation.
pub(crate) fn expect(
    met: bool,
    expected: impl fmt::Display,
    found: impl fmt::Display,
) -> anyhow::Result<()> {
    if met {
        Ok(())
    } else {
        Err(unmet(expected, found))
    }
}
