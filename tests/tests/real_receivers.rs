//! Test deliveries to programs that are not ours: a server that checks GitHub's signature, and nginx with certificates
//! of all kinds and answers of all kinds. And names that come to stand for other machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary::unpacked;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{Output, run, run_in_mount_namespace};
use integration_tests::places::Places;
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::tool::{Tool, free_ports};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};

/// Another key of the right form.
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Sends a test event to the one endpoint, which is described by these keys.
fn test(places: &Places, keys: &Value) -> Result<Output> {
    let mut endpoint = json!({ "name": "ops", "allow_networks": ["127.0.0.0/8"], "timeout": "5s" });
    let (all, more) = (endpoint.as_object_mut(), keys.as_object());
    all.context("an object")?.extend(more.context("an object")?.clone());
    places.write_webhooks(&[endpoint])?;
    run(places, &["webhook", "test", "ops"])
}

/// The test event is refused, and this is what is said of it.
fn refused(places: &Places, keys: &Value, why: &str) -> Result<()> {
    let output = test(places, keys)?.expect(1)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(said.contains(why), "{keys}: no {why:?} in {said}");
    Ok(())
}

#[test]
fn a_server_that_checks_the_hub_signature_takes_ours_and_no_other() -> Result<()> {
    let places = Places::new()?;
    let [port] = free_ports()?;
    let (hooks, ran) = (places.root().join("hooks.json"), places.root().join("ran"));
    let rule = json!({ "match": {
        "type": "payload-hmac-sha256",
        "secret": SECRET,
        "parameter": { "source": "header", "name": "X-Hub-Signature-256" },
    } });
    let hook = json!([{
        "id": "ours",
        "execute-command": "/usr/bin/touch",
        "pass-arguments-to-command": [{ "source": "string", "name": ran }],
        "trigger-rule": rule,
        "trigger-rule-mismatch-http-response-code": 403,
    }]);
    fs::write(&hooks, hook.to_string()).context("write its configuration")?;
    let mut command = Command::new(unpacked("webhook", "usr/bin/webhook")?);
    command.args(["-verbose", "-ip", "127.0.0.1", "-port", &port.to_string(), "-hooks"]).arg(&hooks);
    let server = Tool::start(command, port, &places.root().join("webhook.log"))?;
    let (right, wrong) = (places.write_secret("right", SECRET)?, places.write_secret("wrong", OTHER)?);
    let url = format!("http://127.0.0.1:{port}/hooks/ours");
    let endpoint = |key: &Path| json!({ "url": url, "hub_signature": true, "secret_file": key });

    refused(&places, &endpoint(&wrong), "the receiver answered")?;
    ensure!(server.printed().contains("invalid payload signature"), "{}", server.printed());
    refused(&places, &json!({ "url": url, "secret_file": right }), "403").context("without the header")?;
    ensure!(!ran.exists(), "it ran the hook for a wrong signature");
    let output = test(&places, &endpoint(&right))?;
    output.expect(0).with_context(|| server.printed())?;
    wait_until("it runs the hook", SOON, || Ok(ran.exists()))
}

/// A certificate and its key, as files.
fn write_pair(dir: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    fs::write(dir.join(format!("{name}.pem")), certificate).context("write a certificate")?;
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).context("write a key")
}

/// An authority of our own.
fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

/// nginx with TLS, one port per certificate: a good one, one for another name, one that has expired, one that another
/// authority has issued.
struct Nginx {
    _server: Tool,
    ports: [u16; 4],
    ca: PathBuf,
}

const CERTIFICATES: [&str; 4] = ["good", "other", "expired", "foreign"];

impl Nginx {
    /// What comes to `/hook` is handed on to the receiver.
    fn start(dir: &Path, receiver: &Receiver) -> Result<Self> {
        let (ca, issuer) = authority("pt-test authority")?;
        let (_, stranger) = authority("pt-test stranger")?;
        fs::write(dir.join("ca.pem"), ca).context("write the authority's certificate")?;
        for name in CERTIFICATES {
            let host = if name == "other" { "other.test" } else { "localhost" };
            let mut params = CertificateParams::new(vec![host.to_owned()])?;
            if name == "expired" {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
            }
            let key = KeyPair::generate()?;
            let issuer = if name == "foreign" { &stranger } else { &issuer };
            write_pair(dir, name, &params.signed_by(&key, issuer)?.pem(), &key)?;
        }
        let ports = free_ports()?;
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths: String = paths.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
        let servers: String =
            CERTIFICATES.iter().zip(ports).map(|(name, port)| server(name, port, receiver)).collect();
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{servers}}}\n"
        );
        fs::write(dir.join("nginx.conf"), config).context("write its configuration")?;
        let mut command = Command::new(unpacked("nginx", "usr/sbin/nginx")?);
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(dir);
        let server = Tool::start(command, ports[0], &dir.join("nginx.log"))?;
        Ok(Self { _server: server, ports, ca: dir.join("ca.pem") })
    }

    /// The endpoint behind a certificate.
    fn endpoint(&self, certificate: usize, path: &str) -> Value {
        let url = format!("https://localhost:{}/{path}", self.ports[certificate]);
        json!({ "url": url, "ca_file": self.ca })
    }
}

