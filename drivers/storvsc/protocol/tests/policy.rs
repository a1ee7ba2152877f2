// SPDX-License-Identifier: GPL-2.0

//! Results, limits and channels.
#![allow(clippy::cast_possible_truncation)] // Small constants.

use proptest::prelude::*;
use storvsc_protocol::{
    inbound::{Inbound, Status},
    init::Init,
    limits::{depth, revive_pause_ms, ring_bytes, DepthInput, MAX_DEPTH},
    outcome::{class, outcome, sense_code, Class, Followup, HostByte, LogLevel, Sent},
    packet::{Operation, BODY_LEN},
    pages::Pages,
    route::{alternatives, home, is_queue_of_one_cpu, Place},
};

fn status(scsi: u8, srb: u8, asc: u8, ascq: u8) -> Status {
    let mut sense = [0; 20];
    (sense[0], sense[2], sense[7]) = (0x70, 5, 10);
    (sense[12], sense[13]) = (asc, ascq);
    Status {
        scsi,
        srb,
        nt: 0,
        transferred: 512,
        sense_len: 20,
        sense,
    }
}

fn sent(opcode: u8) -> Sent {
    Sent {
        opcode,
        vpd: false,
        data_len: 4096,
    }
}

const TUR: u8 = 0x00;
const INQUIRY: u8 = 0x12;
const MODE_SENSE: u8 = 0x1a;
const READ: u8 = 0x28;
const ATA_16: u8 = 0x85;
const REPORT_LUNS: u8 = 0xa0;

#[test]
fn table_of_results() {
    use Followup::{Identify, LookAtAll, Notice, Rescan};
    use HostByte::{Error, NoConnect, Ok, Passthrough, Requeue};
    // Opcode, SCSI status, SRB status, sense; host byte, follow-up, bytes moved.
    let table = [
        (READ, 0, 0x01, (0, 0), Ok, None, 512),
        // Flags do not make an error of a success.
        (READ, 0, 0xc1, (0, 0), Ok, None, 512),
        (READ, 2, 0x01, (0, 0), Ok, None, 512),
        (READ, 2, 0x84, (0x20, 0), Ok, None, 0),
        (READ, 2, 0x84, (0x2a, 9), Requeue, Some(Rescan), 0),
        (READ, 2, 0x04, (0, 0), Error, None, 0),
        // Sense data without a check condition explains nothing.
        (READ, 0, 0x84, (0x20, 0), Error, None, 0),
        (READ, 0, 0x04, (0, 0), Error, None, 0),
        (READ, 0, 0x12, (0, 0), Error, None, 512),
        (READ, 2, 0x92, (0x20, 0), Ok, None, 512),
        (READ, 0, 0x20, (0, 0), NoConnect, Some(Identify), 0),
        (READ, 2, 0xa0, (0x25, 0), NoConnect, Some(Identify), 0),
        (READ, 0, 0x08, (0, 0), NoConnect, Some(Identify), 0),
        // The unit was reset, or is another one, or the others are.
        (READ, 2, 0x84, (0x29, 0), Ok, Some(Identify), 0),
        (READ, 2, 0x84, (0x29, 2), Ok, Some(Identify), 0),
        (READ, 2, 0x84, (0x3f, 3), Ok, Some(Identify), 0),
        (READ, 2, 0x84, (0x3f, 0x0e), Ok, Some(Notice), 0),
        (MODE_SENSE, 2, 0x84, (0x29, 0), Ok, Some(Identify), 512),
        // A refused list of units says nothing about the unit that was asked.
        (REPORT_LUNS, 0, 0x20, (0, 0), NoConnect, Some(LookAtAll), 0),
        (REPORT_LUNS, 2, 0x84, (0x20, 0), Ok, Some(LookAtAll), 0),
        (REPORT_LUNS, 2, 0x84, (0x29, 0), Ok, Some(Identify), 0),
        (REPORT_LUNS, 8, 0x05, (0, 0), Ok, None, 0),
        // Busy is for the midlayer, whatever else the host says.
        (READ, 0, 0x05, (0, 0), Ok, None, 0),
        (READ, 8, 0x05, (0, 0), Ok, None, 0),
        (READ, 8, 0x04, (0, 0), Ok, None, 0),
        (READ, 8, 0x01, (0, 0), Ok, None, 0),
        (READ, 0x28, 0x05, (0, 0), Ok, None, 0),
        (READ, 0x28, 0x84, (0x2a, 9), Ok, Some(Rescan), 0),
        (MODE_SENSE, 8, 0x05, (0, 0), Ok, None, 0),
        (INQUIRY, 0, 0x05, (0, 0), Ok, None, 0),
        (READ, 8, 0x20, (0, 0), NoConnect, Some(Identify), 0),
        (READ, 2, 0x85, (0x20, 0), Ok, None, 0),
        (READ, 0, 0x3f, (0, 0), Error, None, 0),
        (READ, 0, 0x00, (0, 0), Error, None, 0),
        (READ, 8, 0x3f, (0, 0), Ok, None, 0),
        (ATA_16, 2, 0x04, (0, 0), Passthrough, None, 0),
        (ATA_16, 2, 0x84, (0, 0x1d), Ok, None, 0),
        (TUR, 2, 0x04, (0, 0), Ok, None, 0),
        (TUR, 0, 0x04, (0, 0), Error, None, 0),
        (TUR, 0, 0x20, (0, 0), NoConnect, Some(Identify), 0),
        (INQUIRY, 2, 0x84, (0x24, 0), Ok, None, 512),
        (INQUIRY, 0, 0x20, (0, 0), NoConnect, None, 0),
        (MODE_SENSE, 2, 0x04, (0, 0), Ok, None, 512),
    ];
    for (opcode, scsi, srb, (asc, ascq), host, followup, moved) in table {
        let got = outcome(&sent(opcode), &status(scsi, srb, asc, ascq));
        let case = format!("{opcode:#x} scsi {scsi:#x} srb {srb:#x}");
        assert_eq!(got.host, host, "{case}");
        assert_eq!(got.followup, followup, "{case}");
        assert_eq!(got.residual, 4096 - moved, "{case}");
        assert!(!got.sense || scsi == 2 && srb & 0x80 != 0, "{case}");
    }
}

