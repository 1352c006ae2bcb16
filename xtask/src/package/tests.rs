//! Both packages, made from the debug build and looked at with the distributions' tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary;

use super::{Effort, Kind, Parcel, stage};

fn parcel() -> Result<Parcel> {
    Parcel::new(&binary::agent()?, Effort::Least)
}

/// What a program prints, when it succeeds.
fn told(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").output();
    let output = output.with_context(|| format!("start {program}: run `cargo xtask setup`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?} ended with {}\n{text}{errors}", output.status);
    Ok(text)
}

/// What rpm says of a package, without a look at the host's database.
fn asked(dir: &Path, arguments: &[&str]) -> Result<String> {
    told("rpm", &[&["--dbpath", text(&dir.join("db"))?], arguments].concat())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// Fails when the shell cannot parse a script.
fn parses(dir: &Path, script: &str) -> Result<()> {
    let path = dir.join("script");
    fs::write(&path, script)?;
    told("sh", &["-n", text(&path)?]).map(drop)
}

#[test]
fn the_debian_package_is_clean_and_the_same_each_time() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let package = parcel()?.deb(&dir.path().join("a"))?;
    let again = parcel()?.deb(&dir.path().join("b"))?;
    ensure!(fs::read(&package)? == fs::read(&again)?, "two builds differ");
    let package = text(&package)?;
    told("lintian", &["--allow-root", "--fail-on", "warning", package])?;

    let list = told("dpkg-deb", &["--contents", package])?;
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().context("a mode")?, words.next().context("an owner")?);
        let program = line.ends_with(" ./usr/bin/process-throttler") || mode.starts_with('d');
        ensure!(
            owner == "root/root" && mode.ends_with(if program { "rwxr-xr-x" } else { "rw-r--r--" }),
            "{line}"
        );
    }
    let fields = told("dpkg-deb", &["--field", package, "Version", "Architecture", "Depends"])?;
    let version = format!("Version: {}\n", env!("CARGO_PKG_VERSION"));
    ensure!(
        fields.contains(&version) && fields.contains("amd64") && fields.contains("libc6 (>="),
        "{fields}"
    );
    let older = parcel()?.with_version("0.0.1").deb(dir.path())?;
    ensure!(told("dpkg-deb", &["--field", text(&older)?, "Version"])? == "0.0.1\n", "{}", older.display());

    let control = dir.path().join("control");
    told("dpkg-deb", &["--control", package, text(&control)?])?;
    ensure!(
        fs::read_to_string(control.join("conffiles"))? == "/etc/process-throttler/config.yaml\n",
        "conffiles"
    );
    for script in ["postinst", "prerm", "postrm"] {
        parses(dir.path(), &fs::read_to_string(control.join(script))?)?;
    }
    Ok(())
}

#[test]
fn the_rpm_installs_what_the_debian_package_does_and_is_the_same_each_time() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let package = parcel()?.rpm(&dir.path().join("a"))?;
    let again = parcel()?.rpm(&dir.path().join("b"))?;
    ensure!(fs::read(&package)? == fs::read(&again)?, "two builds differ");
    let package = text(&package)?;
    asked(dir.path(), &["--checksig", "--nosignature", package])?;
    let configuration = asked(dir.path(), &["--query", "--package", "--configfiles", package])?;
    ensure!(configuration == "/etc/process-throttler/config.yaml\n", "{configuration}");
    for (event, script) in [("post", "POSTIN"), ("preun", "PREUN"), ("postun", "POSTUN")] {
        let query = format!("--queryformat=%{{{script}}}");
        let script = asked(dir.path(), &["--query", "--package", &query, package])?;
        ensure!(script.contains("systemctl"), "{event}: {script}");
        parses(dir.path(), &script)?;
    }

    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    // The scripts need a shell, which an empty root does not have.
    told(
        "rpm",
        &[
            "--root",
            text(&root)?,
            "--dbpath",
            "/var/lib/rpm",
            "--install",
            "--nodeps",
            "--noscripts",
            package,
        ],
    )?;
    let program = root.join("usr/bin/process-throttler");
    let version = told(text(&program)?, &["version"])?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    // Beside it is only rpm's own database.
    let installed: BTreeSet<_> =
        stage::files(&root)?.into_iter().filter(|path| !path.starts_with("var")).collect();

    let scratch = dir.path().join("deb");
    stage::stage(&scratch, Kind::Deb, &binary::agent()?)?;
    let expected = stage::files(&stage::tree(&scratch))?.into_iter().map(|path| {
        let place = text(&path)?.replace("zsh/vendor-completions", "zsh/site-functions");
        Ok(place.into())
    });
    let mut expected: BTreeSet<std::path::PathBuf> = expected.collect::<Result<_>>()?;
    // Debian has copies of its own.
    for licence in ["LICENSE-MIT", "LICENSE-APACHE", "LICENSE-GPL2"] {
        expected.insert(Path::new("usr/share/licenses/process-throttler").join(licence));
    }
    let differences: Vec<_> = installed.symmetric_difference(&expected).collect();
    ensure!(differences.is_empty(), "{differences:?}");
    Ok(())
}

#[test]
fn a_program_that_is_not_there_is_told() -> Result<()> {
    let Err(error) = Parcel::new(Path::new("/nonexistent/process-throttler"), Effort::Least) else {
        anyhow::bail!("there is a parcel of nothing");
    };
    ensure!(error.to_string() == "find /nonexistent/process-throttler", "{error:#}");
    Ok(())
}
