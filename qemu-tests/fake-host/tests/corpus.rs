// SPDX-License-Identifier: GPL-2.0

//! Replays the fuzz seeds, and random variations of them, on stable.
//!
//! `FUZZ_ITERATIONS` sets the number of random inputs for each target.
//! `WRITE_SEEDS=1` writes the seeds that are made here to the seed folder.

use fake_host::{balloon, fuzz, messages, netvsc, ring::descriptor, rng::Rng};
use std::{fs, path::PathBuf};
use vmbus_protocol::class;

type Target = fn(&[u8]);

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(name)
}

fn seeds(name: &str, made: Vec<(&str, Vec<u8>)>) -> Vec<Vec<u8>> {
    if std::env::var_os("WRITE_SEEDS").is_some() {
        fs::create_dir_all(folder(name)).unwrap();
        for (file, bytes) in &made {
            fs::write(folder(name).join(file), bytes).unwrap();
        }
    }
    let mut files: Vec<PathBuf> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for (file, bytes) in made {
        assert!(seeds.contains(&bytes), "seed {file} is missing or stale");
    }
    seeds
}

fn replay(name: &str, target: Target, made: Vec<(&str, Vec<u8>)>) {
    let seeds = seeds(name, made);
    for seed in &seeds {
        target(seed);
    }
    let iterations = std::env::var("FUZZ_ITERATIONS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000u32);
    let mut rng = Rng::new(0x9e37_79b9_7f4a_7c15);
    for _ in 0..iterations {
        target(&vary(&mut rng, &seeds));
    }
}

/// A seed with some bytes changed, cut or added; or random bytes alone.
fn vary(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    if rng.below(8) == 0 {
        let len = rng.below(600) as usize;
        return rng.bytes(len);
    }
    let mut input = seeds[rng.below(seeds.len() as u64) as usize].clone();
    for _ in 0..rng.below(6) {
        let at = rng.below(input.len() as u64) as usize;
        match rng.below(4) {
            0 => input.truncate(at),
            1 => {
                let len = rng.below(24) as usize;
                input.extend_from_slice(&rng.bytes(len));
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = rng.bytes(1)[0];
                }
            }
        }
    }
    input
}

#[test]
fn message_corpus() {
    let mut sub = messages::OfferSpec::new(class::NIC, 2);
    sub.sub_channel_index = 1;
    sub.monitor_id = Some(255);
    sub.flags = 0xffff;
    let made = vec![
        ("offer", messages::OfferSpec::new(class::BALLOON, 1).bytes()),
        ("sub-channel", sub.bytes()),
        ("rescind", messages::rescind(5)),
        ("all-offers", messages::all_offers()),
        ("open-result", messages::open_result(1, 2, 3)),
        ("gpadl-created", messages::gpadl_created(1, 0xe1e10, 0)),
        ("gpadl-torndown", messages::gpadl_torndown(0xe1e10)),
        ("version", messages::version_response(true, 4)),
        ("unload", messages::unload_response()),
        ("modify", messages::modify_response(1, 0)),
        ("tl-connect", messages::blank(23, 44)),
        ("short-version", messages::blank(15, 8)),
        ("unknown", messages::blank(18, 240)),
    ];
    replay("message", fuzz::message, made);
}

fn ring_seed(write: u32, pending: u32, read: u32, data: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [write, pending, read] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&data.concat());
    bytes
}

#[test]
fn ring_corpus() {
    let small = descriptor(6, 2, 3, 0, 1);
    let pages = descriptor(7, 4, 5, 1, 2);
    let count = [0xfe, 0xca, 0, 0, 1, 0, 0, 0];
    let made = vec![
        ("empty", ring_seed(0, 0, 0, &[])),
        ("one", ring_seed(32, 0, 0, &[&small, &[1; 8], &[0; 8]])),
        (
            "two",
            ring_seed(
                80,
                400,
                64,
                &[&small, &[1; 8], &[0; 8], &pages, &count, &[0; 24]],
            ),
        ),
        (
            "too-large",
            ring_seed(256, 0, 0, &[&descriptor(6, 2, 31, 0, 1), &[0; 240]]),
        ),
        ("index", ring_seed(512, 0, 513, &[&small])),
        ("odd-index", ring_seed(36, 1, 4, &[&small, &[0; 16]])),
        ("len0", ring_seed(64, 0, 0, &[&descriptor(6, 2, 0, 0, 1)])),
        ("offset", ring_seed(64, 0, 0, &[&descriptor(6, 9, 3, 0, 1)])),
        (
            "beyond",
            ring_seed(64, 0, 0, &[&descriptor(6, 2, 0xffff, 0, 1)]),
        ),
    ];
    replay("ring", fuzz::ring, made);
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend_from_slice(&(message.len() as u16).to_le_bytes());
        bytes.extend_from_slice(message);
    }
    bytes
}

