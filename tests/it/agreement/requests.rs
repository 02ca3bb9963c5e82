//! Random requests: spellings of paths, hosts, methods, users, forged headers, gRPC.

use super::world::Caller;

#[derive(Debug)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    /// Without `host`.
    given: Vec<(&'static str, String)>,
    host: &'static str,
}

const SEGMENTS: [&str; 20] = [
    "api",
    "v1.0",
    "shop",
    "best",
    "old",
    "pay",
    "pay",
    "batch",
    "upi.v1.Pay",
    "..",
    ".",
    "%2e%2E",
    "",
    "health",
    "b%6Cst",
    "x\\y",
    "p%61y",
    "orders",
    "payments",
    "clock",
];

impl Request {
    pub fn random(random: &mut fastrand::Rng, caller: &Caller) -> Self {
        let mut pick = |from: &[&'static str]| from[random.usize(..from.len())];
        let method = pick(&["GET", "GET", "POST", "PUT", "DELETE"]);
        let host = match caller.is_gateway {
            true => pick(&[
                "x.in",
                "x.in",
                "www.x.in",
                "ADMIN.x.in:80",
                "b.a.x.in",
                "y.in",
            ]),
            false => pick(&[
                "order-service",
                "payment-service:80",
                "stock-service",
                "Order-Service",
                "nobody",
            ]),
        };
        let count = pick(&["1", "1", "2", "3", "0"]).parse().unwrap_or(1);
        let path: String = (0..count)
            .map(|_| format!("/{}", pick(&SEGMENTS)))
            .collect();
        let path = format!(
            "/{}{}",
            path.trim_start_matches('/'),
            pick(&["", "", "?a=/b", "?x=/../y"])
        );
        let mut given: Vec<(&'static str, String)> = Vec::new();
        if random.u8(0..10) > 0 {
            given.push(("x-user-id", format!("user-{}", random.u32(..5_000))));
        }
        for (name, values, percent) in [
            ("x-beta", &["1", "2"][..], 30),
            (
                "content-type",
                &[
                    "application/grpc",
                    "application/grpc+proto",
                    "application/grpc-web",
                ],
                15,
            ),
            ("x-initiated-by", &["system", "person"], 20),
            ("x-tin", &["1", "0"], 20),
            ("x-mumbai-canary", &["v2", "stable", "v9"], 15),
            ("x-mumbai-version", &["v2", "stable"], 10),
            ("x-mumbai-class", &["gold", "bronze"], 10),
        ] {
            if random.u8(0..100) < percent {
                given.push((name, values[random.usize(..values.len())].to_string()));
            }
        }
        Self {
            method,
            path,
            given,
            host,
        }
    }

    pub fn headers(&self) -> Vec<(&str, &[u8])> {
        let given = self
            .given
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        [("host", self.host.as_bytes())]
            .into_iter()
            .chain(given)
            .collect()
    }

    pub fn is_grpc(&self) -> bool {
        let kind = self.given.iter().find(|(name, _)| *name == "content-type");
        kind.is_some_and(|(_, kind)| {
            kind == "application/grpc" || kind.starts_with("application/grpc+")
        })
    }

    /// The question to `explain` about it.
    pub fn question(&self, caller: &Caller, at: &str) -> String {
        let mut query = format!(
            "/api/v1/explain?method={}&path={}&at={}",
            self.method,
            encoded(&self.path),
            encoded(at)
        );
        if let Some(zone) = caller.zone {
            query += &format!("&zone={zone}");
        }
        let mut lines: Vec<String> = self
            .given
            .iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        if caller.is_gateway {
            query += &format!("&gateway={}", caller.name);
            lines.push(format!("host:{}", self.host));
        } else {
            let service = self.host.split(':').next().unwrap_or_default();
            query += &format!("&service={}", service.to_ascii_lowercase());
        }
        query + &format!("&header={}", encoded(&lines.join("\n")))
    }
}

/// `%`, `&` and the like as a query holds them.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
