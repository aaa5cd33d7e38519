//! The listener's own TLS (`DD_SERVER_TLS_*`), for installations without a proxy in front.

use std::{path::Path, sync::Arc};

use anyhow::{Context, ensure};
use plimsoll_runtime::settings::Settings;
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// What the listener shows, read once at start. `None`: it speaks plain HTTP.
///
/// # Errors
/// Files that cannot be read, or that do not belong together; the text names them.
pub fn listener(settings: &Settings) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let tls = &settings.server.tls;
    let (true, Some(certificate), Some(key)) = (tls.enabled, &tls.cert, &tls.key) else {
        return Ok(None);
    };
    let chain = chain(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{} holds no PEM key", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("{certificate} and {key} are not a certificate and its key")
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// For asking the listener on this machine: it must show the certificate that is configured here,
/// whatever name that has and whoever signed it.
///
/// # Errors
/// As [`listener`].
pub fn probe(settings: &Settings) -> anyhow::Result<Option<Arc<ClientConfig>>> {
    let tls = &settings.server.tls;
    let (true, Some(certificate)) = (tls.enabled, &tls.cert) else {
        return Ok(None);
    };
    let own = chain(certificate)?.swap_remove(0);
    let provider = provider();
    let verifier = Own {
        certificate: own,
        provider: provider.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let what = || format!("{} holds no PEM certificates", path.display());
    let chain = CertificateDer::pem_file_iter(path)
        .with_context(what)?
        .collect::<Result<Vec<_>, _>>()
        .with_context(what)?;
    ensure!(!chain.is_empty(), what());
    Ok(chain)
}

/// Accepts one certificate, and checks that the other side has its key.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *shown == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::General(
                "the listener shows another certificate than the configured one".to_owned(),
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