#[test]
fn balloon_corpus() {
    let start = [balloon::accepted(2, true), balloon::accepted(4, true)];
    let after = |message: Vec<u8>| framed(&[start[0].clone(), start[1].clone(), message]);
    let ranges: Vec<u64> = (0..20).map(|i| balloon::range(i * 8, 4)).collect();
    let made = vec![
        ("handshake", framed(&start)),
        ("refused", framed(&[balloon::accepted(2, false)])),
        ("balloon", after(balloon::balloon(1000))),
        ("unballoon", after(balloon::unballoon(false, &ranges))),
        (
            "unballoon-count",
            after(balloon::message(
                8,
                24,
                &balloon::unballoon_body(false, 0xffff, &ranges[..1]),
            )),
        ),
        (
            "unballoon-overlap",
            after(balloon::unballoon(true, &[ranges[0], ranges[0]])),
        ),
        (
            "hot-add",
            after(balloon::hot_add(balloon::range(0x10_0000, 0x8000))),
        ),
        (
            "hot-add-region",
            after(balloon::hot_add_region(
                balloon::range(0x10_0000, 0x100),
                balloon::range(0x10_0000, 0x8000),
            )),
        ),
        ("info", after(balloon::info(0, &[0; 8]))),
        ("echo", after(balloon::honest(7, &[0; 8]))),
        ("early", framed(&[balloon::balloon(5)])),
    ];
    replay("balloon", fuzz::balloon, made);
}

fn transfer_seed(ranges: &[(u32, u32)], buffer: &[u8]) -> Vec<u8> {
    let header = netvsc::transfer(0xcafe, ranges.len() as u32, ranges);
    let mut bytes = (header.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(buffer);
    bytes
}

#[test]
fn netvsc_receive_corpus() {
    let section = |bytes: &[u8]| {
        let mut section = bytes.to_vec();
        section.resize(512, 0);
        section
    };
    let plain = netvsc::frame(&[], &[7; 60]);
    let infos = [
        netvsc::record(6, 0x55),
        netvsc::record(0, 0x108),
        netvsc::record(8, 0x1234_5678),
    ]
    .concat();
    let tagged = netvsc::frame(&infos, &[7; 100]);
    let part = |flags: u32| {
        let id = netvsc::record((1 << 31) | 1, 1 | (flags << 8) | (5 << 16));
        netvsc::frame(&id, &[7; 200])
    };
    let coalesced = [part(3), part(1), part(5)]
        .map(|part| section(&part))
        .concat();
    let len = part(1).len() as u32;
    let made = vec![
        (
            "frame",
            transfer_seed(&[(0, plain.len() as u32)], &section(&plain)),
        ),
        (
            "infos",
            transfer_seed(&[(0, tagged.len() as u32)], &section(&tagged)),
        ),
        (
            "coalesced",
            transfer_seed(&[(0, len), (512, len), (1024, len)], &coalesced),
        ),
        (
            "control",
            transfer_seed(&[(0, 16)], &section(&netvsc::set_done(1, 0))),
        ),
        (
            "indication",
            transfer_seed(
                &[(0, 24)],
                &section(&netvsc::words(&[7, 20, 0x4001_0013, 4, 12, 10])),
            ),
        ),
        ("beyond", transfer_seed(&[(500, 60)], &section(&plain))),
    ];
    replay("netvsc_receive", fuzz::netvsc_receive, made);
}

#[test]
fn netvsc_control_corpus() {
    let words = netvsc::words;
    let version = words(&[2, u32::MAX, 34, 1]);
    let refused = words(&[2, u32::MAX, 34, 3]);
    let buffers = [
        words(&[102, 1, 1, 0, 1728, 606, 606 * 1728]),
        words(&[105, 1, 6144]),
    ];
    let query = |info: &[u8]| netvsc::query_done(0, 0, info);
    let rss = [words(&[0x0012_0288, 0, 0, 8]), vec![128, 0]].concat();
    let rndis = [
        netvsc::initialize_done(0, 0),
        query(&[0, 0x15, 0x5d, 1, 2, 3]),
        query(&words(&[1500])),
        query(&netvsc::utf16("Synthetic 1")),
        query(&netvsc::all_offloads()),
        netvsc::set_done(0, 0),
        query(&words(&[0])),
        query(&words(&[100_000_000])),
        query(&rss),
    ];
    let all = [&[version][..], &buffers, &rndis].concat();
    let mut old = vec![refused; 4];
    old.extend_from_slice(&all);
    let made = vec![
        ("newest", framed(&all)),
        ("old", framed(&old)),
        ("nothing", framed(&[])),
        ("no-version", framed(&vec![words(&[2, 0, 0, 4]); 6])),
        ("table", framed(&[words(&[134, 16, 12, 1, 2, 3, 4])])),
    ];
    replay("netvsc_control", fuzz::netvsc_control, made);
}

/// The start of the operation, 1: it is complete; and what comes after the status.
fn done(status: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 64];
    packet[0] = 1;
    packet[8..12].copy_from_slice(&status.to_le_bytes());
    packet[12..12 + body.len()].copy_from_slice(body);
    packet
}

