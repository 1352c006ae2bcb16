//! Keys of all kinds: the published example, files that must not be used, change and rotation.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use age::secrecy::ExposeSecret as _;
use ring::signature::{ED25519, KeyPair as _, UnparsedPublicKey};
use tempfile::TempDir;

use super::*;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_cHJvY2Vzcy10aHJvdHRsZXItdGVzdC1zZWNyZXQhIQ==";

fn private(dir: &TempDir, name: &str, text: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The example of the Standard Webhooks specification's reference libraries.
#[test]
fn signs_the_published_example() {
    let secret = Secret::parse(KEY).unwrap();
    let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
}

#[test]
fn an_asymmetric_key_signs_what_its_public_half_verifies() {
    let seed = [7u8; 32];
    let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_owned();
    let whole = [seed.as_slice(), &public].concat();
    for key in [seed.as_slice(), &whole] {
        let secret = Secret::parse(&format!("whsk_{}", STANDARD.encode(key))).unwrap();
        let signature = secret.sign("msg_1", 12, b"body").unwrap();
        let signature = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        UnparsedPublicKey::new(&ED25519, &public).verify(b"msg_1.12.body", &signature).unwrap();
    }
    let mismatched = [seed.as_slice(), &[1; 32]].concat();
    assert!(Secret::parse(&format!("whsk_{}", STANDARD.encode(mismatched))).is_none());
}

#[test]
fn refuses_what_is_no_secret_and_prints_none() {
    let secret = Secret::parse(&format!("{KEY}\n")).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    for bad in [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_c2hvcnQ=",
        "whsec_!!!",
        "whsk_",
        "whsk_AAAA",
        "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ] {
        assert!(Secret::parse(bad).is_none(), "{bad:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = private(&dir, "a", b"whsec_not-a-key-but-a-secret");
    let error = read(&SecretSource::File(path)).unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(!told.contains("not-a-key"), "{told}");
    let mut ring = KeyRing::new(vec![SecretSource::File(private(&dir, "b", KEY.as_bytes()))]);
    ring.sign("a", 1, b"").unwrap();
    assert!(!format!("{ring:?}").contains("MfKQ"));
}

#[test]
fn what_others_may_have_seen_or_made_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = private(&dir, "open", KEY.as_bytes());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
    let told = read(&SecretSource::File(open)).unwrap_err().to_string();
    assert!(told.contains("0640") && told.contains("chmod 0600"), "{told}");
    if rustix::process::geteuid().is_root() {
        let foreign = private(&dir, "foreign", KEY.as_bytes());
        std::os::unix::fs::chown(&foreign, Some(65_534), None).unwrap();
        let told = read(&SecretSource::File(foreign)).unwrap_err().to_string();
        assert!(told.contains("uid 65534"), "{told}");
    }
    let huge = private(&dir, "huge", &vec![b'a'; 70_000]);
    for bad in [huge, dir.path().to_owned(), PathBuf::from("/dev/null"), dir.path().join("absent")] {
        assert!(read(&SecretSource::File(bad.clone())).is_err(), "{bad:?}");
    }
    for name in ["../x", "", "."] {
        assert!(read(&SecretSource::Credential(name.to_owned())).is_err(), "{name:?}");
    }
}

#[test]
fn two_keys_sign_during_a_rotation_and_a_changed_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (private(&dir, "1", KEY.as_bytes()), private(&dir, "2", OTHER.as_bytes()));
    let sources = vec![SecretSource::File(first.clone()), SecretSource::File(second)];
    let mut ring = KeyRing::new(sources);
    let sign = |key: &str| Secret::parse(key).unwrap().sign("m", 3, b"x").unwrap();
    assert_eq!(ring.sign("m", 3, b"x").unwrap(), Some(format!("{} {}", sign(KEY), sign(OTHER))));
    // As an editor or a secrets daemon does it: a new file in the old one's place.
    fs::rename(private(&dir, "new", OTHER.as_bytes()), &first).unwrap();
    assert_eq!(ring.sign("m", 3, b"x").unwrap(), Some(format!("{0} {0}", sign(OTHER))));
    fs::remove_file(&first).unwrap();
    assert!(ring.sign("m", 3, b"x").is_err(), "not signed with the other one alone");
    assert_eq!(KeyRing::new(Vec::new()).sign("m", 3, b"x").unwrap(), None);
}

/// RFC 4231, test case 2 has a key and data in plain text.
#[test]
fn the_hub_signature_is_of_the_secret_as_it_is_written() {
    let tag = mac(b"Jefe", &[b"what do ya want ", b"for nothing?"]).unwrap();
    assert_eq!(tag[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    let dir = tempfile::tempdir().unwrap();
    let path = private(&dir, "a", format!("{KEY}\n").as_bytes());
    let signature = KeyRing::new(vec![SecretSource::File(path)]).hub_signature(b"{}").unwrap().unwrap();
    // By Python's hmac.
    assert_eq!(signature, "sha256=6cbbcdf2c8016ca85b50543b19e8e121ef16137967bdfa3ce660972922bafaeb");
}

#[test]
fn an_encrypted_key_is_decrypted_with_its_identity_only() {
    let dir = tempfile::tempdir().unwrap();
    let identity = age::x25519::Identity::generate();
    let text = format!("# created: now\n{}\n", identity.to_string().expose_secret());
    let key_file = private(&dir, "identity", text.as_bytes());
    let encrypt = |armored: bool| {
        let recipient = identity.to_public();
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        let mut bytes = Vec::new();
        let format = if armored { age::armor::Format::AsciiArmor } else { age::armor::Format::Binary };
        let output = age::armor::ArmoredWriter::wrap_output(&mut bytes, format).unwrap();
        let mut writer = encryptor.wrap_output(output).unwrap();
        writer.write_all(KEY.as_bytes()).unwrap();
        writer.finish().and_then(age::armor::ArmoredWriter::finish).unwrap();
        bytes
    };
    for armored in [false, true] {
        let file = dir.path().join("key.age");
        fs::write(&file, encrypt(armored)).unwrap();
        let source =
            |identity: &Path| SecretSource::Age { file: file.clone(), identity: identity.to_owned() };
        assert_eq!(read(&source(&key_file)).unwrap().text, KEY);
        let stranger = age::x25519::Identity::generate();
        let wrong = private(&dir, "wrong", stranger.to_string().expose_secret().as_bytes());
        let told = read(&source(&wrong)).unwrap_err().to_string();
        assert!(told.contains("No matching keys") && !told.contains("AGE-SECRET-KEY"), "{told}");
        let garbage = private(&dir, "garbage", b"AGE-SECRET-KEY-1NOTAKEY");
        let told = read(&source(&garbage)).unwrap_err().to_string();
        assert!(!told.contains("NOTAKEY"), "{told}");
    }
}
