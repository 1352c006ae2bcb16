//! What an answer means.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;

/// Longest wait that a receiver's `Retry-After` is granted.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx: accepted.
    Delivered,
    /// The receiver cannot take it now.
    Later {
        /// How long it asked to be left alone, at most [`RETRY_AFTER_MAX`].
        retry_after: Option<Duration>,
    },
    /// The receiver does not want this delivery; it seldom changes its mind.
    Rejected,
    /// 410: the receiver wants no delivery any more.
    Gone,
}

/// Judges a status and its `Retry-After`, received at `now`.
///
/// Redirects are not followed and therefore failures: a receiver must not be able to send us elsewhere.
#[must_use]
pub fn judge(status: StatusCode, retry_after: Option<&str>, now: SystemTime) -> Verdict {
    if status.is_success() {
        return Verdict::Delivered;
    }
    match status {
        StatusCode::GONE => Verdict::Gone,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Verdict::Later { retry_after: retry_after.and_then(|text| wait(text, now)) }
        }
        // Both say that time will mend it (RFC 9110, 15.5.9; RFC 8470, 5.2).
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Verdict::Later { retry_after: None },
        other if other.is_client_error() => Verdict::Rejected,
        _ => Verdict::Later { retry_after: None },
    }
}

/// `Retry-After` is seconds or a date (RFC 9110, 10.2.3). One that is neither asks for nothing.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are more than the bound.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        // A date that is past asks for no wait.
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_445_412_480;

    fn of(status: u16, retry_after: Option<&str>) -> Verdict {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        judge(StatusCode::from_u16(status).unwrap(), retry_after, now)
    }

    fn later(seconds: u64) -> Verdict {
        Verdict::Later { retry_after: Some(Duration::from_secs(seconds)) }
    }

    #[test]
    fn answers_and_what_they_mean() {
        const LATER: Verdict = Verdict::Later { retry_after: None };
        for (status, verdict) in [
            (200, Verdict::Delivered),
            (202, Verdict::Delivered),
            (204, Verdict::Delivered),
            (101, LATER),
            (301, LATER),
            (302, LATER),
            (307, LATER),
            (400, Verdict::Rejected),
            (401, Verdict::Rejected),
            (404, Verdict::Rejected),
            (422, Verdict::Rejected),
            (408, LATER),
            (410, Verdict::Gone),
            (425, LATER),
            (429, LATER),
            (500, LATER),
            (503, LATER),
            (599, LATER),
        ] {
            assert_eq!(of(status, None), verdict, "{status}");
        }
    }

    #[test]
    fn a_wait_is_granted_to_those_that_may_ask_and_bounded() {
        for status in [429, 502, 503, 504] {
            assert_eq!(of(status, Some(" 7 ")), later(7), "{status}");
        }
        assert_eq!(of(503, Some("99999999999999999999999")), later(3_600));
        // The instant is 2015-10-21 07:28:00 GMT, in each of the three forms.
        for date in
            ["Wed, 21 Oct 2015 07:29:00 GMT", "Wednesday, 21-Oct-15 07:29:00 GMT", "Wed Oct 21 07:29:00 2015"]
        {
            assert_eq!(of(503, Some(date)), later(60), "{date}");
        }
        assert_eq!(of(503, Some("Wed, 21 Oct 2015 07:27:00 GMT")), later(0));
        assert_eq!(of(503, Some("Fri, 31 Dec 9999 23:59:59 GMT")), later(3_600));
        for nonsense in ["", "-5", "soon", "1.5", "0x10", "Wed, 99 Oct 2015"] {
            assert_eq!(of(503, Some(nonsense)), Verdict::Later { retry_after: None }, "{nonsense}");
        }
        for status in [400, 500, 301] {
            assert!(!matches!(of(status, Some("7")), Verdict::Later { retry_after: Some(_) }), "{status}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_judged_and_no_wait_is_longer(status in 100u16..1000, text in ".{0,40}") {
            if let Verdict::Later { retry_after: Some(wait) } = of(status, Some(&text)) {
                prop_assert!(wait <= RETRY_AFTER_MAX);
            }
            prop_assert_eq!(of(status, Some(&text)) == Verdict::Delivered, (200..300).contains(&status));
        }
    }
}
