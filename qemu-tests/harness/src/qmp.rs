// SPDX-License-Identifier: GPL-2.0

//! The monitor's side of QMP: commands, their answers, and events in between.

use serde::Deserialize;
use serde_json::{json, Value};

/// One line of the monitor.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// The first line.
    Greeting {
        /// Version and capabilities.
        #[serde(rename = "QMP")]
        _qmp: Value,
    },
    /// Something happened.
    Event {
        /// Its name.
        event: String,
    },
    /// A command was done.
    Return {
        /// What it gives.
        #[serde(rename = "return")]
        value: Value,
        /// The command's number.
        id: Option<u64>,
    },
    /// A command was refused.
    Error {
        /// Why.
        error: Refusal,
        /// The command's number.
        id: Option<u64>,
    },
}

/// Why the monitor refused a command.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    /// Its class.
    pub(crate) class: String,
    /// In words.
    pub(crate) desc: String,
}

/// The line that executes a command.
pub(crate) fn command(id: u64, name: &str, arguments: &Value) -> String {
    let mut line = json!({ "execute": name, "id": id });
    if !arguments.is_null() {
        line["arguments"] = arguments.clone();
    }
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let parse = |s: &str| serde_json::from_str::<Line>(s).unwrap();
        assert!(matches!(
            parse(r#"{"QMP":{"version":{}}}"#),
            Line::Greeting { .. }
        ));
        assert!(matches!(
            parse(r#"{"event":"RESET","data":{"guest":true},"timestamp":{}}"#),
            Line::Event { event } if event == "RESET"
        ));
        assert!(matches!(
            parse(r#"{"return":{},"id":3}"#),
            Line::Return { id: Some(3), .. }
        ));
        assert!(matches!(
            parse(r#"{"id":4,"error":{"class":"GenericError","desc":"no"}}"#),
            Line::Error { id: Some(4), error } if error.desc == "no" && error.class == "GenericError"
        ));
    }
}
