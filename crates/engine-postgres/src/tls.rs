//! TLS to the server: whom to believe that it is the server, and the connector.

use std::path::PathBuf;

use tokio_postgres::config::SslMode;

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Nobody's: no TLS.
    Nobody,
    /// Anybody's: what is sent is hidden from who listens, not from who stands in between.
    Anybody,
    /// What an authority of this file issued, whoever it was issued for.
    IssuedBy(PathBuf),
    /// What an authority of this file issued for the host's name.
    NamedBy(PathBuf),
    /// What an authority this machine trusts issued for the host's name.
    Machine,
}

/// How TLS is spoken.
#[derive(Clone)]
pub struct Tls {
    #[cfg(feature = "tls")]
    pub(crate) client: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// As little as a server's `ssl_mode` asks for: nobody is asked for more than a certificate.
    pub(crate) fn anybody(server: &tokio_postgres::Config) -> Tls {
        let trust = match server.get_ssl_mode() {
            SslMode::Disable => Trust::Nobody,
            _ => Trust::Anybody,
        };
        // Without TLS where it is required, connecting fails.
        Tls::new(&trust).unwrap_or_else(|_| Tls::none())
    }
}

#[cfg(not(feature = "tls"))]
impl Tls {
    fn none() -> Tls {
        Tls {}
    }

    pub(crate) fn new(trust: &Trust) -> Result<Tls, crate::OpenError> {
        match trust {
            Trust::Nobody | Trust::Anybody => Ok(Tls {}),
            Trust::IssuedBy(_) | Trust::NamedBy(_) | Trust::Machine => {
                Err(crate::OpenError::Tls("this program was built without TLS".to_owned()))
            }
        }
    }
}

#[cfg(feature = "tls")]
pub(crate) use with_rustls::{Connector, is_about_tls};

#[cfg(feature = "tls")]
mod with_rustls {
    use std::future::Future;
    use std::io;
    use std::path::Path;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
    use rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    };
    use sha2::{Digest, Sha256, Sha384, Sha512};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

    use super::{Tls, Trust};
    use crate::OpenError;

    impl Tls {
        pub(super) fn none() -> Tls {
            Tls { client: None }
        }

        pub(crate) fn new(trust: &Trust) -> Result<Tls, OpenError> {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier: Arc<dyn ServerCertVerifier> = match trust {
                Trust::Nobody => return Ok(Tls::none()),
                Trust::Anybody => Arc::new(Anybody(provider.signature_verification_algorithms)),
                Trust::IssuedBy(file) => Arc::new(Issued(webpki(file, &provider)?)),
                Trust::NamedBy(file) => webpki(file, &provider)?,
                Trust::Machine => {
                    let machine = rustls_platform_verifier::Verifier::new(Arc::clone(&provider));
                    Arc::new(machine.map_err(|error| {
                        unusable(format!("this machine has no certificates of authorities: {error}"))
                    })?)
                }
            };
            let client = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| unusable(error.to_string()))?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            Ok(Tls { client: Some(Arc::new(client)) })
        }
    }

    fn unusable(why: String) -> OpenError {
        OpenError::Tls(why)
    }

    /// Checks certificates by the authorities of a file.
    fn webpki(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, OpenError> {
        let cannot = |why: String| unusable(format!("the authorities in {} {why}", file.display()));
        let mut roots = RootCertStore::empty();
        let read = CertificateDer::pem_file_iter(file)
            .map_err(|error| cannot(format!("cannot be read: {error}")))?;
        for certificate in read {
            let certificate = certificate.map_err(|error| cannot(format!("cannot be read: {error}")))?;
            roots.add(certificate).map_err(|error| cannot(format!("are none: {error}")))?;
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        verifier.map_err(|error| cannot(format!("are of no use: {error}")))
    }

    /// Whether it is TLS that did not come about.
    pub(crate) fn is_about_tls(error: &(dyn std::error::Error + 'static)) -> bool {
        if error.is::<Error>() {
            return true;
        }
        // What an `io::Error` was made of is not among its sources.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match inside {
            Some(inside) => is_about_tls(inside),
            None => error.source().is_some_and(is_about_tls),
        }
    }

    /// Believes whoever holds the key of the certificate that was shown.
    #[derive(Debug)]
    struct Anybody(WebPkiSupportedAlgorithms);

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_schemes()
        }
    }

    /// Believes what an authority issued, for whatever name.
    #[derive(Debug)]
    struct Issued(Arc<WebPkiServerVerifier>);

    impl ServerCertVerifier for Issued {
        fn verify_server_cert(
            &self,
            certificate: &CertificateDer<'_>,
            between: &[CertificateDer<'_>],
            name: &ServerName<'_>,
            ocsp: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            match self.0.verify_server_cert(certificate, between, name, ocsp, now) {
                // The name is looked at last: everything else is well.
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                verified => verified,
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls12_signature(message, certificate, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls13_signature(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    }

    /// Speaks TLS for tokio-postgres.
    #[derive(Clone)]
    pub(crate) struct Connector(pub(crate) Arc<ClientConfig>);

    /// The same to one host.
    pub(crate) struct ToHost {
        client: tokio_rustls::TlsConnector,
        host: ServerName<'static>,
    }

    /// A connection.
    pub(crate) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

    impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Connector {
        type Stream = Stream<S>;
        type TlsConnect = ToHost;
        type Error = InvalidDnsNameError;

        fn make_tls_connect(&mut self, host: &str) -> Result<ToHost, InvalidDnsNameError> {
            Ok(ToHost { client: Arc::clone(&self.0).into(), host: ServerName::try_from(host)?.to_owned() })
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ToHost {
        type Stream = Stream<S>;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

        fn connect(self, stream: S) -> Self::Future {
            Box::pin(async move { self.client.connect(self.host, stream).await.map(Stream) })
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
        fn channel_binding(&self) -> ChannelBinding {
            let certificates = self.0.get_ref().1.peer_certificates();
            match certificates.and_then(<[_]>::first).and_then(|certificate| end_point(certificate)) {
                Some(hash) => ChannelBinding::tls_server_end_point(hash),
                None => ChannelBinding::none(),
            }
        }
    }

    /// `tls-server-end-point` of RFC 5929: the certificate, hashed as its signature hashes, with SHA-256 for what is
    /// weaker. `None` if its signature names no hash.
    pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
        let (whole, _) = element(certificate)?;
        let (_, after_body) = element(whole)?;
        let (algorithm, _) = element(after_body)?;
        let (identifier, _) = element(algorithm)?;
        let hash = match identifier {
            // PKCS #1: MD5, SHA-1 and SHA-256; ECDSA: SHA-1 and SHA-256.
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11]
            | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]
            | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => Sha256::digest(certificate).to_vec(),
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => {
                Sha384::digest(certificate).to_vec()
            }
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => {
                Sha512::digest(certificate).to_vec()
            }
            _ => return None,
        };
        Some(hash)
    }

    /// The content of the first DER element, and what follows it.
    fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
        let (_tag, rest) = der.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(*first) {
            short @ 0..0x80 => (short, rest),
            long => {
                let (bytes, rest) =
                    rest.split_at_checked(long - 0x80).filter(|(bytes, _)| bytes.len() <= 4)?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
        };
        rest.split_at_checked(length)
    }
}
