// SPDX-License-Identifier: GPL-2.0

//! The network: another connection of an adapter, with a host that does less than before, or more.

use fake_host::netvsc::{all_offloads, words, Host};
use netvsc_protocol::{
    setup::{Action, Agreed, Config, Setup},
    terms::Terms,
};

const CAPABILITIES: u32 = 0xfc01_020d;
const PARAMETERS: u32 = 0xfc01_020c;
const FRAME_SIZE: u32 = 0x0001_0106;

const CONFIG: Config = Config {
    mtu: 9000,
    receive_bytes: 16 << 20,
    send_bytes: 1 << 20,
    coalesce: true,
    functions: true,
};

/// A host that takes frames of `mtu` bytes, and whose description has these words at these places.
fn host(mtu: u32, changes: &[(usize, u32)]) -> Host {
    let mut offloads = all_offloads();
    for (at, value) in changes {
        offloads[*at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let mut host = Host::default();
    host.objects.insert(CAPABILITIES, (0, offloads));
    host.objects.insert(FRAME_SIZE, (0, words(&[mtu])));
    host
}

fn agreed(mut host: Host, config: Config) -> Agreed {
    let mut setup = Setup::new(config);
    assert_eq!(host.run(&mut setup), Action::Done);
    *setup.agreed()
}

/// What `former` has and the next connection does not, and the other way round.
fn differ(former: &Terms, now: &Terms) -> (String, String) {
    let text = |a: &Terms, b: &Terms| a.beyond(b).map_or_else(String::new, |b| b.to_string());
    (text(former, now), text(now, former))
}

#[test]
fn less_and_more() {
    let all = Terms::of(&agreed(host(9000, &[]), CONFIG), 9000, 9000);
    assert_eq!((all.mtu, all.max_mtu), (9000, 65_521));
    assert!(all.offloads.coalesce);
    let ipv4 = "checksums of TCP (IPv4), checksums of UDP (IPv4), segmentation (IPv4)";
    for (changes, wanted) in [
        (&[][..], String::new()),
        (&[(8, 0)], ipv4.into()),
        (&[(8, 0x114)], "checksums of UDP (IPv4)".into()),
        (&[(24, 0)], ipv4.replace('4', "6")),
        (&[(80, 0)], "segmentation (IPv4)".into()),
        (&[(144, 0)], "coalesced packets".into()),
        (&[(96, 8192)], "segmentation of more than 8192 bytes".into()),
        (&[(92, 0)], "segmentation (IPv6)".into()),
        (
            &[(8, 0), (24, 0), (144, 0)],
            format!("{ipv4}, {}, coalesced packets", ipv4.replace('4', "6")),
        ),
    ] {
        let now = Terms::of(&agreed(host(9000, changes), CONFIG), 9000, 9000);
        assert_eq!(differ(&all, &now), (wanted.clone(), String::new()));
        assert_eq!(differ(&now, &all), (String::new(), wanted));
    }
}

/// What the guest does not want is not lost, and is not won when it is wanted.
#[test]
fn what_is_not_wanted() {
    let all = Terms::of(&agreed(host(9000, &[]), CONFIG), 9000, 9000);
    let config = Config {
        coalesce: false,
        ..CONFIG
    };
    let unwanted = agreed(host(9000, &[]), config);
    assert!(unwanted.coalesces && !unwanted.offloads.coalesce);
    assert_eq!(Terms::of(&unwanted, 9000, 9000), all);
}

/// A host that refuses to turn offloads on has none.
#[test]
fn refused() {
    let all = Terms::of(&agreed(host(9000, &[]), CONFIG), 9000, 9000);
    let mut refuses = host(9000, &[]);
    refuses.objects.remove(&PARAMETERS);
    let now = agreed(refuses, CONFIG);
    assert!(!now.coalesces);
    let (lost, _) = differ(&all, &Terms::of(&now, 9000, 9000));
    assert_eq!(lost.matches(", ").count(), 6);
}

#[test]
fn shorter_frames() {
    for (host_mtu, asked, used, wanted) in [
        // as asked for
        (9000, 9000, 1500, 1500),
        (9000, 9000, 9000, 9000),
        // somebody has asked for less, which the stack does not know yet
        (9000, 1500, 9000, 9000),
        // less than is used; more than that is none of its business
        (4000, 9000, 9000, 4000),
        (4000, 9000, 1500, 1500),
        (4000, 8000, 9000, 4000),
    ] {
        let config = Config {
            mtu: asked,
            ..CONFIG
        };
        let terms = Terms::of(&agreed(host(host_mtu, &[]), config), asked, used);
        assert_eq!(terms.mtu, wanted, "{host_mtu} {asked} {used}");
        let former = Terms { mtu: used, ..terms };
        let (lost, won) = differ(&former, &terms);
        let line = format!("frames of more than {wanted} bytes");
        assert_eq!(lost, if wanted < used { line } else { String::new() });
        assert_eq!(won, "");
    }
    // one that speaks the oldest version all of a sudden
    let old = Host {
        versions: vec![2],
        ..host(9000, &[])
    };
    let terms = Terms::of(&agreed(old, CONFIG), 9000, 9000);
    assert_eq!((terms.mtu, terms.max_mtu), (1500, 1500));
    assert!(!terms.offloads.coalesce && !terms.offloads.ipv4.udp);
}
