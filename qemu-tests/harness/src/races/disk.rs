// SPDX-License-Identifier: GPL-2.0

//! What meets the I/O of disks.

use std::fmt::Write as _;

use crate::drivers::Core;
use crate::machine::{disk, Initramfs, Machine, Qemu};
use crate::storage::{MAIN, SPARE};

use super::script::{Random, Script};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The host takes a controller away.
    Rescind,
    /// A CPU goes and comes, and channels move.
    Offline,
    /// The driver is taken off a device, and bound again.
    Unbind,
    /// A controller is reset.
    Reset,
}

const MIB: u64 = 8;

/// Two CPUs, a disk that stays and one that may go. A CPU that spins for 4 s of the guest's time ends the
/// run there, and not when this machine's clock says so.
pub(super) const MACHINE: Machine = Machine {
    name: "races",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: super::KERNEL_ARGUMENTS,
    module_parameters: "",
    files: &[disk("main", MIB), disk("spare", MIB)],
    devices: &[
        super::DEVICES,
        "-blockdev raw,node-name=main,file.driver=file,file.filename=@/main,cache.no-flush=on",
        "-blockdev raw,node-name=spare,file.driver=file,file.filename=@/spare,cache.no-flush=on",
        "-device hv-scsi,id=main,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0001",
        "-device scsi-hd,bus=main.0,drive=main,scsi-id=0,lun=0",
        "-device hv-scsi,id=spare,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0002",
        "-device scsi-hd,bus=spare.0,drive=spare,scsi-id=0,lun=0,write-cache=off",
    ],
};

/// The device that a host's script is about.
const VICTIM: &str = "spare";

pub(super) const FUNCTIONS: &str = r#"
# disk INSTANCE FILE: its name goes there; a size comes before the disk can be opened
disk() {
    for b in $bus/$1/host*/target*/*/block/*; do
        [ -b /dev/${b##*/} ] && [ "$(cat $b/size)" != 0 ] && ( : < /dev/${b##*/} ) && echo ${b##*/} > $2
    done 2> /dev/null
    [ -s $2 ]
}

# io NAME DISK
io() {
    load $1 verify-load /dev/$2 8 /run/$1.stop
}
"#;

/// What happens before the state is saved that each seed goes on from.
pub(super) fn prepare(core: Core) -> String {
    let load = match core {
        Core::C => "modprobe hv_storvsc",
        Core::Rust => "modprobe hv_vmbus_rust",
        Core::RustOnC => "modprobe hv_storvsc_rust_on_c",
    };
    format!(
        "{FUNCTIONS}
         {load}
         modprobe sg
         wait 20 'main disk' disk {MAIN} /run/main-disk
         wait 20 'spare disk' disk {SPARE} /run/spare-disk
         spread {MAIN} 0
         spread {SPARE} 0
         sleep 1"
    )
}

impl Event {
    /// How it happens with these numbers.
    pub(super) fn script(self, core: Core, random: &mut Random) -> Script {
        let mut faults = String::new();
        let body = match self {
            Self::Rescind => {
                let nth = random.log_uniform(4, 11);
                faults = format!("on send type=11 nth={nth} do unplug\n");
                rescind()
            }
            Self::Offline => offline(random),
            Self::Unbind => unbind(core, random),
            Self::Reset => reset(random),
        };
        let guest = format!(
            "{FUNCTIONS}
             main=$(cat /run/main-disk) spare=$(cat /run/spare-disk)
             io main $main
             {body}
             touch /run/main.stop
             ended main 0
             wait 30 'end of all waiting' nobody_waits
             rmmod {modules} || fail 'modules stay'",
            modules = core.storage_drivers_last_first().join(" "),
        );
        Script {
            guest,
            faults,
            host: vec![format!("-set device.{VICTIM}.fault-script=@/faults")],
        }
    }
}

fn rescind() -> String {
    format!(
        "io spare $spare
         wait 60 'rescind' gone $bus/{SPARE}
         ended spare 2
         running main"
    )
}

fn offline(random: &mut Random) -> String {
    let mut text = String::new();
    for round in 0..3 {
        let _ = write!(
            text,
            "sleep {before}
             cpu1 0
             sleep {between}
             cpu1 1
             spread {MAIN} {round}
             running main
             ",
            before = random.seconds(),
            between = random.seconds(),
        );
    }
    text
}

fn unbind(core: Core, random: &mut Random) -> String {
    let driver = format!("/sys/bus/vmbus/drivers/{}", core.storage_driver());
    let mut text = String::new();
    for _ in 0..2 {
        let _ = write!(
            text,
            "io spare $spare
             sleep {before}
             running spare
             echo {SPARE} > {driver}/unbind || fail 'no unbind'
             ended spare 2
             rm /run/spare-disk
             echo {SPARE} > {driver}/bind || fail 'no bind'
             wait 20 'spare disk' disk {SPARE} /run/spare-disk
             spare=$(cat /run/spare-disk)
             running main
             ",
            before = random.seconds(),
        );
    }
    text
}

fn reset(random: &mut Random) -> String {
    let mut text = "sg=$(ls /sys/block/$main/device/scsi_generic)\n".to_owned();
    for _ in 0..3 {
        let _ = write!(
            text,
            "sleep {before}
             sg_reset -H /dev/$sg || fail 'no reset'
             running main
             ",
            before = random.seconds(),
        );
    }
    text
}
