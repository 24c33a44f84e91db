//! TLS for both doors: a certificate chain and a key from PEM files, TLS 1.2 and 1.3.
//!
//! **Invariant:** the key is read once and shown nowhere; a handshake that fails ends the connection, never the encryption.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ALL_VERSIONS, ServerConfig};

/// Reads both files.
///
/// # Errors
/// A text that names the file and what is wrong with it.
pub(crate) fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| format!("\"{}\": {error}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(certificates, &error))?;
    if chain.is_empty() {
        return Err(unreadable(certificates, &"there is no certificate in this file"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(ALL_VERSIONS)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| format!("\"{}\" and \"{}\": {error}", certificates.display(), key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
