//! DNS tunnelling: one client that carries data in the names below one domain (ATT&CK T1071.004, DNS).
//!
//! **Formula.** For each client, registered domain and window (default an hour), with q queries of u different names below
//! the domain, the name being what stands before the registered domain: the mean length L and the mean entropy H of a name in bits per character, five scores of 0 to 1:
//! entropy (H − 2.5) / 1.5, length (L − 10) / 30, uniqueness u / q, rate log₁₀(u per hour / 10) / 2, and the share of queries
//! for TXT, NULL, CNAME, MX, KEY, SRV or PRIVATE records where types are known; the score is their mean. The information that went out is about I = u·L·H / 8
//! bytes. The p-value is the share of clients, domains and windows so far that carried as much (see `ranks`).
//!
//! **Rules.** Queries without client are passed over, and so are names of one label, addresses turned round (arpa) and names without
//! anything before the domain count as no name. Fewer than `names_min` names tell nothing. Equal queries count as queries, not as names. Of up to 256
//! names the count is exact (see `distinct`). 262,144 pairs of a window are told apart, further ones are passed over.
//! The registered domain is the last two labels, or the last three where the last has two letters and the one before is a usual second
//! level (co, com, net, org, gov, edu, ac, …): a list of public suffixes is not consulted.
//!
//! **Source.** Born and Gustafson, *Detecting DNS Tunnels Using Character Frequency Analysis*, 2010; Paxson et al., *Practical
//! Comprehensive Bounds on Surreptitious Communication over DNS*, USENIX Security 2013 (information); RITA (different names below a domain).
//!
//! **Invariant:** a window is told once, when it is over.

use std::collections::BTreeMap;

use super::distinct::Distinct;
use super::kept::Kept;
use super::ranks::Ranks;
use super::{Behaviour, ENTITIES_MAX, UNKNOWN, positive, window_of};
use crate::Result;

/// Pairs of client and domain in a window.
const PAIRS_MAX: usize = 1 << 18;
/// Record types that carry data.
const CARRIERS: [&str; 14] =
    ["TXT", "16", "NULL", "10", "CNAME", "5", "MX", "15", "KEY", "25", "SRV", "33", "PRIVATE", "65399"];
/// What stands before a country's two letters.
const SECOND_LEVELS: [&str; 14] =
    ["co", "com", "net", "org", "gov", "gob", "edu", "ac", "or", "ne", "go", "ltd", "plc", "mil"];

/// A query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query {
    /// Seconds since 1970.
    pub time: f64,
    /// Who asked.
    pub client: u32,
    /// The registered domain.
    pub domain: u32,
    /// What stands before it; none where nothing does.
    pub name: Option<Name>,
    /// Whether the type of the record can carry data, where it is known.
    pub carrier: Option<bool>,
}

/// A name below a domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Name {
    hash: u64,
    /// Characters without dots.
    length: f32,
    /// Bits a character.
    entropy: f32,
}

impl Name {
    /// Measures a name; none for one without characters. Case does not matter.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (mut counts, mut hash, mut length) = ([0u32; 256], 0xcbf2_9ce4_8422_2325_u64, 0.0f64);
        for byte in text.bytes().map(|byte| byte.to_ascii_lowercase()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            if byte != b'.' {
                counts[usize::from(byte)] += 1;
                length += 1.0;
            }
        }
        let bits = |count: &u32| {
            let share = f64::from(*count) / length;
            if *count == 0 { 0.0 } else { -share * share.log2() }
        };
        let entropy: f64 = counts.iter().map(bits).sum();
        (length > 0.0).then_some(Self { hash, length: length as f32, entropy: entropy as f32 })
    }
}

/// Cuts a queried name into what stands before the registered domain, and that domain; none where there is no such domain.
#[must_use]
pub fn split(query: &str) -> Option<(&str, &str)> {
    let query = query.trim_end_matches('.');
    let mut dots = query.rmatch_indices('.').map(|(at, _)| at);
    let (last, second) = (dots.next()?, dots.next());
    let (top, below) = (&query[last + 1..], &query[second.map_or(0, |at| at + 1)..last]);
    if top.eq_ignore_ascii_case("arpa") || top.is_empty() || top.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let country = top.len() == 2 && SECOND_LEVELS.iter().any(|level| below.eq_ignore_ascii_case(level));
    let cut = match (country, second) {
        (false, cut) => cut,
        (true, None) => return None,
        (true, Some(_)) => dots.next(),
    };
    Some(cut.map_or(("", query), |at| (&query[..at], &query[at + 1..])))
}

/// Whether a record type, by name or number, can carry data.
#[must_use]
pub fn is_carrier(record_type: &str) -> bool {
    CARRIERS.iter().any(|carrier| record_type.trim().eq_ignore_ascii_case(carrier))
}

/// What counts as a tunnel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Length of a window in seconds.
    pub window_s: f64,
    /// The fewest different names that are told.
    pub names_min: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self { window_s: 3_600.0, names_min: 10 }
    }
}

