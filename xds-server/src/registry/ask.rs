//! Who asks for what, on which condition, and what a revision says of it.

use policy::time::WallTime;

use super::{Done, InstanceId, Refused, Wish};
use crate::store::About;

/// How somebody believes that an instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Believed {
    /// Anyhow, as long as there is one.
    Any,
    /// As one of these tags says.
    OneOf(Vec<String>),
}

/// A wish, and whose it is.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What.
    pub wish: Wish,
    /// Who, where that is known.
    pub by: Option<String>,
    /// Only while the instance stands so.
    pub believed: Option<Believed>,
}

impl Ask {
    /// Of nobody in particular.
    pub fn of(wish: Wish) -> Self {
        Self {
            wish,
            by: None,
            believed: None,
        }
    }
}

impl Wish {
    /// The instance that it is about.
    pub(super) fn id(&self) -> Option<InstanceId> {
        match self {
            Self::Register(registration) => Some(InstanceId {
                service: registration.service.clone(),
                id: registration.endpoint.id.clone(),
            }),
            Self::Drain(id) | Self::Deregister(id) => Some(id.clone()),
            Self::Release { .. } => None,
        }
    }

    /// In a few words, for the history.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Register(registration) => {
                format!(
                    "register {}/{}",
                    registration.service, registration.endpoint.id
                )
            }
            Self::Drain(id) => format!("drain {id}"),
            Self::Deregister(id) => format!("deregister {id}"),
            Self::Release { service, id: None } => format!("release {service}"),
            Self::Release {
                service,
                id: Some(id),
            } => format!("release {service}/{id}"),
        }
    }
}

/// Who made a revision, and what they did: all of them where several go together. What leases did by themselves
/// nobody made.
pub(super) fn made(asks: &[Ask], decided: &[Result<Done, Refused>], now: WallTime) -> About {
    const NAMED_MAX: usize = 5;
    let all = asks.iter().zip(decided);
    let made = all.filter(|(_, done)| done.as_ref().is_ok_and(|done| !done.changed.is_empty()));
    let made: Vec<&Ask> = made.map(|(ask, _)| ask).collect();
    let mut authors: Vec<&str> = made.iter().filter_map(|ask| ask.by.as_deref()).collect();
    authors.sort_unstable();
    authors.dedup();
    let named = |words: Vec<String>, count: usize| match count.saturating_sub(words.len()) {
        0 => words.join(", "),
        more => format!("{}, and {more} more", words.join(", ")),
    };
    let who = authors.iter().take(NAMED_MAX).map(|who| (*who).to_string());
    let author = (!authors.is_empty()).then(|| named(who.collect(), authors.len()));
    let what = made.iter().take(NAMED_MAX).map(|ask| ask.wish.words());
    let message = match made.len() {
        0 => "leases".to_string(),
        count => named(what.collect(), count),
    };
    About::of_api(now).by(author).because(Some(message))
}
