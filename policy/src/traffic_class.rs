//! Traffic classes: who a request is for the business, what of it is shed when, how it is refused.

use std::borrow::Cow;

use crate::{
    bytes::same,
    canary,
    limit::Limit,
    timetable::{Timetable, Traffic},
    units::{BasisPoints, ClassName, DisplayName, HeaderName},
};

/// Pseudo headers of HTTP/2, as Envoy shows them for HTTP/1.1 as well.
pub const PATH: &str = ":path";
/// The method.
pub const METHOD: &str = ":method";
/// What a body is.
pub const CONTENT_TYPE: &str = "content-type";
const GRPC: &[u8] = b"application/grpc";

/// Where a request's headers are found. Lower-case names; values are bytes, since no peer is bound to
/// send UTF-8.
pub trait Headers {
    /// The value of a header.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>>;

    /// The value of `:path`, which nearly every request is asked for.
    fn path(&self) -> Option<Cow<'_, [u8]>> {
        self.get(PATH)
    }

    /// The value of `:method`.
    fn method(&self) -> Option<Cow<'_, [u8]>> {
        self.get(METHOD)
    }
}

/// One class of the ordered list: the first that matches a request is its class.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficClass {
    /// Its name; unique in the list.
    pub name: ClassName,
    /// A request is of this class when one of these matches. None: only services name it.
    pub matches: Vec<RequestMatch>,
    /// Requests per second that are let through.
    pub limit: Option<Limit>,
    /// What is shed when.
    pub shed: Option<Shed>,
    /// What its refusals say.
    pub refusal: Option<RefusalBody>,
}

/// Conditions on a request; all must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestMatch {
    /// Its path.
    pub path: Option<PathMatch>,
    /// Its method, as it is written.
    pub method: Option<Box<str>>,
    /// Headers with exactly these values.
    pub headers: Vec<(HeaderName, Box<str>)>,
    /// The gRPC service it calls, such as `upi.v1.Payments`.
    pub grpc_service: Option<Box<str>>,
}

/// A condition on a path; its query string is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Whole segments: `/upi` holds for `/upi` and `/upi/pay`, not for `/upi-old`.
    Prefix(Box<str>),
    /// The whole path.
    Exact(Box<str>),
}

impl PathMatch {
    /// Whether the path, without its query, is of this kind. No rule holds a `?` or `#`, so only what
    /// follows its text is looked at.
    pub fn matches(&self, path: &[u8]) -> bool {
        let (Self::Prefix(text) | Self::Exact(text)) = self;
        let rest = path
            .split_at_checked(text.len())
            .filter(|(start, _)| same(start, text.as_bytes()));
        let Some((_, rest)) = rest else {
            return false;
        };
        match rest.first() {
            None | Some(b'?' | b'#') => true,
            Some(b'/') => matches!(self, Self::Prefix(_)),
            Some(_) => matches!(self, Self::Prefix(prefix) if &**prefix == "/"),
        }
    }
}

impl RequestMatch {
    /// Whether all conditions hold.
    pub fn matches(&self, headers: &dyn Headers) -> bool {
        let is = |found: Option<Cow<'_, [u8]>>, value: &str| {
            found.is_some_and(|found| same(&found, value.as_bytes()))
        };
        let path = |rule: &PathMatch| headers.path().is_some_and(|path| rule.matches(&path));
        let grpc = |service: &str| {
            let path = headers.path();
            let called = path
                .as_deref()
                .and_then(|path| path.strip_prefix(b"/")?.strip_prefix(service.as_bytes()))
                .is_some_and(|rest| rest.starts_with(b"/"));
            let kind = headers.get(CONTENT_TYPE);
            called && kind.is_some_and(|kind| is_grpc(&kind))
        };
        self.path.as_ref().is_none_or(path)
            && self
                .method
                .as_deref()
                .is_none_or(|method| is(headers.method(), method))
            && self
                .headers
                .iter()
                .all(|(name, value)| is(headers.get(name.as_str()), value))
            && self.grpc_service.as_deref().is_none_or(grpc)
    }
}

