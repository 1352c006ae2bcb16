//! Why a receiver's certificate was refused, for people. Only reads errors: what is trusted is the TLS library's to
//! decide.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// What is wrong with the certificate, if that is what an attempt failed for and there are words for it.
pub(super) fn refusal(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return words(why);
        }
        // An I/O error that wraps another one names that one's cause as its own, and not that one.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign list of errors that grows; its own words will do"
)]
fn words(why: &CertificateError) -> Option<&'static str> {
    match why {
        CertificateError::UnknownIssuer => {
            Some("no authority that is trusted has issued it; ca_file names others to trust")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some("it has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("it is not valid yet; is the clock right?")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some("it is for another name than the one in the URL")
        }
        CertificateError::Revoked => Some("it was revoked"),
        // The library's own words will do.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_below_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("post")]
        struct Post(#[source] io::Error);
        let post = |why| Post(io::Error::other(io::Error::other(rustls::Error::InvalidCertificate(why))));
        assert_eq!(refusal(&post(CertificateError::Expired)), Some("it has expired"));
        let unknown = refusal(&post(CertificateError::UnknownIssuer));
        assert!(unknown.is_some_and(|text| text.contains("ca_file")), "{unknown:?}");
        assert_eq!(refusal(&post(CertificateError::BadEncoding)), None);
        assert_eq!(refusal(&Post(io::Error::other("expired"))), None);
    }
}
