// SPDX-License-Identifier: GPL-2.0

//! Disks on VMBus: the machine that has them, finding them, and exercising them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{json, Value};

use crate::devices::BUS;
use crate::failure::{expect, found_too, unmet};
use crate::machine::{disk, Contents, File, Initramfs, Machine, Qemu};
use crate::vm::Vm;

/// Instance of the controller with most of the disks.
pub(crate) const MAIN: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0001";
/// Instance of the controller that is there to be unplugged.
pub(crate) const SPARE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0002";
/// Instance of the disk of the IDE class; the default of the device.
pub(crate) const IDE: &str = "00000000-0000-8899-0000-000000000000";

/// Channels of [`MAIN`].
pub(crate) const MAIN_QUEUES: usize = 4;

/// What the CD says at its beginning.
pub(crate) const CD_TEXT: &str = "the first words on the CD-ROM";

/// MiB of the disks of [`MACHINE`].
pub(crate) const PLAIN_MIB: u64 = 512;
/// Of the one with sectors of 4 KiB.
pub(crate) const BIG_SECTORS_MIB: u64 = 256;
/// Of the others.
pub(crate) const SMALL_MIB: u64 = 64;

/// Where a disk is on its controller: channel, id, LUN.
pub(crate) type Address = (u32, u32, u32);

/// The disk on [`MAIN`] that most is done with.
pub(crate) const PLAIN: Address = (0, 0, 0);
/// The disk with sectors of 4 KiB.
pub(crate) const BIG_SECTORS: Address = (0, 0, 1);
/// The CD-ROM drive.
pub(crate) const CD: Address = (0, 1, 0);

/// Disks of all kinds.
pub(crate) const MACHINE: Machine = Machine {
    name: "storage",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("plain", PLAIN_MIB),
        disk("big-sectors", BIG_SECTORS_MIB),
        disk("ide", SMALL_MIB),
        disk("spare", SMALL_MIB),
        disk("extra", SMALL_MIB),
        File {
            name: "cd",
            contents: Contents::Text(CD_TEXT),
            mib: 4,
        },
    ],
    devices: DEVICES,
};

/// Of [`BOUNCING`].
pub(crate) const ISOLATED_CPU: &str = "3";

/// Where every request is copied by the DMA layer, and a CPU is kept from device interrupts.
pub(crate) const BOUNCING: Machine = Machine {
    name: "swiotlb",
    kernel_arguments: "swiotlb=force isolcpus=managed_irq,3",
    ..MACHINE
};

/// Where rings are as small as they can be: a page of control, a page of data.
pub(crate) const SMALL_RINGS: Machine = Machine {
    name: "small-rings",
    module_parameters: "hv_storvsc.storvsc_ringbuffer_size=8192 \
                        hv_storvsc_rust.storvsc_ringbuffer_size=8192 \
                        hv_storvsc_rust_on_c.storvsc_ringbuffer_size=8192",
    ..MACHINE
};

/// Where all CPUs share a hardware queue.
pub(crate) const FEW_QUEUES: Machine = Machine {
    name: "few-queues",
    module_parameters:
        "hv_storvsc.storvsc_max_hw_queues=1 hv_storvsc_rust.storvsc_max_hw_queues=1 \
                        hv_storvsc_rust_on_c.storvsc_max_hw_queues=1",
    ..MACHINE
};

/// Whose root file system is to be a disk, of a bus that speaks the oldest protocol.
pub(crate) const ROOT: Machine = Machine {
    name: "root",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::FindRoot,
    kernel_arguments: "",
    module_parameters: "",
    files: &[File {
        name: "root",
        contents: Contents::Root,
        mib: 0,
    }],
    devices: &[
        "-device vmbus-bridge,max-version=4.0",
        "-blockdev raw,node-name=root,file.driver=file,file.filename=@/root,cache.no-flush=on",
        "-device hv-scsi,id=main,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0001",
        "-device scsi-hd,bus=main.0,drive=root,scsi-id=0,lun=0",
    ],
};