/// A SCSI command's end: SRB status, SCSI status, and sense data.
fn ended(srb: u8, scsi: u8, sense: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 52];
    body[2] = srb;
    body[3] = scsi;
    body[9] = sense.len() as u8;
    body[16..16 + sense.len()].copy_from_slice(sense);
    done(0, &body)
}

fn storage(packets: &[(u64, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, opcode, packet) in packets {
        bytes.extend_from_slice(&(packet.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.push(*opcode);
        bytes.extend_from_slice(packet);
    }
    bytes
}

#[test]
fn storvsc_corpus() {
    use storvsc_protocol::{inbound::internal_id, init::Step, packet::Version};
    let steps = [
        Step::Begin,
        Step::Version(Version::WIN10),
        Step::Properties,
        Step::End,
        Step::SubChannels(3),
    ];
    // four bytes, the number of channels, flags (several), and the most bytes
    let properties = [0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0];
    let start: Vec<_> = steps
        .iter()
        .map(|step| {
            let body: &[u8] = if *step == Step::Properties {
                &properties
            } else {
                &[]
            };
            (step.id(), 0, done(0, body))
        })
        .collect();
    let attention = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];
    let changed = [
        0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 0x09, 0, 0, 0, 0,
    ];
    let other = [
        0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3f, 0x0e, 0, 0, 0, 0,
    ];
    let illegal = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0];
    let made = vec![
        ("initialisation", storage(&start)),
        (
            "no-version",
            storage(&[start[0].clone(), (steps[1].id(), 0, done(0xc000_0059, &[]))]),
        ),
        (
            "changed",
            storage(&[
                (1, 0x28, ended(1, 0, &[])),
                (1, 0x28, ended(0x84, 2, &changed)),
            ]),
        ),
        ("read", storage(&[(1, 0x28, ended(1, 0, &[]))])),
        (
            "attention",
            storage(&[(1, 0x28, ended(0x84, 2, &attention))]),
        ),
        ("units", storage(&[(2, 0, ended(0x84, 2, &other))])),
        ("no-list", storage(&[(1, 0xa0, ended(0x20, 0, &[]))])),
        ("busy", storage(&[(1, 0x2a, ended(5, 8, &[]))])),
        (
            "who",
            storage(&[
                (internal_id(0), 0, ended(1, 0, &[])),
                (internal_id(1), 0, ended(0x84, 2, &illegal)),
                (internal_id(2), 0, ended(1, 0, &[])),
                (internal_id(3), 0, ended(1, 0, &[])),
            ]),
        ),
        (
            // waited for and answered; listened for, reset, and answered late
            "own",
            storage(&[
                (internal_id(1), 0, ended(1, 0, &[])),
                (internal_id(9), 1, ended(1, 0, &[])),
                (internal_id(9), 2, ended(1, 0, &[])),
                (internal_id(2), 3, ended(0x0e, 0, &[])),
            ]),
        ),
        ("notice", storage(&[(0, 0, vec![11, 0, 0, 0])])),
        ("unasked", storage(&[(0, 0, vec![6, 0, 0, 0])])),
        ("short", storage(&[(1, 0x28, vec![1; 20])])),
    ];
    replay("storvsc", fuzz::storvsc, made);
}

/// Each driver, which is a folder of `drivers`, with a protocol of its own is fuzzed.
#[test]
fn no_driver_is_forgotten() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let targets: Vec<_> = fs::read_dir(root.join("qemu-tests/fuzz/fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut drivers = 0;
    for driver in fs::read_dir(root.join("drivers")).unwrap() {
        let driver = driver.unwrap();
        if !driver.path().join("protocol").exists() {
            continue;
        }
        drivers += 1;
        let name = driver.file_name().into_string().unwrap();
        assert!(
            targets.iter().any(|target| target.starts_with(&name)),
            "no fuzz target for {name}"
        );
        // and its inputs are replayed here
        for target in targets.iter().filter(|target| target.starts_with(&name)) {
            let seeds = folder(target.trim_end_matches(".rs"));
            assert!(
                fs::read_dir(seeds).unwrap().count() > 0,
                "no seeds for {target}"
            );
        }
    }
    assert!(drivers >= 3);
}