/// A window in which a client told a domain much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tunnel {
    /// Who asked.
    pub client: u32,
    /// Below which domain.
    pub domain: u32,
    /// The first and the last query.
    pub span: (f64, f64),
    /// Queries.
    pub queries: u32,
    /// Different names.
    pub names: f64,
    /// Mean length of a name.
    pub length: f64,
    /// Mean entropy of a name in bits per character.
    pub entropy: f64,
    /// The share of queries whose type can carry data; NaN where no type is known.
    pub carriers: f64,
    /// Different clients of the domain so far.
    pub clients: f64,
    /// Bytes that the names carried, about.
    pub information: f64,
    /// The share of pairs and windows so far that carried as much.
    pub p_value: f64,
    /// 0 to 1.
    pub score: f64,
}

#[derive(Clone, Debug)]
struct Open {
    span: (f64, f64),
    queries: u32,
    names: Distinct,
    /// Names whose length and bits were added.
    measured: f64,
    length: f64,
    bits: f64,
    typed: f64,
    carriers: f64,
}

/// Told from a stream of queries.
#[derive(Clone, Debug)]
pub struct DnsTunnelling {
    params: Params,
    open: BTreeMap<(u32, u32), Open>,
    clients: Kept<u32, Distinct>,
    window: i64,
    now: f64,
    information: Ranks,
    found: Vec<Tunnel>,
}