/// Where a crash kernel saves something to a disk.
pub(crate) const CRASH: Machine = Machine {
    name: "crash",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::CrashKernel,
    kernel_arguments: "crashkernel=256M",
    module_parameters: "",
    files: &[disk("dump", SMALL_MIB), disk("load", SMALL_MIB)],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=dump,file.driver=file,file.filename=@/dump,cache.no-flush=on",
        "-blockdev raw,node-name=load,file.driver=file,file.filename=@/load,cache.no-flush=on",
        "-device hv-scsi,id=main,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0001",
        "-device scsi-hd,bus=main.0,drive=dump,scsi-id=0,lun=0",
        "-device scsi-hd,bus=main.0,drive=load,scsi-id=0,lun=1",
    ],
};

const DEVICES: &[&str] = &[
    "-device vmbus-bridge",
    "-blockdev raw,node-name=plain,file.driver=file,file.filename=@/plain,cache.no-flush=on,discard=unmap",
    "-blockdev raw,node-name=big,file.driver=file,file.filename=@/big-sectors,cache.no-flush=on",
    "-blockdev raw,node-name=cd,file.driver=file,file.filename=@/cd,read-only=on",
    "-blockdev raw,node-name=ide,file.driver=file,file.filename=@/ide,cache.no-flush=on",
    "-blockdev raw,node-name=spare,file.driver=file,file.filename=@/spare,cache.no-flush=on",
    "-blockdev raw,node-name=extra,file.driver=file,file.filename=@/extra,cache.no-flush=on",
    "-device hv-scsi,id=main,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0001",
    "-device scsi-hd,bus=main.0,drive=plain,scsi-id=0,lun=0",
    "-device scsi-hd,bus=main.0,drive=big,scsi-id=0,lun=1,logical_block_size=4096,physical_block_size=4096",
    "-device scsi-cd,bus=main.0,drive=cd,scsi-id=1,lun=0",
    "-device hv-ide,id=ide",
    "-device scsi-hd,bus=ide.0,drive=ide",
    "-device hv-scsi,id=spare,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0002",
    // The C driver hangs when there is a cache to be flushed and the controller has gone.
    "-device scsi-hd,bus=spare.0,drive=spare,write-cache=off",
];

/// Prints to the console where processes, and kernel threads that sleep for I/O, are in the kernel,
/// and which requests the block layer holds.
const WHO_WAITS: &str = r#"
    exec > /dev/console 2>&1
    echo 'who waits for what:'
    for p in /proc/[0-9]*; do
        grep -q '^State:.D' $p/status || [ -n "$(tr -d '\0' < $p/cmdline)" ] || continue
        for t in $p/task/*; do
            echo "$(cat $t/comm) ${t##*/}: $(grep ^State: $t/status)"
            cat $t/stack
        done
    done
    grep . /sys/kernel/debug/hv-storvsc-rust-*/status
    for q in /sys/kernel/debug/block/*; do
        for f in $q/state $q/requeue_list $q/hctx*/state $q/hctx*/dispatch $q/hctx*/busy; do
            [ -s $f ] || [ -n "$(cat $f)" ] && echo "${f#/sys/kernel/debug/block/}:" && cat $f
        done
    done
"#;

/// The same on a line: threads that sleep for I/O, and those of what jobs run, with the innermost functions of each.
const WHO_WAITS_IN_SHORT: &str = r#"
    for t in /proc/[0-9]*/task/*; do
        state=$(sed -n 's/^State:.\(.\).*/\1/p' $t/status) && comm=$(cat $t/comm) || continue
        case $state$comm in
        D*|?fio*|?iperf3*|?dd) ;;
        *) continue ;;
        esac
        echo "$comm ($state) in$(head -n 4 $t/stack | sed 's/^[^ ]*//;s/+.*//' | tr -d '\n')"
    done 2>/dev/null | sort | uniq -c | sed 's/^ *//' | tr '\n' ';'
