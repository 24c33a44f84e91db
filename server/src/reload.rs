//! SIGHUP: the file of settings is read again, tokens, certificate and key are, and what others know of attackers is loaded anew.
//!
//! **Invariant:** a file that cannot be used leaves everything as it is; what cannot change while juno runs stays, and the log says so.

use std::fmt;
use std::sync::Arc;

use juno_sql::{OperationSettings, Session, Shown};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;

use crate::access::Access;
use crate::config::is_reloadable;
use crate::http;

type Read = dyn Fn() -> Result<OperationSettings, String> + Send + Sync;

/// How settings are read again.
#[derive(Clone)]
pub struct Reload(Arc<Read>);

impl Reload {
    /// By this function, which gives all settings or says what is wrong.
    pub fn new(read: impl Fn() -> Result<OperationSettings, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Does so at each signal, for ever; then `wake` is told.
    pub(crate) async fn at_each(self, mut signals: Signal, session: Session, access: Arc<Access>, wake: Arc<Notify>) {
        while signals.recv().await.is_some() {
            self.apply(&session).await;
            let_in(&session, &access).await;
            wake.notify_one();
        }
    }

    /// Reads settings again and lets them take effect.
    async fn apply(&self, session: &Session) {
        let read = Arc::clone(&self.0);
        let new = tokio::task::spawn_blocking(move || read()).await.unwrap_or_else(|error| Err(error.to_string()));
        let new = match new {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(error, "the settings cannot be read again: all stay as they are");
                return;
            }
        };
        let before = session.operation_settings();
        let difference = Difference::of(&before.shown, &new.shown);
        for name in &difference.fixed {
            tracing::warn!(setting = name, "this setting changes when juno is started again, and not while it runs");
        }
        // Guard rails are those that juno was started with.
        let rules = before.rules.clone();
        session.set_operations(OperationSettings { shown: difference.shown, rules, ..new }, http::problem::document);
        for (setting, old, value) in &difference.changed {
            tracing::info!(setting, old, value, "a setting was changed");
        }
        if !difference.changed.is_empty()
            && let Err(error) = session.audit_settings(&difference.changed).await
        {
            tracing::warn!(%error, "the change of settings is not in the audit");
        }
        tracing::info!(changed = difference.changed.len(), "the settings were read again");
    }
}

/// Reads tokens, certificate and key again. Who is connected stays connected.
async fn let_in(session: &Session, access: &Arc<Access>) {
    if !access.has_files() {
        return;
    }
    let (again, has_users) = (Arc::clone(access), !session.accounts().is_empty());
    let read = tokio::task::spawn_blocking(move || again.read_again(has_users)).await;
    match read.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => tracing::info!("tokens, certificate and key were read again"),
        Err(error) => tracing::warn!(error, "tokens, certificate and key cannot be read again: all stay as they are"),
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// What another reading of settings says that the one before did not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    /// Name, old and new value of what takes effect.
    changed: Vec<(String, String, String)>,
    /// What must wait for another start.
    fixed: Vec<String>,
    /// All settings as they are in force.
    shown: Vec<Shown>,
}

impl Difference {
    fn of(before: &[Shown], after: &[Shown]) -> Self {
        let mut difference = Self::default();
        for new in after {
            let old = before.iter().find(|old| old.name == new.name).unwrap_or(new);
            let in_force = if is_reloadable(&new.name) { new } else { old };
            difference.shown.push(in_force.clone());
            match (old.value == new.value, is_reloadable(&new.name)) {
                (true, _) => {}
                (false, true) => difference.changed.push((new.name.clone(), old.value.clone(), new.value.clone())),
                (false, false) => difference.fixed.push(new.name.clone()),
            }
        }
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, value: &str, source: &str) -> Shown {
        Shown { name: name.into(), value: value.into(), source: source.into() }
    }

    #[test]
    fn what_can_change_changes_and_what_cannot_stays_and_is_named() {
        let before =
            [shown("phase", "4", "default"), shown("http-addr", "a", "default"), shown("log", "info", "default")];
        let after = [shown("phase", "3", "file"), shown("http-addr", "b", "file"), shown("log", "info", "file")];
        let found = Difference::of(&before, &after);
        assert_eq!(found.changed, [("phase".to_owned(), "4".to_owned(), "3".to_owned())]);
        assert_eq!(found.fixed, ["http-addr"]);
        let values: Vec<&str> = found.shown.iter().map(|one| one.value.as_str()).collect();
        assert_eq!((values, found.shown[0].source.as_str()), (vec!["3", "a", "info"], "file"));
        assert!(Difference::of(&after, &after).changed.is_empty());
    }
}
