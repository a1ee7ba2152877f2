// SPDX-License-Identifier: GPL-2.0

//! One program, several jobs, chosen by the name it is started with.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, Result};

fn main() -> Result<ExitCode> {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(|n| n.to_str()) {
        Some("init") => vmbus_guest::init::main(args.next().as_deref()),
        Some("level1") => vmbus_guest::level1::main(),
        Some("fragment") => vmbus_guest::fragment::main(&args.collect::<Vec<_>>()),
        Some("verify-load") => vmbus_guest::verify_load::main(&args.collect::<Vec<_>>()),
        Some("verify-stream") => vmbus_guest::verify_stream::main(&args.collect::<Vec<_>>()),
        Some("vmbus_guest") if args.next().as_deref() == Some("agent") => {
            let socket = args.next().unwrap_or_default();
            vmbus_guest::agent::on_socket(Path::new(&socket)).map(|()| ExitCode::SUCCESS)
        }
        _ => bail!("usage: vmbus_guest agent SOCKET (or started as /init, /level1)"),
    }
}