fn server(name: &str, port: u16, receiver: &Receiver) -> String {
    format!(
        "server {{
           listen 127.0.0.1:{port} ssl;
           ssl_certificate {name}.pem;
           ssl_certificate_key {name}.key;
           location = /hook {{ proxy_pass {}; }}
           location = /301 {{ return 301 http://127.0.0.1:1/; }}
           location = /400 {{ return 400; }}
           location = /410 {{ return 410; }}
           location = /429 {{ return 429; }}
           location = /500 {{ return 500; }}
           location = /closed {{ return 444; }}
         }}\n",
        receiver.url()
    )
}

#[test]
fn nginx_takes_deliveries_over_tls_and_only_with_the_right_certificate() -> Result<()> {
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    let nginx = Nginx::start(places.root(), &receiver)?;
    let key = places.write_secret("key", SECRET)?;
    let mut good = nginx.endpoint(0, "hook");
    good["secret_file"] = json!(key);
    test(&places, &good)?.expect(0)?;
    let arrived = receiver.requests();
    ensure!(arrived.len() == 1, "{arrived:?}");
    arrived[0].verify(SECRET)?;

    refused(&places, &nginx.endpoint(1, "hook"), "it is for another name than the one in the URL")?;
    refused(&places, &nginx.endpoint(2, "hook"), "it has expired")?;
    let foreign = "no authority that is trusted has issued it; ca_file names others to trust";
    refused(&places, &nginx.endpoint(3, "hook"), foreign)?;
    // The system's authorities have not issued any of them.
    let mut unnamed = nginx.endpoint(0, "hook");
    unnamed.as_object_mut().context("an object")?.remove("ca_file");
    refused(&places, &unnamed, foreign)?;
    // Whoever speaks no TLS where it is expected.
    let clear = format!("http://127.0.0.1:{}/hook", nginx.ports[0]);
    refused(&places, &json!({ "url": clear }), "400")?;
    ensure!(receiver.requests().len() == 1, "one that was refused arrived");
    Ok(())
}

#[test]
fn what_nginx_answers_is_told() -> Result<()> {
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    let nginx = Nginx::start(places.root(), &receiver)?;
    for status in ["301", "400", "410", "429", "500"] {
        refused(&places, &nginx.endpoint(0, status), status)?;
    }
    refused(&places, &nginx.endpoint(0, "closed"), "post: ")?;
    // What nginx says when what is behind it is gone.
    drop(receiver);
    refused(&places, &nginx.endpoint(0, "hook"), "502")
}

#[test]
fn a_name_that_comes_to_stand_for_another_machine_is_refused() -> Result<()> {
    const NAME: &str = "receiver.test";
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    let hosts = places.root().join("hosts");
    places.write_webhooks(&[json!({
        "name": "ops",
        "url": format!("http://{NAME}:{}/hook", receiver.port()),
        "allow_http": true,
        "allow_networks": ["127.0.0.1/32"],
    })])?;
    let hosts_text = hosts.to_str().context("a path of text")?;
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\" webhook test ops";
    for (address, why) in [
        ("127.0.0.1", None),
        ("127.0.0.2", Some("127.0.0.2 is a loopback address")),
        ("10.0.0.1", Some("10.0.0.1 is a private address")),
        ("169.254.169.254", Some("169.254.169.254 is")),
    ] {
        fs::write(&hosts, format!("{address} {NAME}\n")).context("write the name's address")?;
        let output = run_in_mount_namespace(&places, script, &[hosts_text])?;
        let said = format!("{}{}", output.stdout, output.stderr);
        match why {
            None => ensure!(output.code == 0, "{address}: {said}"),
            Some(why) => ensure!(output.code == 1 && said.contains(why), "{address}: {said}"),
        }
    }
    ensure!(receiver.requests().len() == 1, "it was posted elsewhere");
    Ok(())
}
