// SPDX-License-Identifier: GPL-2.0

//! GUIDs, classes and versions.
#![allow(clippy::cast_possible_truncation)] // Small constants.

use proptest::prelude::*;
use vmbus_protocol::{
    class,
    message::VersionResponse,
    version::{Attempt, Negotiation, NegotiationError, Step, Version},
    Guid,
};

#[test]
fn guid_text_and_wire_order() {
    let text = "525074dc-8985-46e2-8057-a307dc18a502";
    let guid = Guid::parse(text);
    assert_eq!(guid, class::BALLOON);
    assert_eq!(
        guid.to_bytes(),
        [
            0xdc, 0x74, 0x50, 0x52, 0x85, 0x89, 0xe2, 0x46, 0x80, 0x57, 0xa3, 0x07, 0xdc, 0x18,
            0xa5, 0x02
        ]
    );
    assert_eq!(guid.to_string(), text);
    assert_eq!(
        guid.modalias().to_string(),
        "dc7450528589e2468057a307dc18a502"
    );
    assert_eq!(Guid::try_parse(text.to_uppercase().as_bytes()), Some(guid));
    for bad in [
        "",
        "525074dc-8985-46e2-8057-a307dc18a50",
        "525074dc-8985-46e2-8057-a307dc18a5020",
        "{25074dc-8985-46e2-8057-a307dc18a502}",
        "525074dc+8985-46e2-8057-a307dc18a502",
        "525074dcg8985-46e2-8057-a307dc18a502",
        "525074dg-8985-46e2-8057-a307dc18a502",
    ] {
        assert_eq!(Guid::try_parse(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn class_table_is_consistent() {
    for (index, info) in class::CLASSES.iter().enumerate() {
        assert_eq!(usize::from(info.device_index), index);
        assert_eq!(class::by_guid(&info.guid), Some(info));
    }
    let isolated: Vec<_> = class::CLASSES
        .iter()
        .filter(|info| info.allowed_in_isolated)
        .map(|info| info.name)
        .collect();
    assert_eq!(
        isolated,
        ["scsi", "nic", "pcie", "timesync", "heartbeat", "shutdown"]
    );
    let spread: Vec<_> = class::CLASSES
        .iter()
        .filter(|info| info.perf_device)
        .map(|info| info.name)
        .collect();
    assert_eq!(spread, ["ide", "scsi", "fc", "nic", "nd"]);
    assert_eq!(class::by_guid(&Guid::NULL), None);
    for guid in [class::AVMA1, class::AVMA2, class::RDV, class::IMC] {
        assert_eq!(class::by_guid(&guid), None);
    }
    let port = Guid::parse("00000801-facb-11e6-bd58-64006a7986d3");
    assert_eq!(class::vsock_port(&port), Some(0x801));
    assert_eq!(class::vsock_port(&class::NIC), None);
}

fn reply(supported: bool) -> VersionResponse {
    VersionResponse {
        supported,
        connection_state: 0,
        msg_conn_id: 0x77,
    }
}

/// Answers attempts by `accept` until the negotiation ends.
fn negotiate(
    mut negotiation: Negotiation,
    accept: impl Fn(Version) -> bool,
) -> (Vec<Attempt>, Step) {
    let mut attempts = Vec::new();
    loop {
        let attempt = negotiation.current().unwrap();
        attempts.push(attempt);
        negotiation.posted();
        match negotiation.on_response(&reply(accept(attempt.version))) {
            Step::TryNext(next) => assert_eq!(negotiation.current(), Some(next)),
            step => {
                assert_eq!(negotiation.current(), None);
                return (attempts, step);
            }
        }
    }
}

#[test]
fn versions_are_proposed_newest_first() {
    let (attempts, step) = negotiate(Negotiation::new(None).unwrap(), |_| false);
    let versions: Vec<_> = attempts.iter().map(|a| a.version.to_string()).collect();
    assert_eq!(versions, ["6.0", "5.3", "5.2", "5.1", "5.0", "4.1", "4.0"]);
    let ids: Vec<_> = attempts.iter().map(|a| a.connection_id).collect();
    assert_eq!(ids, [4, 4, 4, 4, 4, 1, 1]);
    assert_eq!(step, Step::Refused);
}

#[test]
fn connection_id_depends_on_the_version() {
    for (version, id) in [(Version::V5_0, 0x77), (Version::V4_1, 1)] {
        let (_, step) = negotiate(Negotiation::new(None).unwrap(), |v| v <= version);
        assert_eq!(
            step,
            Step::Accepted {
                version,
                msg_conn_id: id,
                connection_state: 0
            }
        );
    }
}

#[test]
fn cap_and_isolation_limit_the_versions() {
    let (attempts, _) = negotiate(Negotiation::new(Some(Version::V5_1.0 + 1)).unwrap(), |_| {
        false
    });
    assert_eq!(attempts[0].version, Version::V5_2);
    let (attempts, _) = negotiate(
        Negotiation::new(None).unwrap().require_isolation().unwrap(),
        |_| false,
    );
    assert_eq!(attempts.last().unwrap().version, Version::V5_2);
    assert_eq!(
        Negotiation::new(Some(Version::V5_1.0))
            .unwrap()
            .require_isolation()
            .unwrap_err(),
        NegotiationError::NothingToOffer
    );
}

#[test]
fn a_contact_that_was_not_posted_is_not_the_end() {
    let mut negotiation = Negotiation::new(None).unwrap();
    let mut tried = Vec::new();
    while let Some(attempt) = negotiation.current() {
        tried.push(attempt.version);
        negotiation.posted();
        negotiation.on_not_posted();
    }
    assert_eq!(tried, Version::OFFERED);
    assert_eq!(negotiation.on_not_posted(), Step::Unexpected);
}

#[test]
fn vtl2_tries_the_redirected_id_first() {
    let mut negotiation = Negotiation::new(None).unwrap().with_vtl(2);
    let first = negotiation.current().unwrap();
    assert_eq!(first.connection_id, 0x80_0074);
    negotiation.posted();
    let Step::TryNext(second) = negotiation.on_invalid_connection() else {
        panic!("no fallback");
    };
    assert_eq!((second.version, second.connection_id), (first.version, 4));
    negotiation.posted();
    // A refusal moves on, and the next version starts with the redirect again.
    let Step::TryNext(third) = negotiation.on_response(&reply(false)) else {
        panic!("no next version");
    };
    assert_eq!(third.connection_id, 0x80_0074);
    assert_eq!(third.version, Version::V5_3);
    // Versions before 5.0 never use it.
    let old = Negotiation::new(Some(Version::V4_1.0)).unwrap().with_vtl(2);
    assert_eq!(old.current().unwrap().connection_id, 1);
}

proptest! {
    #[test]
    fn guid_round_trip(bytes in any::<[u8; 16]>()) {
        let guid = Guid(bytes);
        prop_assert_eq!(Guid::try_parse(guid.to_string().as_bytes()), Some(guid));
    }

    #[test]
    fn guid_parser_takes_any_text(text in ".{0,40}") {
        if let Some(guid) = Guid::try_parse(text.as_bytes()) {
            prop_assert_eq!(guid.to_string(), text.to_lowercase());
        }
    }

    #[test]
    fn negotiation_ends_at_the_best_common_version(max in 0u32..0x7_0000, host in 0u32..0x7_0000) {
        let Ok(negotiation) = Negotiation::new(Some(max)) else {
            prop_assert!(max < Version::V4_0.0);
            return Ok(());
        };
        let best = Version::OFFERED.into_iter().find(|v| v.0 <= max && v.0 <= host);
        let (attempts, step) = negotiate(negotiation, |v| v.0 <= host);
        prop_assert!(attempts.iter().all(|a| a.version.0 <= max));
        match best {
            Some(version) => {
                let accepted = matches!(step, Step::Accepted { version: v, .. } if v == version);
                prop_assert!(accepted);
            }
            None => prop_assert_eq!(step, Step::Refused),
        }
    }
}