impl DnsTunnelling {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`].
    pub fn new(params: Params) -> Result<Self> {
        positive("the window of DNS tunnelling", params.window_s)?;
        let (window, now, clients) = (i64::MIN, f64::NEG_INFINITY, Kept::new(ENTITIES_MAX));
        Ok(Self { params, open: BTreeMap::new(), clients, window, now, information: Ranks::new(), found: Vec::new() })
    }

    fn close(&mut self) {
        let closed = std::mem::take(&mut self.open);
        let mut information = Vec::with_capacity(closed.len());
        for ((client, domain), open) in closed {
            let tunnel = self.judge(client, domain, &open);
            information.push(tunnel.information);
            if tunnel.names >= f64::from(self.params.names_min.max(1)) {
                self.found.push(tunnel);
            }
        }
        information.into_iter().for_each(|bytes| self.information.learn(bytes));
    }

    fn judge(&self, client: u32, domain: u32, open: &Open) -> Tunnel {
        let names = open.names.count();
        let (length, entropy) = match open.measured > 0.0 {
            true => (open.length / open.measured, open.bits / open.length),
            false => (0.0, 0.0),
        };
        let carriers = open.carriers / open.typed;
        let information = names * length * entropy / 8.0;
        let hourly = names * 3_600.0 / self.params.window_s;
        let scores = [
            (entropy - 2.5) / 1.5,
            (length - 10.0) / 30.0,
            names / f64::from(open.queries.max(1)),
            (hourly / 10.0).max(1.0).log10() / 2.0,
            carriers,
        ];
        let known = scores.iter().filter(|score| !score.is_nan());
        let (sum, count) = known.fold((0.0, 0.0), |(sum, count), score| (sum + score.clamp(0.0, 1.0), count + 1.0));
        Tunnel {
            client,
            domain,
            span: open.span,
            queries: open.queries,
            names,
            length,
            entropy,
            carriers,
            clients: self.clients.get(&domain).map_or(0.0, Distinct::count),
            information,
            p_value: self.information.p_value(information),
            score: sum / count,
        }
    }
}

impl Behaviour for DnsTunnelling {
    type Event = Query;
    type Finding = Tunnel;

    fn time(event: &Query) -> f64 {
        event.time
    }

    fn push(&mut self, event: &Query) {
        self.now = self.now.max(event.time);
        let (now, key) = (self.now, (event.client, event.domain));
        if event.client == UNKNOWN || event.domain == UNKNOWN {
            return;
        }
        let window = window_of(now, self.params.window_s);
        if window != self.window {
            self.close();
            self.window = window;
        }
        if self.open.len() >= PAIRS_MAX && !self.open.contains_key(&key) {
            return;
        }
        self.clients.make_room(&event.domain);
        self.clients.at(event.domain, now, Distinct::default).add(u64::from(event.client));
        let open = self.open.entry(key).or_insert_with(|| Open::new(now));
        open.span.1 = now;
        open.queries = open.queries.saturating_add(1);
        if let Some(carrier) = event.carrier {
            open.typed += 1.0;
            open.carriers += f64::from(u8::from(carrier));
        }
        if let Some(name) = event.name
            && open.names.add(name.hash)
        {
            open.measured += 1.0;
            open.length += f64::from(name.length);
            open.bits += f64::from(name.length) * f64::from(name.entropy);
        }
    }

    fn finish(&mut self) {
        self.close();
    }

    fn take(&mut self) -> Vec<Tunnel> {
        std::mem::take(&mut self.found)
    }
}

impl Open {
    fn new(from: f64) -> Self {
        Self {
            span: (from, from),
            queries: 0,
            names: Distinct::default(),
            measured: 0.0,
            length: 0.0,
            bits: 0.0,
            typed: 0.0,
            carriers: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviours::run;
    use crate::behaviours::traffic::Traffic;
    use crate::{Device, Error};

    const HOUR: f64 = 3_600.0;

    fn found(events: &[Query]) -> Vec<Tunnel> {
        run(&Device::cpu(), DnsTunnelling::new(Params::default()).unwrap(), events).unwrap()
    }

    fn query(time: f64, client: u32, domain: u32, name: &str, carrier: bool) -> Query {
        Query { time, client, domain, name: Name::new(name), carrier: Some(carrier) }
    }

    fn random(traffic: &mut Traffic, alphabet: &[u8], length: u32) -> String {
        (0..length).map(|_| char::from(alphabet[traffic.below(alphabet.len() as u32) as usize])).collect()
    }

    /// A hundred clients that browse 500 domains, of which every tenth is a network of many hosts with hexadecimal names.
    fn browsing(seed: u64, hours: u32) -> Vec<Query> {
        let words = ["www", "mail", "cdn", "static", "api", "img-3", "login", "edge", "fonts", "assets-2"];
        let mut traffic = Traffic::new(seed);
        let mut events = Vec::new();
        for hour in 0..hours {
            for client in 0..100 {
                for _ in 0..traffic.poisson(20.0) {
                    let domain = traffic.popular(500);
                    let name = match domain % 10 {
                        3 => format!("{}.cdn", random(&mut traffic, b"0123456789abcdef", 12)),
                        _ => words[traffic.below(10) as usize].to_owned(),
                    };
                    events.push(query(
                        HOUR * (f64::from(hour) + traffic.unit()),
                        client,
                        domain,
                        &name,
                        traffic.unit() < 0.02,
                    ));
                }
            }
        }
        events
    }

    #[test]
    fn a_tunnel_stands_out_from_browsing() {
        let ordinary = browsing(1, 48);
        let told = found(&ordinary);
        assert!(told.len() <= 2, "{} told of 48 hours of 100 clients", told.len());
        let mut events = ordinary;
        let mut traffic = Traffic::new(9);
        for i in 0..600 {
            let name = random(&mut traffic, b"abcdefghijklmnopqrstuvwxyz234567", 52);
            events.push(query(HOUR * 40.0 + 5.0 * f64::from(i), 7, 900, &name, true));
        }
        let told = found(&events);
        let tunnel = told.iter().max_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
        assert_eq!((tunnel.client, tunnel.domain, tunnel.queries, tunnel.clients), (7, 900, 600, 1.0));
        assert!(tunnel.score > 0.9 && tunnel.p_value < 1e-4, "{tunnel:?}");
        assert!((tunnel.information / (600.0 * 52.0 * 4.3 / 8.0) - 1.0).abs() < 0.2, "{tunnel:?}");
    }

    #[test]
    fn names_are_cut_at_the_registered_domain() {
        for (query, cut) in [
            ("a.b.example.com.", Some(("a.b", "example.com"))),
            ("www.shop.co.uk", Some(("www", "shop.co.uk"))),
            ("shop.co.uk", Some(("", "shop.co.uk"))),
            ("co.uk", None),
            ("example.com", Some(("", "example.com"))),
            ("t.co", Some(("", "t.co"))),
            ("localhost", None),
            ("4.3.2.1.in-addr.arpa", None),
            ("10.0.0.1", None),
            ("", None),
            ("..", None),
        ] {
            assert_eq!(split(query), cut, "{query}");
        }
        assert!(is_carrier("txt") && is_carrier("16") && !is_carrier("A"));
    }

    #[test]
    fn names_are_measured_without_regard_to_case() {
        assert_eq!(Name::new("AbC"), Name::new("aBc"));
        let name = Name::new("ab.ab").unwrap();
        assert_eq!((name.length, name.entropy), (4.0, 1.0));
        assert_eq!((Name::new(""), Name::new("...")), (None, None));
        assert_eq!(Name::new("www").unwrap().entropy, 0.0);
    }

    #[test]
    fn order_repeats_and_missing_values_have_rules() {
        let mut events: Vec<_> = (0..20).map(|i| query(f64::from(i), 1, 1, &format!("host{i}"), false)).collect();
        events.extend_from_within(..);
        let told = found(&events);
        assert_eq!((told.len(), told[0].queries, told[0].names, told[0].span), (1, 40, 20.0, (0.0, 19.0)));
        events.reverse();
        events.push(Query { time: f64::NAN, ..events[0] });
        events.push(Query { client: UNKNOWN, ..events[0] });
        assert_eq!(found(&events), told);
        events.iter_mut().for_each(|event| event.carrier = None);
        let told = found(&events);
        assert!(told[0].carriers.is_nan() && told[0].score > 0.0);
        events.iter_mut().for_each(|event| event.name = None);
        assert!(found(&events).is_empty());
        let wrong = Params { window_s: 0.0, ..Params::default() };
        assert!(matches!(DnsTunnelling::new(wrong), Err(Error::Parameter(_))));
    }
}
