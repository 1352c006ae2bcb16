//! A record as a syslog message (RFC 5424). Pure.
//!
//! The message is the record's line as it stands in the log, so that the receiver can check the chain.

use super::Parcel;
use crate::audit::record::Outcome;

/// "Log audit" (RFC 5424, table 1).
const FACILITY: u8 = 13;
/// The number for examples (RFC 5612): the project has none of its own.
const SD_ID: &str = "processThrottler@32473";
/// Longest names (RFC 5424, section 6).
const HOST_MAX: usize = 255;
const MSGID_MAX: usize = 32;
/// Longest value of a parameter that is sent, in characters.
const VALUE_MAX: usize = 255;

/// The message, without any framing.
pub(super) fn message(parcel: &Parcel, host: &str, pid: u32) -> Vec<u8> {
    let body = &parcel.record.body;
    let priority = FACILITY * 8 + severity(body.outcome);
    let host = name(host, HOST_MAX);
    let kind = name(&body.kind, MSGID_MAX);
    let head = format!(
        "<{priority}>1 {time} {host} process-throttler {pid} {kind} \
         [{SD_ID} seq=\"{seq}\" outcome=\"{outcome}\" actor=\"{actor}\" subject=\"{subject}\" hash=\"{hash}\"] ",
        time = body.time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
        seq = body.seq,
        outcome = body.outcome,
        actor = value(&body.actor.to_string()),
        subject = value(&body.subject),
        hash = parcel.record.hash,
    );
    let mut message = head.into_bytes();
    message.extend_from_slice(&parcel.line);
    message
}

/// The severity of a warning (RFC 5424, table 2).
pub(super) const WARNING: u8 = 4;

/// Warnings are what did not go through.
pub(super) const fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Failure | Outcome::Denied | Outcome::Partial => WARNING,
        Outcome::Success => 5,
        Outcome::Observed => 6,
    }
}

/// Printable ASCII without spaces, `-` where nothing is left.
fn name(text: &str, most: usize) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// A parameter's value: quotes, backslashes and brackets escaped (section 6.3.3), no control characters.
fn value(text: &str) -> String {
    let mut value = String::new();
    for c in text.chars().take(VALUE_MAX) {
        match c {
            '"' | '\\' | ']' => value.extend(['\\', c]),
            c if c.is_control() => value.push('\u{fffd}'),
            c => value.push(c),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{self, GENESIS};
    use crate::audit::{Actor, Entry};

    #[test]
    fn a_message_has_its_parts_and_nobody_can_break_out_of_them() {
        let entry = Entry::new(1_700_000_000_250, "request.throttle", Actor::uid(0), "group \"]\n<1>1 x");
        let (line, _) = chain::seal(&entry.ended(Outcome::Denied, "no").placed(1, GENESIS)).unwrap();
        let parcel = Parcel { record: chain::open(&line).unwrap(), line };
        let text = String::from_utf8(message(&parcel, "a host\n", 7)).unwrap();
        let expected = "<108>1 2023-11-14T22:13:20.250000Z ahost process-throttler 7 request.throttle \
                        [processThrottler@32473 seq=\"1\" outcome=\"denied\" actor=\"uid 0\" \
                        subject=\"group \\\"\\]\u{fffd}<1>1 x\" hash=\"";
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains('\n'));
        assert!(text.ends_with(&String::from_utf8(parcel.line).unwrap()));
    }
}