"#;

/// Before a scenario fails because somebody waits: who does for what goes to the console, and is given in short.
pub(crate) fn who_waits(vm: &Vm) -> String {
    // it fails anyway, for that reason; the long one takes ten seconds
    let short = vm.try_exec(&["sh", "-c", WHO_WAITS_IN_SHORT]);
    let _ = vm.try_exec(&["sh", "-c", WHO_WAITS]);
    short.map(|said| said.stdout).unwrap_or_default()
}

/// A run of fio takes seconds; this is for a machine that does other things too.
pub(crate) const JOB: Duration = Duration::from_secs(300);

/// How many seconds a command may take with the Rust driver; 0 for no limit.
pub(crate) fn set_answer_secs(vm: &Vm, secs: u32) -> Result<()> {
    let module = vm.core.storage_module();
    let path = format!("/sys/module/{module}/parameters/storvsc_answer_secs");
    vm.write(&path, &secs.to_string())
}

const APPEAR: Duration = Duration::from_secs(40);
const PLUGGED: Duration = Duration::from_secs(20);
const UNPLUGGED: Duration = Duration::from_secs(60);

/// Load the drivers; the first disk is there afterwards.
pub(crate) fn load(vm: &Vm) -> Result<()> {
    vm.load_core()?;
    wait_for(vm, MAIN, PLAIN).map(drop)
}

/// The name of the block device at this address, if it is there.
pub(crate) fn find(vm: &Vm, instance: &str, (channel, id, lun): Address) -> Result<Option<String>> {
    let path = format!(
        "ls /sys/bus/vmbus/devices/{instance}/host*/target*/*:{channel}:{id}:{lun}/block 2>/dev/null"
    );
    let found = vm.try_exec(&["sh", "-c", &path])?.stdout;
    Ok(found.lines().next().map(str::to_owned))
}

/// Wait for a disk; gives its name.
pub(crate) fn wait_for(vm: &Vm, instance: &str, address: Address) -> Result<String> {
    wait_for_long(vm, instance, address, APPEAR)
}

/// The same, when the host is slow.
pub(crate) fn wait_for_long(
    vm: &Vm,
    instance: &str,
    address: Address,
    bound: Duration,
) -> Result<String> {
    vm.wait_until(bound, &format!("disk {address:?} of {instance}"), || {
        let name = find(vm, instance, address)?;
        let Some(name) = name else {
            return Ok(Err("no such disk".into()));
        };
        // That the disk goes again meanwhile, or is not in this folder yet, is no failure. Who opens it before
        // the kernel has added all of it (`bdev_add` comes last) finds no device.
        let size =
            format!("cat /sys/block/{name}/size 2>/dev/null; sh -c ': < /dev/{name}' 2>&1 || true");
        let said = vm.try_exec(&["sh", "-c", &size])?.stdout;
        Ok(if matches!(said.lines().next(), None | Some("" | "0")) {
            Err(format!("{name} without a size"))
        } else if said.contains("can't open") {
            Err(format!("{name} cannot be opened yet"))
        } else {
            Ok(name)
        })
    })
}

/// Wait until a disk is gone.
pub(crate) fn wait_gone(vm: &Vm, instance: &str, address: Address) -> Result<()> {
    vm.wait_until(APPEAR, &format!("disk {address:?} gone"), || {
        Ok(find(vm, instance, address)?.map_or(Ok(()), |name| Err(format!("{name} still there"))))
    })
}

