//! Whose certificates are believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onefold_core::Clock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// The authorities whose certificates are believed.
#[derive(Debug, Clone)]
pub struct Trust {
    machine: bool,
    roots: Vec<CertificateDer<'static>>,
}

/// A file of authorities that cannot be used.
#[derive(Debug, Error)]
pub enum InvalidCaFile {
    /// Not there, or not PEM.
    #[error("the authorities in {file} cannot be read: {why}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the reader said.
        why: String,
    },
    /// No certificate in it.
    #[error("{file} holds no certificate: it must be PEM with `BEGIN CERTIFICATE`")]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// A certificate in it cannot be an authority's.
    #[error("a certificate in {file} is no authority's: {why}")]
    NoAuthority {
        /// The file.
        file: PathBuf,
        /// What the library said.
        why: String,
    },
}

impl Trust {
    /// Those the machine trusts.
    pub fn machine() -> Trust {
        Trust { machine: true, roots: Vec::new() }
    }

    /// Nobody, until a file is added: for closed networks and tests.
    pub fn nobody() -> Trust {
        Trust { machine: false, roots: Vec::new() }
    }

    /// Also those in a PEM file: `--ca-file`.
    ///
    /// # Errors
    /// [`InvalidCaFile`], naming the file.
    pub fn with_ca_file(mut self, file: &Path) -> Result<Trust, InvalidCaFile> {
        let unreadable = |error: rustls::pki_types::pem::Error| InvalidCaFile::Unreadable {
            file: file.to_owned(),
            why: error.to_string(),
        };
        let mut checked = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
            let certificate = certificate.map_err(unreadable)?;
            checked.add(certificate.clone()).map_err(|error| InvalidCaFile::NoAuthority {
                file: file.to_owned(),
                why: error.to_string(),
            })?;
            self.roots.push(certificate);
        }
        if checked.is_empty() { Err(InvalidCaFile::Empty { file: file.to_owned() }) } else { Ok(self) }
    }

    /// What TLS connections are made with; the sentence says why there can be none. Certificates are looked at by `clock`.
    pub(crate) fn client_config(self, clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if self.machine {
            let verifier =
                rustls_platform_verifier::Verifier::new_with_extra_roots(self.roots, Arc::clone(&provider));
            Arc::new(verifier.map_err(|error| error.to_string())?)
        } else {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(self.roots);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            verifier.build().map_err(|error| error.to_string())?
        };
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(ByClock(clock)))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

struct ByClock(Arc<dyn Clock>);

impl TimeProvider for ByClock {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.0.now().as_unix_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

impl std::fmt::Debug for ByClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByClock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_authorities_is_refused_by_name() {
        let missing = Trust::machine().with_ca_file(Path::new("/no/such/file.pem")).unwrap_err();
        assert!(matches!(missing, InvalidCaFile::Unreadable { .. }));
        let empty =
            Trust::machine().with_ca_file(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")));
        assert!(matches!(empty, Err(InvalidCaFile::Empty { .. })), "{empty:?}");
    }
}