#[test]
fn a_busy_host_is_asked_again() {
    // SCSI status and SRB status of the answer; SCSI status for the midlayer.
    for (scsi, srb, told) in [(0, 0x05, 8), (8, 0x05, 8), (0x28, 0x05, 0x28), (8, 0x04, 8)] {
        let got = outcome(&sent(READ), &status(scsi, srb, 0, 0));
        assert_eq!(got.result(), told, "scsi {scsi:#x} srb {srb:#x}");
        assert!(!got.sense);
    }
}

#[test]
fn forced_results_are_good() {
    let got = outcome(&sent(MODE_SENSE), &status(2, 0x84, 0x24, 0));
    assert_eq!((got.result(), got.sense), (0, false));
    let got = outcome(&sent(READ), &status(2, 0x20, 0, 0));
    assert_eq!(got.result(), 0x1_0002);
    // That a unit is gone is said once, not for each command.
    assert_eq!(got.log, LogLevel::Warning);
    let got = outcome(&sent(READ), &status(2, 0x08, 0, 0));
    assert_eq!(got.log, LogLevel::Error);
    assert_eq!(
        outcome(&sent(TUR), &status(2, 4, 0, 0)).log,
        LogLevel::Warning
    );
    // A unit attention is a notice.
    let mut notice = status(2, 0x84, 0x29, 0);
    assert_eq!(outcome(&sent(READ), &notice).log, LogLevel::Error);
    notice.sense[2] = 6;
    assert_eq!(outcome(&sent(READ), &notice).log, LogLevel::Warning);
}

#[test]
fn queues_and_channels() {
    assert!(is_queue_of_one_cpu(4, 4));
    assert!(!is_queue_of_one_cpu(1, 4));
    assert!(!is_queue_of_one_cpu(3, 4));
    // CPUs that are not there may be counted as queues.
    assert!(is_queue_of_one_cpu(8, 4));
}

#[test]
fn a_host_that_was_given_up_is_tried_again_and_again() {
    let pauses: Vec<_> = (0..8).map(|tries| revive_pause_ms(tries) / 1000).collect();
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(revive_pause_ms(u32::MAX), 300_000);
}

#[test]
fn depth_is_what_the_block_layer_uses() {
    let input = DepthInput {
        ring_bytes: ring_bytes(128 << 10),
        cpus: 416,
        cpus_per_channel: 4,
        low_water_percent: 10,
        sub_channels: true,
    };
    assert_eq!(depth(&input), 10_240);
    assert_eq!(MAX_DEPTH, 10_240);
}

#[test]
fn sense_formats() {
    assert_eq!(sense_code(&[]), None);
    assert_eq!(sense_code(&[0x70, 0, 6]), None);
    assert_eq!(sense_code(&[0x72, 6, 0x2a, 9]), Some((0x2a, 9)));
    let mut fixed = [0; 14];
    (fixed[0], fixed[7], fixed[12], fixed[13]) = (0xf0, 6, 0x3f, 0x0e);
    assert_eq!(sense_code(&fixed), Some((0x3f, 0x0e)));
    fixed[7] = 5;
    assert_eq!(sense_code(&fixed), None);
}

