//! Who is let in without being a user of the database, and how connections are encrypted: what the tokens' file, the certificate
//! and its key say, which are read again while juno runs.
//!
//! **Invariant:** the files are taken all or none: one that cannot be used leaves everything as it is.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio_rustls::TlsAcceptor;

use crate::config::{AccessArgs, Auth};
use crate::http::identity::{self, Tokens};
use crate::serve::Error;
use crate::tls;

/// What the files said when they were last read.
#[derive(Default)]
pub(crate) struct Access {
    files: AccessArgs,
    tokens: RwLock<Arc<Tokens>>,
    tls: RwLock<Option<TlsAcceptor>>,
}

impl Access {
    /// Reads the files of the settings.
    pub(crate) fn read(files: &AccessArgs) -> Result<Arc<Access>, Error> {
        let tokens = read_tokens(files).map_err(of_tokens)?.unwrap_or_default();
        let tls = read_tls(files).map_err(of_tls)?;
        Ok(Arc::new(Access { files: files.clone(), tokens: RwLock::new(Arc::new(tokens)), tls: RwLock::new(tls) }))
    }

    /// Reads them again.
    ///
    /// # Errors
    /// A text that names the file that cannot be used; then all stay as they were.
    pub(crate) fn read_again(&self, has_users: bool) -> Result<(), String> {
        let (tokens, tls) = (read_tokens(&self.files)?, read_tls(&self.files)?);
        if let Some(tokens) = tokens {
            // With neither users nor tokens everybody on this machine is let in, which nobody asks for by emptying a file.
            if tokens.is_empty() && !has_users && !self.tokens().is_empty() {
                return Err("there are no tokens left in the file, and no users: make a user first".to_owned());
            }
            *self.tokens.write() = Arc::new(tokens);
        }
        *self.tls.write() = tls;
        Ok(())
    }

    /// The tokens that let their users in.
    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens.read())
    }

    /// What encrypts the next connection.
    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.read().clone()
    }

    /// Whether everybody on this machine is let in, whoever is set up.
    pub(crate) fn is_off(&self) -> bool {
        self.files.auth == Auth::Off
    }

    /// Whether there is anything to be read again.
    pub(crate) fn has_files(&self) -> bool {
        self.files.auth_tokens_file.is_some() || self.files.tls_cert.is_some()
    }
}

/// The files of the settings that cannot be used.
pub(crate) fn unusable(files: &AccessArgs) -> Vec<Error> {
    let (tokens, tls) = (read_tokens(files).err().map(of_tokens), read_tls(files).err().map(of_tls));
    tokens.into_iter().chain(tls).collect()
}

fn of_tokens(text: String) -> Error {
    Error::Setting { flag: "--auth-tokens-file", variable: "JUNO_AUTH_TOKENS_FILE", text }
}

fn of_tls(text: String) -> Error {
    Error::Setting { flag: "--tls-cert, --tls-key", variable: "JUNO_TLS_CERT, JUNO_TLS_KEY", text }
}

fn read_tokens(files: &AccessArgs) -> Result<Option<Tokens>, String> {
    files.auth_tokens_file.as_deref().map(identity::tokens).transpose()
}

fn read_tls(files: &AccessArgs) -> Result<Option<TlsAcceptor>, String> {
    let (Some(certificates), Some(key)) = (&files.tls_cert, &files.tls_key) else { return Ok(None) };
    tls::acceptor(certificates, key).map(Some)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    const HASH: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls").join(name)
    }

    #[test]
    fn files_are_taken_all_or_none_and_one_without_tokens_opens_no_door() {
        let dir = tempfile::tempdir().unwrap();
        let (tokens, certificate) = (dir.path().join("tokens"), dir.path().join("certificate.pem"));
        let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        let one = format!("grafana viewer {HASH}\n");
        write(&tokens, &one);
        std::fs::copy(fixture("certificate.pem"), &certificate).unwrap();
        let files = AccessArgs {
            tls_cert: Some(certificate.clone()),
            tls_key: Some(fixture("key.pem")),
            auth_tokens_file: Some(tokens.clone()),
            ..AccessArgs::default()
        };
        let access = Access::read(&files).unwrap();
        let names = || access.tokens().values().map(|user| user.name.clone()).collect::<Vec<_>>();
        assert!(access.has_files() && access.tls().is_some() && !access.is_off());
        write(&tokens, &one.replace("grafana", "prometheus"));
        write(&certificate, "none");
        let refused = access.read_again(true).unwrap_err();
        assert!(refused.contains("certificate.pem"), "{refused}");
        assert_eq!(names(), ["grafana"], "the other file is as it was, too");
        std::fs::copy(fixture("certificate.pem"), &certificate).unwrap();
        access.read_again(true).unwrap();
        assert_eq!(names(), ["prometheus"]);
        write(&tokens, "prometheus boss\n");
        assert!(access.read_again(true).unwrap_err().contains("line 1"));
        write(&tokens, "# nobody\n");
        assert!(access.read_again(false).unwrap_err().contains("no users"));
        assert_eq!(names(), ["prometheus"]);
        access.read_again(true).unwrap();
        assert!(names().is_empty(), "users are there to be let in");
    }
}
