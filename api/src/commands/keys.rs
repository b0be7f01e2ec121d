//! `gatefold-api keys`.

use anyhow::bail;
use serde_json::{Value, json};

use super::{KeysCommand, output::Output};
use crate::{config::Config, keys::Keys};

/// Runs one of the commands. Needs the key files and nothing else.
pub fn keys(config: &Config, command: &KeysCommand, json: bool) -> anyhow::Result<()> {
    match command {
        KeysCommand::List => list(config, Output::new(json)),
    }
}

/// The keys as a replica would read them now, without anything that must be kept secret.
fn list(config: &Config, output: Output) -> anyhow::Result<()> {
    let keys = match Keys::read(&config.tokens, &config.public_keys) {
        Ok(keys) => keys,
        Err(problems) => bail!("a replica could not use these keys:\n{}", problems.join("\n")),
    };
    let signing = keys.signer.kid();
    let private = json!({ "kind": "private", "path": config.tokens.private_key_path, "kid": signing, "signs": true });
    let public = keys.verifier.keys().iter().map(|key| {
        let signs = key.kid() == signing;
        json!({ "kind": "public", "path": key.path(), "kid": key.kid(), "bits": key.bits(), "signs": signs })
    });
    let refresh = keys.refresh.keys().iter().enumerate().map(|(index, key)| {
        json!({ "kind": "refresh", "path": key.path, "fingerprint": key.fingerprint(), "signs": index == 0 })
    });
    let rows: Vec<Value> = [private].into_iter().chain(public).chain(refresh).collect();
    output.table(&["kind", "path", "kid", "fingerprint", "bits", "signs"], rows);
    Ok(())
}
