// SPDX-License-Identifier: GPL-2.0

//! The known bug cases, each against a host that does what it takes.

use storvsc_protocol::{
    inbound::{Inbound, PacketError, Status, RESET_ID},
    init::{is_init_id, Init, InitError, State, Step},
    limits::{depth, ring_bytes, transfer, DepthInput, MAX_DEPTH},
    outcome::{outcome, Followup, HostByte, Sent},
    packet::{Address, Cdb, Direction, Execute, Operation, Packet, Request, Version, BODY_LEN},
};
use zerocopy::IntoBytes;

const READ_10: u8 = 0x28;

fn answer(operation: u32, status: u32, body: &[u8]) -> [u8; 64] {
    let mut packet = [0; 64];
    packet[..4].copy_from_slice(&operation.to_le_bytes());
    packet[8..12].copy_from_slice(&status.to_le_bytes());
    packet[12..12 + body.len()].copy_from_slice(body);
    packet
}

/// A host that answers the initialisation.
struct Host {
    versions: &'static [u16],
    max_channels: u16,
    max_transfer: u32,
    multi_channel: bool,
    fail: Option<(Operation, u32)>,
}

impl Default for Host {
    fn default() -> Self {
        Host {
            versions: &[0x0602, 0x0600],
            max_channels: 3,
            max_transfer: 0x80000,
            multi_channel: true,
            fail: None,
        }
    }
}

impl Host {
    fn reply(&self, packet: &Packet) -> [u8; 64] {
        let operation = Operation(packet.head.operation.get());
        if let Some((at, status)) = self.fail {
            if at == operation {
                return answer(1, status, &[]);
            }
        }
        match operation {
            Operation::QUERY_PROTOCOL_VERSION => {
                let version = u16::from_le_bytes([packet.body[0], packet.body[1]]);
                let known = self.versions.contains(&version);
                answer(1, if known { 0 } else { 0xc000_0059 }, &[])
            }
            Operation::QUERY_PROPERTIES => {
                let mut body = [0; 24];
                body[4..6].copy_from_slice(&self.max_channels.to_le_bytes());
                body[8] = self.multi_channel.into();
                body[12..16].copy_from_slice(&self.max_transfer.to_le_bytes());
                answer(1, 0, &body)
            }
            _ => answer(1, 0, &[]),
        }
    }

    /// Lets the guest go through; each answer is sent `times` times.
    fn run(&self, times: usize, subs: u16) -> Init {
        let mut init = Init::new();
        let mut next = init.start();
        let mut asked = false;
        for _ in 0..20 {
            let Some(step) = next else {
                if asked || init.state() != State::Ready {
                    break;
                }
                asked = true;
                next = init.ask_sub_channels(subs);
                continue;
            };
            let bytes = self.reply(&step.packet());
            next = None;
            for _ in 0..times {
                if let Some(step) = feed(&mut init, step.id(), &bytes) {
                    assert!(next.is_none(), "one answer, one step");
                    next = Some(step);
                }
            }
        }
        init
    }
}

