//! `webhook edit`, and how keys are rotated: the present one becomes the previous one, and both sign.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::change::{Verb, apply, apply_with_secret, not_the_single};
use super::refused;
use super::settings::{self, Options};
use crate::cli::error::{CliResult, usage};
use crate::cli::globals::Context;
use crate::config::webhooks::{Change, Purpose, Setting, WebhookFile, Written};
use crate::model::endpoint::SecretSource;
use crate::model::id::Name;

const AFTER_HELP: &str = "\
A key is rotated in two steps: --rotate-secret-file, or --rotate-secret to make one, signs with the new and the \
present key; when all receivers know the new one, --unset previous-secret ends that.";

/// Arguments of `webhook edit`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Edit {
    /// Its name
    name: Name,
    /// Where events are posted to
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    options: Options,
    /// File with a new key to sign with; the present one goes on signing as well
    #[arg(long, value_name = "FILE", group = "secret")]
    rotate_secret_file: Option<PathBuf>,
    /// Make a new key to sign with; the present one goes on signing as well
    #[arg(long, group = "secret")]
    rotate_secret: bool,
    /// Take a setting out, so that its default holds; may be repeated
    #[arg(long, value_enum, value_name = "SETTING", value_delimiter = ',')]
    unset: Vec<Unset>,
}

/// Settings that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unset {
    Secret,
    PreviousSecret,
    RoutingKey,
    HubSignature,
    Rate,
    AllowNetworks,
    Proxy,
    CaFile,
}

impl Unset {
    fn settings(self) -> Vec<Setting> {
        let keys: &[&'static str] = match self {
            Self::Secret => &Purpose::Secret.keys(),
            Self::PreviousSecret => &Purpose::Previous.keys(),
            Self::RoutingKey => &Purpose::RoutingKey.keys(),
            Self::HubSignature => &["hub_signature"],
            Self::Rate => &["rate"],
            Self::AllowNetworks => &["allow_networks"],
            Self::Proxy => &["proxy"],
            Self::CaFile => &["ca_file"],
        };
        keys.iter().map(|key| Setting { key, value: None }).collect()
    }
}

impl Edit {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self { name, url, options, rotate_secret_file, rotate_secret, unset } = self;
        not_the_single(context, &name)?;
        let mut settings = options.settings()?;
        if let Some(url) = url {
            settings.push(Setting { key: "url", value: Some(Written::Text(url)) });
        }
        settings.extend(unset.iter().flat_map(|unset| unset.settings()));
        let generates = options.generates_secret() || rotate_secret;
        let rotates = rotate_secret || rotate_secret_file.is_some();
        if rotates {
            settings.extend(step_back(context, &name)?);
        }
        if let Some(file) = rotate_secret_file {
            settings.extend(settings::replace(Purpose::Secret, "secret_file", settings::path(&file)?));
        }
        if (options.names_secret() || rotates) && unset.contains(&Unset::Secret) {
            return Err(usage("--unset secret contradicts a new secret").into());
        }
        if settings.is_empty() && !generates {
            return Err(usage("nothing to change was given").into());
        }
        if generates {
            return apply_with_secret(context, &name, Verb::Changed, |secret| {
                settings.extend(secret);
                Change::Edit(settings)
            });
        }
        apply(context, &name, Verb::Changed, &Change::Edit(settings))
    }
}

/// The present key as the previous one; nothing when there is none.
fn step_back(context: &Context, name: &Name) -> CliResult<Vec<Setting>> {
    let endpoints = WebhookFile::new(&context.dirs).list().map_err(refused)?;
    let present = endpoints.iter().find(|endpoint| endpoint.name == *name);
    let (key, text) = match present.and_then(|endpoint| endpoint.secrets.first()) {
        None => return Ok(Vec::new()),
        Some(SecretSource::File(path)) => ("previous_secret_file", settings::path(path)?),
        Some(SecretSource::Credential(name)) => ("previous_secret_credential", Written::Text(name.clone())),
        Some(SecretSource::Age { .. }) => {
            return Err(usage("a key that is encrypted with age is rotated in webhooks.yaml").into());
        }
    };
    Ok(settings::replace(Purpose::Previous, key, text).collect())
}
