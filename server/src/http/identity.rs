//! Who an HTTP request comes from: `Authorization: Basic` with a user's name and password, or `Bearer` with a token.
//!
//! Tokens stand in the file of `JUNO_AUTH_TOKENS_FILE`, one a line: name, role, and the token's SHA-256 in hex. Where neither users
//! nor tokens are set up, or `JUNO_AUTH` is off, everybody on this machine is trusted and nobody else is let in. Probes are answered
//! without.
//!
//! Who is blocked in response to a threat is refused on every request.
//!
//! **Invariant:** no password and no token is kept or logged; a password that was right is remembered as a hash, for a while.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use juno_sql::{Account, Role, Session, User};
use ring::digest::{SHA256, digest};

use super::Gate;
use super::listener::Peer;
use super::problem::Problem;

/// Paths that are answered to everybody.
const OPEN: [&str; 6] = ["/healthz", "/readyz", "/startupz", "/problems/", "/openapi.json", "/docs"];
/// Passwords that are remembered to be right.
const REMEMBERED_MAX: usize = 1_000;
/// The most password checks at a time: each costs a few milliseconds of a core.
pub(super) const CHECKS_MAX: usize = 2;

tokio::task_local! {
    static USER: User;
}

/// The user of the request that is being handled. Outside of one it is juno itself.
pub(crate) fn user() -> User {
    USER.try_with(Clone::clone).unwrap_or_else(|_| User::trusted("juno"))
}

/// Refuses a request whose user may not write rows.
pub(crate) fn writer() -> Result<(), Problem> {
    user().needs(Role::Operator, "writing rows").map_err(Problem::from)
}

/// A token's user by the token's hash.
pub(crate) type Tokens = HashMap<[u8; 32], User>;

/// Reads the tokens' file.
///
/// # Errors
/// A text that names the file, the line and what is wrong with it.
pub(crate) fn tokens(path: &Path) -> Result<Tokens, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("\"{}\": {error}", path.display()))?;
    let mut tokens = Tokens::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let odd = || {
            let wanted = "write NAME ROLE and the token's SHA-256 in 64 hexadecimal digits";
            format!("\"{}\", line {}: {wanted}", path.display(), number + 1)
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, role, hash] = words.as_slice() else { return Err(odd()) };
        let role: Role = role.parse().map_err(|_| odd())?;
        tokens.insert(unhex(hash).ok_or_else(odd)?, User { name: (*name).to_owned(), role: Some(role) });
    }
    Ok(tokens)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest(&SHA256, &parts.concat()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Passwords that were right: the account that they were right for, by the hash of name and password.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<[u8; 32], Account>>);

impl Remembered {
    fn is_right(&self, hash: &[u8; 32], account: &Account) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hash).is_some_and(|right| right == account)
    }

    fn remember(&self, hash: [u8; 32], account: &Account) {
        let mut right = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= REMEMBERED_MAX {
            right.clear();
        }
        right.insert(hash, account.clone());
    }
}

/// The middleware: finds the user, and runs the rest of the request as that user.
pub(super) async fn identify(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN.iter().any(|open| path == *open || open.ends_with('/') && path.starts_with(open)) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.0);
    let Ok(doors) = gate.doors() else { return next.run(request).await };
    let address = peer.map(|peer| peer.ip());
    if let Some(why) = doors.session.refused_at_door(address, None) {
        return Problem::new("blocked", why).into_response();
    }
    match identity(&gate, &doors.session, request.headers(), peer).await {
        Ok(user) => match doors.session.refused_at_door(None, Some(&user.name)) {
            Some(why) => Problem::new("blocked", why).into_response(),
            None => {
                doors.session.seen_at_door(&user, address);
                run_as(user, next.run(request)).await
            }
        },
        Err(problem) => {
            if let Some((address, name)) = address.zip(tried(request.headers())) {
                doors.session.refused_logon(address, &name, "http");
            }
            let mut response = problem.into_response();
            let wanted = HeaderValue::from_static("Basic realm=\"juno\", charset=\"UTF-8\", Bearer realm=\"juno\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, wanted);
            response
        }
    }
}

fn run_as<T>(user: User, work: impl Future<Output = T>) -> impl Future<Output = T> {
    USER.scope(user, work)
}

async fn identity(
    gate: &Gate,
    session: &Session,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
) -> Result<User, Problem> {
    // A connection of which no address is known is one of the tests.
    let is_here = peer.is_none_or(|peer| peer.ip().is_loopback());
    if is_here && gate.access.is_off() {
        return Ok(User::trusted("juno"));
    }
    let (accounts, tokens) = (session.accounts(), gate.access.tokens());
    if accounts.is_empty() && tokens.is_empty() {
        return if is_here {
            Ok(User::trusted("juno"))
        } else {
            Err(refused(
                "no users are set up, and the request comes from another machine: make a user with juno user add",
            ))
        };
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.ok_or_else(|| refused("this server wants Authorization: Basic or Bearer"))?;
    let (scheme, value) = given.split_once(' ').unwrap_or((given, ""));
    let wrong = || refused("the name, password or token is wrong");
    if scheme.eq_ignore_ascii_case("bearer") {
        let user = tokens.get(&sha256(&[value.trim().as_bytes()]));
        return user.cloned().ok_or_else(wrong);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refused("this server wants Authorization: Basic or Bearer"));
    }
    let decoded = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(wrong)?;
    let (name, password) = decoded.split_once(':').ok_or_else(wrong)?;
    let account = accounts.get(name).filter(|account| account.login).ok_or_else(wrong)?;
    let verifier = account.verifier.clone().ok_or_else(wrong)?;
    let hash = sha256(&[name.as_bytes(), b":", password.as_bytes()]);
    if gate.remembered.is_right(&hash, account) {
        return Ok(account.user());
    }
    let _turn = gate.checks.acquire().await.expect("the semaphore is never closed");
    let password = password.to_owned();
    let fits = tokio::task::spawn_blocking(move || verifier.fits(&password)).await;
    if !fits.unwrap_or(false) {
        return Err(wrong());
    }
    gate.remembered.remember(hash, account);
    Ok(account.user())
}

/// The name that a request tried to log on by; none where it did not try. Tokens have none.
fn tried(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let basic = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let decoded = basic.and_then(|(_, value)| STANDARD.decode(value.trim()).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    Some(text.and_then(|text| Some(text.split_once(':')?.0.to_owned())).unwrap_or_else(|| "token".to_owned()))
}

fn refused(detail: &str) -> Problem {
    Problem::new("unauthorized", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_file_names_the_line_that_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let hash = sha256(&[b"open sesame"]).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        std::fs::write(&path, format!("# who\n\ngrafana viewer {hash}\n")).unwrap();
        let read = tokens(&path).unwrap();
        assert_eq!(read[&sha256(&[b"open sesame"])], User { name: "grafana".into(), role: Some(Role::Viewer) });
        for odd in ["x viewer 12", "x boss {hash}", "x viewer"] {
            std::fs::write(&path, odd.replace("{hash}", &hash)).unwrap();
            assert!(tokens(&path).unwrap_err().contains("line 1"), "{odd}");
        }
    }
}
