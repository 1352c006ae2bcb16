//! Archives made to do harm, archives that broke, and whole ways there and back.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::manifest::hex;
use super::restore::compare;
use super::*;
use crate::config::Dirs;
use crate::effect::fail_point::FailPoints;
use crate::store::{Durability, Store, check};

/// An installation in a temporary directory.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for dir in ["config/config.d", "config/profiles", "state", "log", "run"] {
            fs::create_dir_all(host.at(dir)).unwrap();
        }
        host.write("config/config.yaml", "on_stop: keep\n");
        host.write("config/config.d/10-log.yaml", "log: { level: debug }\n");
        host.write("config/profiles/web.yaml", "name: web\nversion: \"1\"\nthrottling_rules: []\n");
        host.write("log/audit.jsonl", "{\"seq\":1}\n");
        host.write("log/daemon.log", "not part of a backup\n");
        drop(host.store(Durability::Process));
        host.remember("first");
        host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.at(name)).ok()
    }

    fn dirs(&self) -> Dirs {
        Dirs::below(self.0.path())
    }

    fn store(&self, durability: Durability) -> Store {
        let name = if durability == Durability::Process { "state/state.db" } else { "state/journal.db" };
        Store::open(&self.at(name), durability).unwrap().store
    }

    fn remember(&self, text: &str) {
        self.store(Durability::Power).write(|tx| tx.set_meta("test", Some(text))).unwrap();
    }

    fn remembered(&self) -> Option<String> {
        self.store(Durability::Power).read(|tx| tx.meta("test")).unwrap()
    }

    fn back_up(&self, name: &str, recipients: Vec<String>) -> Result<(Entry, Manifest), BackupError> {
        let at = moment("2026-11-27T07:00:00Z");
        let directory = self.at("backups");
        let order = Order { name: named(name), directory, recipients, at, host: "test".to_owned() };
        let draft = Draft::begin(&self.dirs(), order)?;
        for database in Database::ALL {
            check::copy(&self.at("state").join(database.file_name()), &draft.database(database))?;
        }
        draft.finish(&mut |_| {})
    }

    fn restore(&self, archive: &Path, identity: Option<&Path>) -> Result<Restored, BackupError> {
        let archive = Archive::open(archive, identity)?;
        self.restore_at(moment("2026-11-28T07:00:00Z"), archive)
    }

    /// No two at the same moment: what was there before is kept under it.
    fn restore_at(&self, at: jiff::Timestamp, archive: Archive) -> Result<Restored, BackupError> {
        Prepared::new(&self.dirs(), archive, at, &mut |_| {})?.commit(&FailPoints::default())
    }

    /// Every file but those of backups, with its content.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else if !path.to_string_lossy().contains("/backups/") {
                    found.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        walk(self.0.path(), &mut found);
        found.sort();
        found
    }
}