fn feed(init: &mut Init, id: u64, bytes: &[u8]) -> Option<Step> {
    match Inbound::parse(id, bytes) {
        Ok(Inbound::Init {
            id,
            operation,
            status,
            body,
        }) => init.on_answer(id, operation, status, &body),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unsolicited_packets() {
    for operation in 0..=255u32 {
        for len in [3usize, 4, 48, 64] {
            let bytes = answer(operation, 0, &[]);
            let got = Inbound::parse(0, &bytes[..len]);
            let want = match operation {
                _ if len < 4 => Err(PacketError::TooShort { len, want: 4 }),
                2 | 11 => Ok(Inbound::Rescan),
                other => Err(PacketError::Unsolicited(other)),
            };
            assert_eq!(got, want, "operation {operation}, {len} bytes");
        }
    }
    // With an id, nothing but a whole answer counts.
    assert_eq!(
        Inbound::parse(5, &answer(1, 0, &[])[..63]),
        Err(PacketError::TooShort { len: 63, want: 64 })
    );
    for operation in [0, 2, 3, 11, 12, 14, u32::MAX] {
        assert_eq!(
            Inbound::parse(5, &answer(operation, 0, &[])),
            Err(PacketError::NotAnAnswer(operation))
        );
    }
    for id in [u64::MAX, u64::MAX - 1, u64::MAX - 2] {
        assert_eq!(
            Inbound::parse(id, &answer(1, 0, &[])),
            Err(PacketError::UnknownId(id))
        );
    }
    assert_eq!(
        Inbound::parse(RESET_ID, &answer(1, 7, &[])),
        Ok(Inbound::Reset(7))
    );
}

#[test]
fn depth_of_the_queues() {
    let input = |cpus, ring, percent| DepthInput {
        ring_bytes: ring_bytes(ring),
        cpus,
        cpus_per_channel: 4,
        low_water_percent: percent,
        sub_channels: true,
    };
    assert_eq!(depth(&input(1, 128 << 10, 10)), 316);
    assert_eq!(depth(&input(5, 128 << 10, 10)), 633);
    // 352 * 104 * 0.9 = 32947 does not fit into 16 bits.
    assert_eq!(depth(&input(416, 128 << 10, 10)), MAX_DEPTH);
    for cpus in [0, 1, 4, 416, 2048, u32::MAX] {
        for ring in [0, 4096, 128 << 10, 4 << 20, u32::MAX] {
            for percent in [0, 10, 99, 100, u32::MAX] {
                for cpus_per_channel in [0, 1, 4, u32::MAX] {
                    let depth = depth(&DepthInput {
                        cpus_per_channel,
                        ..input(cpus, ring, percent)
                    });
                    assert!((1..=MAX_DEPTH).contains(&depth));
                }
            }
        }
    }
}

#[test]
fn a_command_without_data() {
    // Behind its end a command block may hold what was there before.
    let mut cdb = [0xee; 16];
    cdb[..6].fill(0);
    let packet = Execute::new(&Request {
        address: Address {
            channel: 3,
            target: 1,
            lun: 254,
        },
        port: 9,
        cdb: Cdb::new(cdb, 6),
        direction: Direction::None,
        data_len: 0,
        tagged: false,
    });
    let bytes = packet.as_bytes();
    assert_eq!(bytes.len(), 64);
    assert_eq!(bytes[..8], [3, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(bytes[12..24], [52, 0, 0, 0, 9, 3, 1, 254, 6, 20, 2, 0]);
    assert!(bytes[24..52].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[52..], [8, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_tagged_read() {
    let packet = Execute::new(&Request {
        address: Address {
            channel: 0,
            target: 0,
            lun: 1,
        },
        port: 0,
        cdb: Cdb::new(
            [READ_10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            0xff,
        ),
        direction: Direction::Read,
        data_len: 4096,
        tagged: true,
    });
    assert_eq!(packet.srb.cdb_length, 16);
    assert_eq!(packet.srb.cdb_or_sense[14..], [14, 15, 0, 0, 0, 0]);
    assert_eq!(packet.srb.transfer_length.get(), 4096);
    assert_eq!(packet.srb.flags.get(), 0x2 | 0x8 | 0x40 | 0x100);
    assert_eq!(
        (packet.srb.queue_tag, packet.srb.queue_action),
        (0xff, 0x20)
    );
}

fn sense(key: u8, asc: u8, ascq: u8) -> [u8; 20] {
    let mut sense = [0; 20];
    (sense[0], sense[2], sense[7]) = (0x70, key, 10);
    (sense[12], sense[13]) = (asc, ascq);
    sense
}

fn failed(srb: u8, sense: [u8; 20]) -> Status {
    Status {
        scsi: 2,
        srb,
        nt: 0,
        transferred: 0,
        sense_len: 20,
        sense,
    }
}

const READ: Sent = Sent {
    opcode: READ_10,
    vpd: false,
    data_len: 4096,
};

#[test]
fn capacity_change() {
    for srb in [0x82, 0x84, 0x86, 0x84 | 0x40] {
        let outcome = outcome(&READ, &failed(srb, sense(6, 0x2a, 0x09)));
        assert_eq!(outcome.host, HostByte::Requeue, "{srb:#x}");
        assert_eq!(outcome.followup, Some(Followup::Rescan));
    }
    // Without the flag the bytes are not sense data.
    let outcome = outcome(&READ, &failed(0x04, sense(6, 0x2a, 0x09)));
    assert_eq!((outcome.host, outcome.followup), (HostByte::Error, None));
}

#[test]
fn parameter_change() {
    for (asc, ascq, rescan) in [
        (0x3f, 0x00, true),
        (0x3f, 0x02, true),
        (0x3f, 0x03, false),
        (0x3f, 0x0e, false),
        (0x2a, 0x01, false),
    ] {
        let outcome = outcome(&READ, &failed(0x84, sense(6, asc, ascq)));
        let found = outcome.followup == Some(Followup::Rescan);
        assert_eq!(found, rescan, "{asc:#x}/{ascq:#x}");
        assert_eq!(outcome.host == HostByte::Requeue, rescan);
        assert!(outcome.sense);
    }
}

#[test]
fn late_and_repeated_answers() {
    let host = Host::default();
    for times in [1, 2, 5] {
        let init = host.run(times, 3);
        assert_eq!(init.state(), State::Ready);
        assert_eq!(init.granted(), 3);
        assert_eq!(init.version(), Version::WIN10);
        assert_eq!(init.host().max_transfer_bytes, 0x80000);
        assert_eq!(init.ignored() as usize, (times - 1) * 5);
    }
    // An answer after the time is over.
    let mut init = Init::new();
    let step = init.start().unwrap();
    init.on_timeout();
    assert_eq!(init.state(), State::Failed(InitError::Timeout(Step::Begin)));
    assert_eq!(feed(&mut init, step.id(), &answer(1, 0, &[])), None);
    assert_eq!(init.state(), State::Failed(InitError::Timeout(Step::Begin)));
    assert_eq!(init.ignored(), 1);
    // A host that does not answer about sub-channels is used without them.
    let mut init = host.run(1, 0);
    init.ask_sub_channels(9).unwrap();
    init.on_timeout();
    assert_eq!((init.state(), init.granted()), (State::Ready, 0));
}

#[test]
fn sub_channels_that_were_not_asked_for_are_refused() {
    let host = Host::default();
    let mut init = host.run(1, 0);
    assert!(!init.wants_sub_channel(1));
    init.ask_sub_channels(2).unwrap();
    // offered before the answer, or after one that did not come
    let wanted: Vec<_> = (0..=u16::MAX)
        .filter(|i| init.wants_sub_channel(*i))
        .collect();
    assert_eq!(wanted, [1, 2]);
    init.on_timeout();
    assert!(init.wants_sub_channel(2) && !init.wants_sub_channel(3));
}

#[test]
fn versions() {
    let old = Host {
        versions: &[0x0600],
        ..Host::default()
    };
    assert_eq!(old.run(1, 0).version(), Version::WIN8_1);
    assert_eq!(old.run(1, 0).state(), State::Ready);
    let none = Host {
        versions: &[0x0501],
        ..Host::default()
    };
    assert_eq!(none.run(1, 0).state(), State::Failed(InitError::NoVersion));
}

#[test]
fn refusals_and_nonsense() {
    for (operation, step) in [
        (Operation::BEGIN_INITIALIZATION, Step::Begin),
        (Operation::QUERY_PROPERTIES, Step::Properties),
        (Operation::END_INITIALIZATION, Step::End),
    ] {
        let host = Host {
            fail: Some((operation, 0xc000_0001)),
            ..Host::default()
        };
        let status = 0xc000_0001;
        assert_eq!(
            host.run(1, 0).state(),
            State::Failed(InitError::Refused { step, status })
        );
    }
    let host = Host {
        fail: Some((Operation::CREATE_SUB_CHANNELS, 1)),
        ..Host::default()
    };
    assert_eq!(host.run(1, 3).granted(), 0);
    assert_eq!(host.run(1, 3).state(), State::Ready);
    // An answer that is none.
    let mut init = Init::new();
    let step = init.start().unwrap();
    feed(&mut init, step.id(), &answer(9, 0, &[]));
    let operation = 9;
    assert_eq!(
        init.state(),
        State::Failed(InitError::Protocol { step, operation })
    );
    // A host without sub-channels is not asked for any.
    let host = Host {
        multi_channel: false,
        ..Host::default()
    };
    assert_eq!(host.run(1, 3).ask_sub_channels(3), None);
}

#[test]
fn transfer_limits() {
    let ring = ring_bytes(128 << 10);
    for (host, bytes, segments) in [
        (0, 4096, 2),
        (4095, 4096, 2),
        (64 << 10, 64 << 10, 17),
        (0x8_0fff, 512 << 10, 129),
        (256 << 20, 8 << 20, 2049),
        (u32::MAX, 8 << 20, 2049),
    ] {
        let limits = transfer(host, ring);
        assert_eq!((limits.bytes, limits.segments), (bytes, segments), "{host}");
    }
    // What is left of the smallest ring.
    let limits = transfer(u32::MAX, ring_bytes(0));
    assert!(u32::from(limits.segments) * 8 < ring_bytes(0) / 2);
}

#[test]
fn lengths_in_a_completion() {
    let mut body = [0u8; BODY_LEN];
    (body[2], body[3], body[9]) = (0x84, 2, 255);
    body[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    body[16..36].copy_from_slice(&sense(3, 0x11, 0));
    let Ok(Inbound::Command(1, status)) = Inbound::parse(1, &answer(1, 0, &body)) else {
        panic!()
    };
    assert_eq!(status.sense().len(), 20);
    assert_eq!(outcome(&READ, &status).residual, 4096);
    body[2] = 0x01;
    body[3] = 0;
    let Ok(Inbound::Command(1, status)) = Inbound::parse(1, &answer(1, 0, &body)) else {
        panic!()
    };
    assert_eq!(outcome(&READ, &status).residual, 0);
}

#[test]
fn ids_of_the_initialisation() {
    let steps = [
        Step::Begin,
        Step::Version(Version::WIN10),
        Step::Version(Version::WIN8_1),
        Step::Properties,
        Step::End,
        Step::SubChannels(1),
    ];
    for (number, step) in steps.iter().enumerate() {
        assert!(is_init_id(step.id()));
        assert!(steps[..number].iter().all(|other| other.id() != step.id()));
    }
    assert!(!is_init_id(RESET_ID));
    assert!(!is_init_id(u64::MAX));
}

#[test]
fn rings_are_as_large_as_those_of_the_c_driver() {
    for (parameter, data) in [
        (8 << 10, 0x2000),
        (16 << 10, 0x4000),
        (24 << 10, 0x6000),
        (32 << 10, 0x7000),
        (128 << 10, 0x1_f000),
        // Limits of ours.
        (0, 0x2000),
        (u32::MAX, (16 << 20) - 0x1000),
    ] {
        assert_eq!(ring_bytes(parameter), data, "{parameter:#x}");
    }
}