/// As Envoy sees it: `application/grpc`, `application/grpc+proto`, and not `application/grpc-web`.
fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(GRPC);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

impl TrafficClass {
    /// Whether a request is of this class, should none before it in the list be.
    pub fn matches(&self, headers: &dyn Headers) -> bool {
        self.matches.iter().any(|one| one.matches(headers))
    }
}

/// Percentages of a class that are refused at certain times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shed {
    /// When, and how much; where several hold, the highest does.
    pub during: Vec<(ShedWhen, BasisPoints)>,
    /// The header whose value keeps a user on one side; without one each request is drawn anew.
    pub sticky_by: Option<HeaderName>,
    /// Decide and count, refuse nothing.
    pub observe: bool,
}

/// A time of the timetable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShedWhen {
    /// No window and no festival.
    Normal,
    /// Any window, on a festival too.
    Peak,
    /// Any festival.
    Festival,
    /// The window or festival of this name.
    Named(DisplayName),
}

impl ShedWhen {
    fn holds(&self, timetable: &Timetable, traffic: &Traffic) -> bool {
        match self {
            Self::Normal => !traffic.is_peak && traffic.festival.is_none(),
            Self::Peak => traffic.is_peak,
            Self::Festival => traffic.festival.is_some(),
            Self::Named(name) => {
                let window = traffic
                    .window
                    .and_then(|index| timetable.windows().get(index));
                let festival = traffic
                    .festival
                    .and_then(|index| timetable.festivals().get(index));
                window.is_some_and(|window| window.name() == name)
                    || festival.is_some_and(|festival| festival.name == *name)
            }
        }
    }
}

/// Whether one request is shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShedDraw {
    /// The share that is shed now.
    pub percent: BasisPoints,
    /// The request's place, `0..10_000`.
    pub bucket: u16,
    /// Whether it is below the share.
    pub shed: bool,
    /// Whether it had a key; else dice decided.
    pub sticky: bool,
}

impl Shed {
    /// Names of windows and festivals that the timetable does not hold: they would never shed.
    pub fn unknown_names<'s>(
        &'s self,
        timetable: &'s Timetable,
    ) -> impl Iterator<Item = &'s DisplayName> {
        let names = self.during.iter().filter_map(|(when, _)| match when {
            ShedWhen::Named(name) => Some(name),
            _ => None,
        });
        names.filter(|name| {
            let mut windows = timetable.windows().iter();
            let mut festivals = timetable.festivals().iter();
            !windows.any(|window| window.name() == *name)
                && !festivals.any(|festival| festival.name == **name)
        })
    }

    /// The share that is shed now.
    pub fn percent(&self, timetable: &Timetable, traffic: &Traffic) -> BasisPoints {
        let holding = self
            .during
            .iter()
            .filter(|(when, _)| when.holds(timetable, traffic));
        let percents = holding.map(|(_, percent)| *percent);
        percents.max().unwrap_or(BasisPoints::ZERO)
    }

    /// Draws for one request; none while nothing is shed.
    pub fn draw(
        &self,
        class: &ClassName,
        percent: BasisPoints,
        headers: &dyn Headers,
        random: impl FnOnce() -> u64,
    ) -> Option<ShedDraw> {
        if percent == BasisPoints::ZERO {
            return None;
        }
        let key = self.sticky_by.as_ref();
        let key = key.and_then(|header| headers.get(header.as_str()));
        let key = key.filter(|key| !key.is_empty());
        let sticky = key.is_some();
        let bucket = match key {
            Some(key) => canary::bucket("shed", class.as_str(), &key),
            None => canary::bucket_of(random()),
        };
        Some(ShedDraw {
            percent,
            bucket,
            shed: bucket < percent.get(),
            sticky,
        })
    }
}

