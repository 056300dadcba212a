//! Keys that sign deliveries: the file they are in, watched for changes, and making new ones.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use onefold_core::Entropy;
use onefold_delivery::{KeyRing, SigningKey};
use onefold_runtime::SystemEntropy;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::output::Output;

/// Between two looks at the file.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Largest file that is read: far more than keys need.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Permission bits of users who are neither the owner nor of the group.
const OTHERS: u32 = 0o007;

/// Why the file of signing keys cannot be used.
#[derive(Debug, Error)]
pub(crate) enum BadKeyFile {
    #[error("the signing keys in {} cannot be read: {source}", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{} is open to every user of this machine: take that away with `chmod o= {}`", .file.display(), .file.display())]
    OpenToAll { file: PathBuf },
    #[error("{} is too large for a file of signing keys", .file.display())]
    TooLarge { file: PathBuf },
    #[error("{} {source}", .file.display())]
    Invalid { file: PathBuf, source: onefold_delivery::InvalidKeyFile },
}

/// The keys of `serve`, which follow their file: a key is changed without a restart.
pub(crate) fn keys(file: Option<&Path>) -> Result<watch::Receiver<KeyRing>, BadKeyFile> {
    let Some(file) = file else { return Ok(watch::channel(KeyRing::default()).1) };
    let (text, keys) = read(file)?;
    tracing::info!(file = %file.display(), keys = keys.count(), "deliveries are signed");
    let (tell, told) = watch::channel(keys);
    tokio::spawn(follow(file.to_owned(), text, tell));
    Ok(told)
}

/// Looks now and then whether the file has changed. One that cannot be used changes nothing.
async fn follow(file: PathBuf, mut text: String, tell: watch::Sender<KeyRing>) {
    let mut last_fault = String::new();
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        if tell.is_closed() {
            return;
        }
        let looked = file.clone();
        let Ok(looked) = tokio::task::spawn_blocking(move || read(&looked)).await else { return };
        match looked {
            Ok((now, keys)) => {
                last_fault.clear();
                if now != text {
                    text = now;
                    tracing::info!(file = %file.display(), keys = keys.count(), "the signing keys have changed");
                    tell.send_replace(keys);
                }
            }
            Err(fault) => {
                let fault = fault.to_string();
                if fault != last_fault {
                    tracing::error!("{fault}; deliveries are signed with the keys that were there before");
                    last_fault = fault;
                }
            }
        }
    }
}

fn read(file: &Path) -> Result<(String, KeyRing), BadKeyFile> {
    let unreadable = |source| BadKeyFile::Unreadable { file: file.to_owned(), source };
    let found = std::fs::metadata(file).map_err(unreadable)?;
    if found.permissions().mode() & OTHERS != 0 {
        return Err(BadKeyFile::OpenToAll { file: file.to_owned() });
    }
    if found.len() > FILE_BYTES_MAX {
        return Err(BadKeyFile::TooLarge { file: file.to_owned() });
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let keys =
        KeyRing::parse(&text).map_err(|source| BadKeyFile::Invalid { file: file.to_owned(), source })?;
    Ok((text, keys))
}

/// `onefold signing-key`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SigningKeyArgs {
    /// A pair of an ed25519 key, of which receivers get the public half, instead of a secret they share
    #[arg(long)]
    ed25519: bool,
}

#[derive(Serialize)]
struct NewKey {
    signing_key: String,
    verifying_key: String,
}

pub(crate) fn signing_key(args: SigningKeyArgs, output: Output) -> Result<(), Failure> {
    let bytes: [u64; 4] = std::array::from_fn(|_| SystemEntropy.next_u64());
    let secret: Vec<u8> = bytes.iter().flat_map(|word| word.to_le_bytes()).collect();
    let text =
        if args.ed25519 { SigningKey::ed25519_text(&secret) } else { SigningKey::shared_text(&secret) };
    let key: SigningKey = text.parse().map_err(Failure::failed)?;
    let public = key.verifying_key().public_text();
    if output.json {
        let verifying_key = public.unwrap_or_else(|| text.clone());
        return output.json(&NewKey { signing_key: text, verifying_key });
    }
    if let Some(public) = public {
        output.line(format!("# receivers verify with {public}"))?;
    }
    output.line(text)
}