fn moment(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn named(text: &str) -> crate::model::id::Name {
    text.parse().unwrap()
}

fn key() -> (String, String) {
    use age::secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate();
    (identity.to_public().to_string(), identity.to_string().expose_secret().to_owned())
}

#[test]
fn there_and_back() {
    let host = Host::new();
    let (entry, manifest) = host.back_up("one", Vec::new()).unwrap();
    let paths: Vec<String> = manifest.files.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(
        paths,
        [
            "config/config.yaml",
            "config/config.d/10-log.yaml",
            "config/profiles/web.yaml",
            "state/state.db",
            "state/journal.db",
            "log/audit.jsonl"
        ]
    );
    assert_eq!(fs::metadata(&entry.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!host.at("backups/.draft").exists());
    assert!(matches!(host.back_up("one", Vec::new()), Err(BackupError::Exists(_))));

    host.write("config/config.yaml", "on_stop: [\n");
    host.write("config/config.d/20-more.yaml", "source: poll\n");
    fs::remove_file(host.at("config/profiles/web.yaml")).unwrap();
    host.write("log/audit.jsonl", "garbage");
    host.remember("second");
    let manifest = Archive::open(&entry.path, None).unwrap().verify(&mut |_| {}).unwrap();
    let before = host.everything();
    let fates: Vec<Fate> =
        compare(&host.dirs(), &manifest).unwrap().iter().map(|change| change.fate).collect();
    let (replace, create, remove) = (Fate::Replace, Fate::Create, Fate::Remove);
    assert_eq!(fates, [Fate::Unchanged, remove, replace, create, replace, replace, replace]);
    assert_eq!(host.everything(), before, "comparing changes nothing");

    let restored = host.restore(&entry.path, None).unwrap();
    assert_eq!(host.read("config/config.yaml").unwrap(), "on_stop: keep\n");
    assert_eq!(host.read("config/config.d/20-more.yaml"), None);
    assert!(host.read("config/profiles/web.yaml").unwrap().contains("name: web"));
    assert_eq!(host.read("log/audit.jsonl").unwrap(), "{\"seq\":1}\n");
    assert_eq!(host.read("log/daemon.log").unwrap(), "not part of a backup\n");
    assert_eq!(host.remembered().as_deref(), Some("first"));
    assert_eq!(restored.before.len(), 3, "{restored:?}");
    assert_eq!(fs::read_to_string(restored.before[0].join("config.yaml")).unwrap(), "on_stop: [\n");
    for dir in ["config", "state", "log"] {
        assert!(!host.at(dir).join(".restore").exists());
    }
}

#[test]
fn secrets_are_in_encrypted_backups_only() {
    let host = Host::new();
    host.write("config/hook.key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    host.write(
        "config/webhooks.yaml",
        "webhooks:\n  - { name: a, url: \"https://example.org/t0ken\", secret_file: hook.key }\n",
    );
    host.write(
        "config/config.d/30-hook.yaml",
        "webhook: { url: \"https://example.org/t0ken\", secret_file: hook.key }\n",
    );
    let (plain, manifest) = host.back_up("plain", Vec::new()).unwrap();
    let left: Vec<&str> = manifest.left_out.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(left, ["config/webhooks.yaml", "config/config.d/30-hook.yaml", "config/hook.key"]);
    let mut clear = Vec::new();
    let mut unzip = flate2::read::GzDecoder::new(fs::File::open(&plain.path).unwrap());
    std::io::Read::read_to_end(&mut unzip, &mut clear).unwrap();
    for secret in ["t0ken", "whsec_"] {
        assert!(!clear.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }

    let (public, private) = key();
    host.write("identity", &private);
    let (closed, manifest) = host.back_up("closed", vec![public]).unwrap();
    assert!(manifest.encrypted && manifest.left_out.is_empty(), "{manifest:?}");
    assert!(!fs::read(&closed.path).unwrap().windows(5).any(|window| window == b"t0ken"));
    let other = key().1;
    host.write("other", &other);
    for identity in [None, Some(host.at("other")), Some(host.at("config/config.yaml"))] {
        let Err(error) = Archive::open(&closed.path, identity.as_deref()) else {
            panic!("{identity:?} opens it")
        };
        assert!(matches!(error, BackupError::Key(_)), "{error}");
        assert!(!error.to_string().contains(&other) && !error.to_string().contains(&private), "{error}");
    }
    for name in ["webhooks.yaml", "hook.key", "config.d/30-hook.yaml", "config.yaml"] {
        fs::remove_file(host.at("config").join(name)).unwrap();
    }
    host.restore(&closed.path, Some(&host.at("identity"))).unwrap();
    assert!(host.read("config/webhooks.yaml").unwrap().contains("t0ken"));
    assert_eq!(fs::metadata(host.at("config/hook.key")).unwrap().permissions().mode() & 0o777, 0o600);

    // What the plain one left out stays, also in a directory that is replaced as a whole.
    host.write("config/config.d/40.yaml", "source: poll\n");
    let plain = Archive::open(&plain.path, None).unwrap();
    host.restore_at(moment("2026-11-29T07:00:00Z"), plain).unwrap();
    assert!(host.read("config/config.d/30-hook.yaml").unwrap().contains("t0ken"));
    assert_eq!(host.read("config/config.d/40.yaml"), None);
}

#[test]
fn a_private_key_among_the_recipients_is_not_shown() {
    let (host, (_, private)) = (Host::new(), key());
    let error = host.back_up("x", vec![private.clone()]).unwrap_err();
    assert!(matches!(error, BackupError::Key(_)) && !error.to_string().contains(&private), "{error}");
}

#[test]
fn a_configuration_that_is_not_valid_is_not_restored() {
    for (file, text) in [
        ("config/config.yaml", "on_stop: sometimes\n"),
        ("config/config.d/10-log.yaml", "log: [\n"),
        ("config/profiles/web.yaml", "name: other\nthrottling_rules: 1\n"),
    ] {
        let host = Host::new();
        let good = host.read(file).unwrap();
        host.write(file, text);
        let result = host.back_up("bad", Vec::new());
        let (entry, manifest) = result.unwrap();
        if !manifest.left_out.is_empty() {
            // Nobody can tell what a file holds that is not YAML.
            assert_eq!(text, "log: [\n");
            continue;
        }
        host.write(file, &good);
        let before = host.everything();
        assert!(matches!(host.restore(&entry.path, None), Err(BackupError::Invalid(_))), "{file}");
        assert_eq!(host.everything(), before, "{file}");
    }
}

#[test]
fn the_state_stays_while_limits_stand() {
    let host = Host::new();
    let (entry, _) = host.back_up("one", Vec::new()).unwrap();
    let change = crate::store::NewIntent {
        group: "a".parse().ok(),
        place: String::new(),
        kind: crate::store::Kind::File,
        path: "/cg/x/cpu.max".into(),
        inode: 0,
        item: String::new(),
        process: None,
        thread: None,
        prior: b"max 100000".to_vec(),
        new: b"1000 100000".to_vec(),
    };
    let plan = |store: &mut Store| {
        store.write(|tx| {
            tx.plan_intents("b", 1, &crate::model::reason::Reason::Stopping, std::slice::from_ref(&change))
        })
    };
    plan(&mut host.store(Durability::Process)).unwrap();
    let (with, _) = host.back_up("with", Vec::new()).unwrap();
    let restored = host.restore(&entry.path, None).unwrap();
    let state = restored.changes.iter().find(|change| change.path.ends_with("state.db")).unwrap();
    assert_eq!(state.fate, Fate::Keep, "{state:?}");
    let intents =
        |host: &Host| host.store(Durability::Process).read(crate::store::Tables::intents).unwrap().len();
    assert_eq!(intents(&host), 1);
    // Elsewhere nothing is undone that was done there.
    let other = Host::new();
    other.restore(&with.path, None).unwrap();
    assert_eq!(intents(&other), 0);
}

#[test]
fn a_trail_that_has_gone_on_is_not_taken_back() {
    let host = Host::new();
    let (entry, _) = host.back_up("one", Vec::new()).unwrap();
    host.write("log/audit.jsonl", "{\"seq\":1}\n{\"seq\":2}\n");
    host.restore(&entry.path, None).unwrap();
    assert_eq!(host.read("log/audit.jsonl").unwrap(), "{\"seq\":1}\n{\"seq\":2}\n");
}

#[test]
fn a_database_with_tables_that_are_not_ours_is_refused() {
    let host = Host::new();
    let conn = rusqlite::Connection::open(host.at("state/journal.db")).unwrap();
    conn.execute("CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM outbox; END", ()).unwrap();
    drop(conn);
    let (entry, _) = host.back_up("one", Vec::new()).unwrap();
    let error = Host::new().restore(&entry.path, None).unwrap_err();
    assert!(matches!(&error, BackupError::Refused { why, .. } if why.contains("evil")), "{error}");
}

/// An archive of a manifest and entries, each as a header's bytes and a content.
fn archive(dir: &Path, manifest: &Value, entries: &[(Vec<u8>, Vec<u8>)]) -> PathBuf {
    let path = dir.join("hostile.tar.gz");
    let mut zip = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::best());
    let text = serde_json::to_vec(manifest).unwrap();
    let head = tar::encode("", "manifest.json", text.len() as u64, 0o600, 0).unwrap().to_vec();
    for (head, content) in std::iter::once(&(head, text)).chain(entries) {
        zip.write_all(head).unwrap();
        zip.write_all(content).unwrap();
        zip.write_all(&vec![0; tar::padding(content.len() as u64)]).unwrap();
    }
    zip.write_all(&[0; 1024]).unwrap();
    zip.finish().unwrap();
    path
}

fn manifest_of(files: &[(&str, &[u8])]) -> Value {
    let file = |(path, content): &(&str, &[u8])| json!({ "path": path, "size": content.len(), "sha256": hex(&Sha256::digest(content)), "mode": 0o600 });
    json!({
        "format": 1, "version": "1", "name": "x", "created": "2026-11-27T07:00:00Z", "host": "h", "encrypted": false,
        "files": files.iter().map(file).collect::<Vec<_>>(), "left_out": [],
    })
}

fn head(path: &str, size: usize) -> Vec<u8> {
    tar::encode("", path, size as u64, 0o600, 0).unwrap().to_vec()
}

/// Why an archive is refused; nothing is written anywhere.
fn refusal(path: &Path) -> String {
    let host = Host::new();
    let before = host.everything();
    let error = host.restore(path, None).unwrap_err();
    assert_eq!(host.everything(), before, "{error}");
    let BackupError::Refused { why, .. } = error else { panic!("{error}") };
    why
}

#[test]
fn hostile_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let body: &[u8] = b"on_stop: keep\n";
    let good = [("config/config.yaml", body)];
    let entry = |path: &str| (head(path, body.len()), body.to_vec());
    let made =
        |manifest: &Value, entries: &[(Vec<u8>, Vec<u8>)]| refusal(&archive(dir.path(), manifest, entries));

    for path in
        ["../../etc/passwd", "/etc/passwd", "config/../../x", "config/.hidden", "state/evil.db", "log/x", "x"]
    {
        let why = made(&manifest_of(&[(path, body)]), &[entry(path)]);
        assert!(why.contains("manifest is malformed"), "{path}: {why}");
        let why = made(&manifest_of(&good), &[entry(path)]);
        assert!(why.contains("where its manifest has"), "{path}: {why}");
    }
    let twice = [good[0], good[0]];
    assert!(made(&manifest_of(&twice), &[entry(good[0].0), entry(good[0].0)]).contains("twice"));
    assert!(made(&manifest_of(&good), &[entry(good[0].0), entry(good[0].0)]).contains("does not have"));
    assert!(made(&manifest_of(&good), &[]).contains("ends before"));
    assert!(
        made(&manifest_of(&good), &[(head(good[0].0, body.len()), b"on_stop: kill\n".to_vec())])
            .contains("digest")
    );
    let both = [("config/a", body), ("config/a/b", body)];
    assert!(
        made(&manifest_of(&both), &[entry("config/a"), entry("config/a/b")])
            .contains("a file and a directory")
    );
    let mut newer = manifest_of(&good);
    newer["format"] = json!(2);
    assert!(made(&newer, &[entry(good[0].0)]).contains("newer version"));
    let mut secret = manifest_of(&good);
    secret["encrypted"] = json!(true);
    assert!(made(&secret, &[entry(good[0].0)]).contains("not encrypted"));
    let mut huge = manifest_of(&good);
    huge["files"][0]["size"] = json!(2 << 20);
    assert!(made(&huge, &[entry(good[0].0)]).contains("more than"));
    let many: Vec<String> = (0..10_001).map(|i| format!("config/{i}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|path| (path.as_str(), body)).collect();
    assert!(made(&manifest_of(&many), &[]).contains("more than 10000"));
    let mut not_utf8 = head("config/aaaa", body.len());
    not_utf8[9] = 0xff;
    let sum: u32 =
        not_utf8.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { b.into() }).sum();
    not_utf8[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(made(&manifest_of(&good), &[(not_utf8, body.to_vec())]).contains("not UTF-8"));
}

#[test]
fn an_archive_without_a_manifest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar.gz");
    let mut zip = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
    zip.write_all(&head("config/config.yaml", 0)).unwrap();
    zip.write_all(&[0; 1024]).unwrap();
    zip.finish().unwrap();
    assert!(refusal(&path).contains("does not begin with a manifest"));
    for content in [&b""[..], b"no archive at all", b"\x1f\x8b\x08"] {
        fs::write(&path, content).unwrap();
        assert!(!refusal(&path).is_empty());
    }
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(refusal(&path).contains("no regular file"));
}

#[test]
fn a_bomb_is_stopped_early() {
    let dir = tempfile::tempdir().unwrap();
    let zeroes = vec![0_u8; 256 << 20];
    let files: [(&str, &[u8]); 1] = [("log/audit.jsonl", &zeroes)];
    let path =
        archive(dir.path(), &manifest_of(&files), &[(head("log/audit.jsonl", zeroes.len()), zeroes.clone())]);
    assert!(fs::metadata(&path).unwrap().len() < 4 << 20);
    assert!(refusal(&path).contains("unpacks to far more"));
}

fn sound_archive() -> Vec<u8> {
    let host = Host::new();
    fs::read(host.back_up("one", Vec::new()).unwrap().0.path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_archive_is_refused_or_the_same(
        cut in any::<proptest::sample::Index>(),
        flips in prop::collection::vec((any::<proptest::sample::Index>(), 1_u8..), 1..4),
        what in 0..3,
    ) {
        thread_local! {
            static SOUND: Vec<u8> = sound_archive();
        }
        let sound = SOUND.with(Clone::clone);
        let mut bytes = sound.clone();
        match what {
            0 => bytes.truncate(cut.index(sound.len())),
            1 => bytes.push(0),
            _ => for (at, by) in flips {
                bytes[at.index(sound.len())] ^= by;
            },
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        fs::write(&path, &bytes).unwrap();
        let read = |path: &Path| Archive::open(path, None).and_then(|archive| archive.verify(&mut |_| {}));
        let found = read(&path);
        fs::write(&path, &sound).unwrap();
        // Bytes of gzip's own header, such as the time, say nothing about the content.
        match found {
            Ok(manifest) => prop_assert_eq!(manifest, read(&path).unwrap()),
            Err(BackupError::Refused { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