/// What a refused client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalBody {
    /// Its `content-type`.
    pub content_type: Box<str>,
    /// The body.
    pub body: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request(&'static [(&'static str, &'static str)]);

    impl Headers for Request {
        fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
            let (_, value) = self.0.iter().find(|(known, _)| *known == name)?;
            Some(Cow::Borrowed(value.as_bytes()))
        }
    }

    fn prefix(path: &str) -> RequestMatch {
        RequestMatch {
            path: Some(PathMatch::Prefix(path.into())),
            ..RequestMatch::default()
        }
    }

    #[test]
    fn a_prefix_holds_for_whole_segments_without_the_query() {
        let upi = prefix("/upi");
        for (path, expected) in [
            ("/upi", true),
            ("/upi/pay?x=/y", true),
            ("/upi?x", true),
            ("/upi-old", false),
            ("/", false),
            ("*", false),
        ] {
            let path: &'static [(&str, &str)] = Box::leak(Box::new([(PATH, path)]));
            assert_eq!(upi.matches(&Request(path)), expected, "{path:?}");
        }
        assert!(prefix("/").matches(&Request(&[(PATH, "/anything")])));
        assert!(
            !prefix("/").matches(&Request(&[])),
            "a request without a path"
        );
    }

    #[test]
    fn all_conditions_of_a_match_must_hold() {
        let check_status = RequestMatch {
            path: Some(PathMatch::Exact("/upi/check".into())),
            method: Some("POST".into()),
            headers: vec![(HeaderName::new("x-initiated-by").unwrap(), "system".into())],
            grpc_service: None,
        };
        let whole = [
            (PATH, "/upi/check"),
            (METHOD, "POST"),
            ("x-initiated-by", "system"),
        ];
        assert!(check_status.matches(&Request(Box::leak(Box::new(whole)))));
        for left_out in 0..whole.len() {
            let mut part = whole.to_vec();
            part.remove(left_out);
            assert!(!check_status.matches(&Request(part.leak())), "{left_out}");
        }
    }

    #[test]
    fn a_grpc_service_is_matched_by_its_path_and_type() {
        let payments = RequestMatch {
            grpc_service: Some("upi.v1.Payments".into()),
            ..RequestMatch::default()
        };
        let grpc = ("content-type", "application/grpc+proto");
        let call = [(PATH, "/upi.v1.Payments/Pay"), grpc];
        assert!(payments.matches(&Request(Box::leak(Box::new(call)))));
        let other = [(PATH, "/upi.v1.PaymentsOld/Pay"), grpc];
        assert!(!payments.matches(&Request(Box::leak(Box::new(other)))));
        let web = [
            (PATH, "/upi.v1.Payments/Pay"),
            ("content-type", "application/grpc-web"),
        ];
        assert!(!payments.matches(&Request(Box::leak(Box::new(web)))));
        let plain = [(PATH, "/upi.v1.Payments/Pay")];
        assert!(!payments.matches(&Request(Box::leak(Box::new(plain)))));
    }

    #[test]
    fn shedding_is_sticky_by_the_specified_hash() {
        let shed = Shed {
            during: Vec::new(),
            sticky_by: Some(HeaderName::new("x-user-id").unwrap()),
            observe: false,
        };
        let bronze = ClassName::new("bronze").unwrap();
        let user = Request(&[("x-user-id", "user-42")]);
        for (percent, expected) in [(1583, false), (1584, true)] {
            let percent = BasisPoints::new(percent).unwrap();
            let draw = shed.draw(&bronze, percent, &user, || 0).unwrap();
            assert_eq!(
                (draw.bucket, draw.sticky, draw.shed),
                (1583, true, expected)
            );
        }
        let nobody = Request(&[("x-user-id", "")]);
        let half = BasisPoints::new(5_000).unwrap();
        let draw = shed.draw(&bronze, half, &nobody, || 4_999).unwrap();
        assert_eq!((draw.sticky, draw.shed), (false, true));
        assert_eq!(shed.draw(&bronze, BasisPoints::ZERO, &user, || 0), None);
    }
}