#[test]
fn channels() {
    let place = |cpu, node| Place { cpu, node };
    let one = [place(0, 0)];
    assert_eq!(home(&one, 5, 3), 0);
    let four = [place(0, 0), place(4, 0), place(8, 1), place(12, 1)];
    assert_eq!(home(&four, 8, 1), 2);
    assert_eq!((home(&four, 2, 0), home(&four, 3, 0)), (0, 1));
    assert_eq!((home(&four, 10, 1), home(&four, 13, 1)), (2, 3));
    assert_eq!(home(&four, 99, 7), 0);
    assert_eq!(home(&[], 0, 0), 0);
    assert_eq!(alternatives(&four, 1).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(alternatives(&four, 2).collect::<Vec<_>>(), [3, 0, 1]);
    assert_eq!(alternatives(&one, 0).count(), 0);
    assert_eq!(alternatives(&[], 0).count(), 0);
}

/// Page numbers of pieces, or `None` when there are not as many as the range
/// touches, which is what the ring checks.
fn pages(pieces: &[(u64, u32)]) -> Option<Vec<u64>> {
    let len: u32 = pieces.iter().map(|piece| piece.1).sum();
    let offset = pieces[0].0 % 4096;
    let count = (offset + u64::from(len)).div_ceil(4096) as usize;
    let got: Vec<_> = Pages::new(pieces.iter().copied(), len)
        .flatten()
        .take(count + 1)
        .collect();
    (got.len() == count).then_some(got)
}

#[test]
fn scatter_lists() {
    assert_eq!(pages(&[(0x5000, 4096)]), Some(vec![5]));
    assert_eq!(pages(&[(0x5200, 4096)]), Some(vec![5, 6]));
    // Larger pages of the guest, and a start and an end inside of a page.
    let list = [(0x5e00, 512), (0x2_0000, 65536), (0x9000, 512)];
    let mut want = vec![5];
    want.extend(0x20..0x30);
    want.push(9);
    assert_eq!(pages(&list), Some(want));
    // Neighbours that are not merged.
    assert_eq!(pages(&[(0x5000, 512), (0x5200, 3584)]), Some(vec![5]));
    assert_eq!(
        pages(&[(0x5000, 512), (0x5200, 3584), (0x6000, 512)]),
        Some(vec![5, 6])
    );
    // Gaps.
    assert_eq!(pages(&[(0x5000, 4096), (0x7200, 512)]), None);
    assert_eq!(pages(&[(0x5000, 512), (0x7000, 4096)]), None);
    assert_eq!(pages(&[(0x5000, 512), (0x7200, 3584)]), None);
    assert_eq!(pages(&[(u64::MAX - 100, 4096)]), None);
    // Less than there should be.
    assert_eq!(
        Pages::new([(0x5000, 512)].into_iter(), 4096)
            .flatten()
            .take(9)
            .count(),
        9
    );
    // No more than there are bytes of data.
    let list = [(0x5000, 8192), (0x8000, 4096)];
    let count = |len| Pages::new(list.iter().copied(), len).flatten().count();
    assert_eq!((count(4096), count(0)), (1, 0));
}

proptest! {
    #[test]
    fn any_result_is_bounded(
        opcode: u8, vpd: bool, data_len: u32, scsi: u8, srb: u8,
        transferred: u32, sense_len in 0u8..=20, sense: [u8; 20],
    ) {
        let answer = Status { scsi, srb, nt: 0, transferred, sense_len, sense };
        let got = outcome(&Sent { opcode, vpd, data_len }, &answer);
        prop_assert!(got.residual <= data_len);
        // A failure is never a success that moved nothing.
        let forced = matches!(opcode, 0x12 | 0x1a | 0x5a);
        if class(srb) != Class::Success && !forced {
            prop_assert_ne!(got.result(), 0);
        }
        prop_assert!(got.result() >= 0);
    }

    #[test]
    fn any_packet_is_survived(id: u64, reserved: bool, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let id = if reserved { u64::MAX - id % 32 } else { id };
        if let Ok(Inbound::Command(id, status)) = Inbound::parse(id, &bytes) {
            prop_assert!(status.sense().len() <= 20);
            prop_assert_ne!(id, 0);
        }
    }

    #[test]
    fn any_answers_end(answers in proptest::collection::vec((any::<u64>(), 0u32..4, 0u32..3), 0..60)) {
        let mut init = Init::new();
        let mut steps = usize::from(init.start().is_some());
        for (id, operation, status) in answers {
            let id = u64::MAX - 15 + id % 8;
            let next = init.on_answer(id, Operation(operation), status, &[1; BODY_LEN]);
            steps += usize::from(next.is_some());
        }
        prop_assert!(steps <= 5);
    }

    #[test]
    fn home_exists(places in proptest::collection::vec((0u32..64, 0i32..4), 1..32), cpu: u32, node: i32) {
        let places: Vec<_> = places.iter().map(|&(cpu, node)| Place { cpu, node }).collect();
        let home = home(&places, cpu, node);
        prop_assert!(home < places.len());
        let mut others: Vec<_> = alternatives(&places, home).collect();
        others.sort_unstable();
        let want: Vec<_> = (0..places.len()).filter(|other| *other != home).collect();
        prop_assert_eq!(others, want);
    }
}