/// Wait until the first search for disks on a disk's controller is over: who asks for another one has to wait for it.
/// It goes on after the first disk is there.
pub(crate) fn wait_scanned(vm: &Vm, disk: &str) -> Result<()> {
    let again = format!(
        "host=$(readlink -f /sys/block/{disk}/device/../..)
         echo '0 0 0' > $host/scsi_host/${{host##*/}}/scan"
    );
    script(vm, &again).map(drop)
}

/// Wait until a controller is gone from the bus.
pub(crate) fn wait_unplugged(vm: &Vm, instance: &str) -> Result<()> {
    let what = format!("controller {instance} gone from the bus");
    vm.wait_until(UNPLUGGED, &what, || {
        let devices = vm.list(&format!("{BUS}/devices"))?;
        Ok(if devices.iter().any(|d| d == instance) {
            Err(devices.join(" "))
        } else {
            Ok(())
        })
    })
}

/// The folders of a controller's channels, `/sys/.../channels/<relid>`.
pub(crate) fn channels(vm: &Vm, instance: &str) -> Result<Vec<String>> {
    let folder = format!("/sys/bus/vmbus/devices/{instance}/channels");
    let names = vm.list(&folder)?;
    Ok(names.into_iter().map(|n| format!("{folder}/{n}")).collect())
}

/// A number of the driver's file in debugfs.
pub(crate) fn status(vm: &Vm, instance: &str, name: &str) -> Result<u64> {
    debugfs_number(vm, &format!("hv-storvsc-rust-{instance}"), name)
}

/// A number of a Rust driver's file in debugfs, by the folder of the device.
pub(crate) fn debugfs_number(vm: &Vm, folder: &str, name: &str) -> Result<u64> {
    let path = format!("/sys/kernel/debug/{folder}/status");
    let text = vm.read(&path)?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        (key == name).then(|| value.parse().ok())?
    });
    value.with_context(|| format!("no number '{name}' in {path}: {text}"))
}

/// How long it may take until a host that was given up is in use again: it is tried after 10 s, at first.
const BACK: Duration = Duration::from_secs(60);

/// Wait until a host that was given up is in use again, for the first time.
pub(crate) fn wait_for_revival(vm: &Vm, instance: &str) -> Result<()> {
    vm.wait_until(BACK, "the host in use again", || {
        let revivals = status(vm, instance, "revivals")?;
        Ok(if revivals == 1 {
            Ok(())
        } else {
            Err(format!("{revivals} revivals"))
        })
    })
}

/// Give the host's SCSI bus a disk, by the monitor.
pub(crate) fn plug(vm: &Vm, bus: &str, node: &str, (channel, id, lun): Address) -> Result<()> {
    let device = json!({
        "driver": "scsi-hd", "bus": format!("{bus}.0"), "drive": node, "id": format!("{node}-disk"),
        "channel": channel, "scsi-id": id, "lun": lun,
    });
    add_disk(vm, &device)
}

/// Add a disk. The one that was there before may hold the medium for a moment after it has gone:
/// QEMU lets go of it after an RCU grace period.
pub(crate) fn add_disk(vm: &Vm, device: &Value) -> Result<()> {
    vm.wait_until(PLUGGED, "the medium free", || {
        Ok(match vm.try_qmp("device_add", device)? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.desc.contains("Permission conflict") => Err(refusal.desc),
            Err(refusal) => return Err(unmet(format!("{device} plugged"), refusal.desc)),
        })
    })
}

/// Take away what [`plug`] gave, or a device by its id. A card whose slot the guest is still switching on
/// is not taken away before that is done; the guest may have been told all the same, and be busy with that.
pub(crate) fn unplug(vm: &Vm, id: &str) -> Result<()> {
    let mut was_busy = false;
    vm.wait_until(PLUGGED, "the guest done with the slot", || {
        Ok(match vm.try_qmp("device_del", &json!({ "id": id }))? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.desc.contains("guest is busy") => {
                was_busy = true;
                Err(refusal.desc)
            }
            Err(refusal) if was_busy && refusal.class == "DeviceNotFound" => Ok(()),
            Err(refusal) => return Err(unmet(format!("{id} taken away"), refusal.desc)),
        })
    })
}

