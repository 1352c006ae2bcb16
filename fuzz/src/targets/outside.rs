//! What comes from the network: addresses that names lead to, and answers of receivers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use process_throttler::effect::webhook::deliver::address::Permit;
use process_throttler::effect::webhook::deliver::judge::{RETRY_AFTER_MAX, Verdict, judge};
use process_throttler::effect::webhook::secret::Secret;
use process_throttler::model::endpoint::Network;
use process_throttler::telemetry::otlp;

use super::text::is_one_line;
use super::{Run, utf8};

/// An address, and a network that is allowed: 16 bytes and a length each.
pub(super) fn address() -> Run {
    Box::new(|bytes| {
        let Some((address, rest)) = bytes.split_first_chunk::<16>() else { return };
        let v6 = Ipv6Addr::from(*address);
        let [.., a, b, c, d] = *address;
        let v4 = Ipv4Addr::new(a, b, c, d);
        let mut permits = vec![Permit::default(), Permit { loopback_only: true, ..Permit::default() }];
        if let Some((network, [prefix, ..])) = rest.split_first_chunk::<16>() {
            let network = Network { address: Ipv6Addr::from(*network).to_canonical(), prefix: prefix % 129 };
            permits.push(Permit { networks: vec![network], ..Permit::default() });
        }
        for permit in &permits {
            for address in [IpAddr::V6(v6), IpAddr::V4(v4)] {
                if let Err(refusal) = permit.check(address) {
                    is_one_line(&refusal);
                }
            }
            // However an IPv4 address is dressed, what it leads to decides.
            let allowed = permit.check(v4.into()).is_ok();
            assert_eq!(permit.check(v4.to_ipv6_mapped().into()).is_ok(), allowed, "{v4} mapped");
        }
        let open = &permits[0];
        let mut nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).octets();
        nat64[12..].copy_from_slice(&v4.octets());
        let six_to_four = u128::from(0x2002_u16) << 112 | u128::from(v4.to_bits()) << 80;
        for dressed in [Ipv6Addr::from(nat64), Ipv6Addr::from_bits(six_to_four)] {
            assert_eq!(
                open.check(dressed.into()).is_ok(),
                open.check(v4.into()).is_ok(),
                "{v4} as {dressed}"
            );
        }
        for (address, kind) in [
            (IpAddr::V4(v4), v4.is_private() || v4.is_loopback() || v4.is_link_local()),
            (IpAddr::V4(v4), v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
            (IpAddr::V6(v6), v6.is_loopback() || v6.is_unspecified() || v6.is_multicast()),
            (IpAddr::V6(v6), v6.is_unique_local() || v6.is_unicast_link_local()),
        ] {
            assert!(!kind || open.check(address).is_err(), "{address} is not for everybody");
        }
    })
}

/// What receivers answer: of webhooks a status and a header, of metrics a message; and secrets as files hold them.
pub(super) fn answer() -> Run {
    Box::new(|bytes| {
        let (rejected, why) = otlp::rejected(bytes);
        assert!(why.len() <= bytes.len() * 3, "{rejected}");
        let Some((status, header)) = bytes.split_first_chunk::<2>() else { return };
        let status = 100 + u16::from_le_bytes(*status) % 900;
        let status = reqwest::StatusCode::from_u16(status).unwrap();
        let header = utf8(header);
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        match judge(status, header, now) {
            Verdict::Later { retry_after: Some(wait) } => assert!(wait <= RETRY_AFTER_MAX),
            Verdict::Delivered => assert!(status.is_success()),
            Verdict::Later { retry_after: None } | Verdict::Rejected | Verdict::Gone => {}
        }
        if let Some(secret) = header.and_then(Secret::parse) {
            let shown = format!("{secret:?}");
            assert!(!header.is_some_and(|text| shown.contains(text.trim())), "a secret is not shown");
            let _signature = secret.sign("id", 1, b"body");
        }
    })
}
