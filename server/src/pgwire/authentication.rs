//! Who a client is: SCRAM-SHA-256 as PostgreSQL speaks it (RFC 5802, RFC 7677), against the stored verifier.
//!
//! Where no users are set up, everybody on this machine is trusted and nobody else is let in. Where `JUNO_AUTH` is off, nobody is
//! asked, and this is not reached.
//!
//! **Invariant:** no message tells whether a user exists; no password is ever seen here.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use juno_sql::{Session, User, Verifier};
use pgwire::messages::startup::Authentication;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::report::Report;
use super::socket::{Socket, Stop};

const MECHANISM: &str = "SCRAM-SHA-256";

/// Finds out who the client is.
pub(super) async fn authenticate(
    socket: &mut Socket,
    root: &Session,
    name: &str,
    peer: IpAddr,
    secret: &[u8],
) -> Result<User, Stop> {
    let accounts = root.accounts();
    if accounts.is_empty() {
        return if peer.is_loopback() {
            Ok(User::trusted(name))
        } else {
            let message = format!("no users are set up, and \"{peer}\" is another machine");
            Err(Stop::Fatal(Report::fatal("28000", message).with_hint("Make a user: juno user add.")))
        };
    }
    let account = accounts.get(name);
    let known = account.and_then(|account| account.verifier.clone());
    let verifier = known.unwrap_or_else(|| Verifier::fake(name, secret));
    let random = root.db().system().random();
    let nonce =
        STANDARD.encode([random.next_u64(), random.next_u64(), random.next_u64()].map(u64::to_be_bytes).concat());
    if !exchange(socket, &verifier, &nonce).await? {
        root.refused_logon(peer, name, "postgresql");
        let message = format!("password authentication failed for user \"{name}\"");
        return Err(Stop::Fatal(Report::fatal("28P01", message)));
    }
    match account {
        Some(account) if account.login => Ok(account.user()),
        _ => Err(Stop::Fatal(Report::fatal("28000", format!("role \"{name}\" is not permitted to log in")))),
    }
}

/// The whole exchange; whether the client knows the password.
async fn exchange(socket: &mut Socket, verifier: &Verifier, nonce: &str) -> Result<bool, Stop> {
    put(socket, Authentication::SASL(vec![MECHANISM.to_owned()]));
    let first = answer(socket).await?;
    let first = initial(&first).ok_or_else(malformed)?;
    let opened = Opened::read(first, verifier, nonce).ok_or_else(malformed)?;
    put(socket, Authentication::SASLContinue(Bytes::from(opened.server_first.clone())));
    let last = answer(socket).await?;
    let last = std::str::from_utf8(&last).map_err(|_| malformed())?;
    let (exchange, proof) = opened.close(last).ok_or_else(malformed)?;
    if !verifier.proves(exchange.as_bytes(), &proof) {
        return Ok(false);
    }
    let signature = STANDARD.encode(verifier.signature(exchange.as_bytes()));
    put(socket, Authentication::SASLFinal(Bytes::from(format!("v={signature}"))));
    Ok(true)
}

fn put(socket: &mut Socket, message: Authentication) {
    socket.put(PgWireBackendMessage::Authentication(message));
}

fn malformed() -> Stop {
    Stop::Fatal(Report::fatal("08P01", "malformed SCRAM message"))
}

/// The bytes of the client's next message, which must be one of the exchange.
async fn answer(socket: &mut Socket) -> Result<Bytes, Stop> {
    socket.flush().await?;
    match socket.message().await?.ok_or(Stop::Gone)?.message {
        PgWireFrontendMessage::PasswordMessageFamily(pgwire::messages::startup::PasswordMessageFamily::Raw(bytes)) => {
            Ok(bytes.freeze())
        }
        PgWireFrontendMessage::Terminate(_) => Err(Stop::Gone),
        _ => Err(Stop::Fatal(Report::fatal("08P01", "expected SASL response"))),
    }
}

/// The client-first message in a SASLInitialResponse: mechanism, length, data.
fn initial(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = (&bytes[..end], &bytes[end + 1..]);
    let length = usize::try_from(i32::from_be_bytes(*rest.first_chunk::<4>()?)).ok()?;
    let data = rest.get(4..).filter(|data| data.len() == length)?;
    if mechanism == MECHANISM.as_bytes() { std::str::from_utf8(data).ok() } else { None }
}

/// An exchange after the client's first message.
struct Opened {
    /// What the client said of channel binding, which its last message must repeat.
    header: String,
    client_first_bare: String,
    nonce: String,
    server_first: String,
}

impl Opened {
    /// Reads `n,,n=,r=<nonce>`. The user's name in it is not looked at: the startup message has it.
    fn read(client_first: &str, verifier: &Verifier, nonce: &str) -> Option<Opened> {
        let mut parts = client_first.splitn(3, ',');
        let (binding, identity, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(binding, "n" | "y") || !identity.is_empty() {
            return None;
        }
        let client_nonce = bare.split(',').nth(1)?.strip_prefix("r=").filter(|nonce| !nonce.is_empty())?;
        bare.strip_prefix("n=")?;
        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        Some(Opened { header: format!("{binding},,"), client_first_bare: bare.to_owned(), nonce, server_first })
    }

    /// Reads `c=<header>,r=<nonce>,p=<proof>`: the messages that are signed, and the proof.
    fn close(self, client_last: &str) -> Option<(String, Vec<u8>)> {
        let (without_proof, proof) = client_last.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let header = STANDARD.decode(parts.next()?.strip_prefix("c=")?).ok()?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        if header != self.header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let exchange = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        Some((exchange, STANDARD.decode(proof).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_must_repeat_its_header_and_its_nonce() {
        let verifier = Verifier::fake("nobody", b"secret");
        let opened = || Opened::read("n,,n=,r=abc", &verifier, "XYZ").unwrap();
        assert!(opened().server_first.starts_with("r=abcXYZ,s="));
        let (exchange, proof) = opened().close("c=biws,r=abcXYZ,p=AAAA").unwrap();
        assert!(exchange.starts_with("n=,r=abc,r=abcXYZ,s=") && exchange.ends_with(",c=biws,r=abcXYZ"));
        assert_eq!(proof, [0, 0, 0]);
        for odd in ["c=eSws,r=abcXYZ,p=AAAA", "c=biws,r=abc,p=AAAA", "c=biws,r=abcXYZ", "c=biws,r=abcXYZ,p=?"] {
            assert!(opened().close(odd).is_none(), "{odd}");
        }
        for odd in ["", "n,,", "p=tls-unique,,n=,r=abc", "n,a=x,n=,r=abc", "n,,n=,r=", "n,,r=abc"] {
            assert!(Opened::read(odd, &verifier, "XYZ").is_none(), "{odd}");
        }
        assert_eq!(initial(b"SCRAM-SHA-256\0\0\0\0\x02ab"), Some("ab"));
        assert_eq!(initial(b"SCRAM-SHA-256\0\0\0\0\x03ab"), None);
        assert_eq!(initial(b"PLAIN\0\0\0\0\x02ab"), None);
    }
}