/// A command that runs in the guest while other things happen.
pub(crate) struct Job<'a> {
    vm: &'a Vm,
    name: &'static str,
}

impl<'a> Job<'a> {
    /// Start it, in a shell that ends at the first command that fails; the name is for its files.
    pub(crate) fn start(vm: &'a Vm, name: &'static str, command: &str) -> Result<Self> {
        vm.exec(&["sh", "-c", &beside(name, command)])?;
        Ok(Self { vm, name })
    }

    /// Its exit status, if it has ended.
    pub(crate) fn status(&self) -> Result<Option<String>> {
        let script = format!("cat /tmp/{}.status 2>/dev/null", self.name);
        let status = self.vm.try_exec(&["sh", "-c", &script])?.stdout;
        Ok(Some(status.trim().to_owned()).filter(|s| !s.is_empty()))
    }

    /// Wait for its end; gives its exit status and the last lines it said.
    pub(crate) fn wait(self, timeout: Duration) -> Result<(String, String)> {
        let what = format!("the end of '{}'", self.name);
        let status = self.vm.wait_until(timeout, &what, || {
            Ok(self.status()?.ok_or_else(|| "it still runs".to_owned()))
        });
        let status = status.map_err(|error| found_too(error, &who_waits(self.vm)))?;
        let script = format!("tail -n 5 /tmp/{}.out", self.name);
        let said = self.vm.try_exec(&["sh", "-c", &script])?.stdout;
        Ok((status, said.trim().to_owned()))
    }

    /// Wait for its end, which must be a good one.
    pub(crate) fn expect_success(self, timeout: Duration) -> Result<()> {
        let name = self.name;
        let (status, said) = self.wait(timeout)?;
        expect(
            status == "0",
            format!("'{name}' to succeed"),
            format!("status {status}: {said}"),
        )
    }

    /// It must still be at it: what happens next is to happen under its load.
    pub(crate) fn expect_running(&self) -> Result<()> {
        match self.status()? {
            None => Ok(()),
            Some(status) => Err(unmet(
                format!("'{}' still running", self.name),
                format!("it has ended with status {status}"),
            )),
        }
    }
}

/// A script that runs a command beside what comes after it, and leaves what it said and its status in files.
fn beside(name: &str, command: &str) -> String {
    format!(
        "rm -f /tmp/{name}.status
         ( (set -e
            {command}) > /tmp/{name}.out 2>&1; echo $? > /tmp/{name}.new
           mv /tmp/{name}.new /tmp/{name}.status) < /dev/null > /dev/null 2>&1 &"
    )
}

/// Run a shell script in the guest, which ends at the first command that fails.
pub(crate) fn script(vm: &Vm, text: &str) -> Result<String> {
    vm.exec(&["sh", "-c", &format!("set -e\n{text}")])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Duration;

    use super::beside;

    /// The status of a job on this machine.
    fn status(command: &str) -> String {
        let name = format!("job-of-test-{}", std::process::id());
        let file = |ending: &str| format!("/tmp/{name}.{ending}");
        let script = beside(&name, command);
        let started = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(started.success());
        for _ in 0..500 {
            if let Ok(status) = fs::read_to_string(file("status")) {
                for ending in ["status", "out"] {
                    fs::remove_file(file(ending)).unwrap();
                }
                return status.trim().to_owned();
            }
            sleep(Duration::from_millis(20));
        }
        panic!("'{command}' does not end");
    }

    #[test]
    fn a_job_ends_at_the_first_command_that_fails() {
        assert_eq!(status("true"), "0");
        assert_eq!(status("exit 3"), "3");
        assert_eq!(status("cmp /etc/passwd /dev/null\ntrue"), "1");
        // a command that is to fail, and one that may
        assert_eq!(status("! false"), "0");
        assert_eq!(status("! true"), "1");
        assert_eq!(status("while false; do :; done; exit 1"), "1");
        assert_eq!(status("for n in 1 2; do false & done; wait"), "0");
    }
}
