//! What a person says of a service until a time, whatever the calendar and its rules say. Every proxy knows when
//! it ends, so it ends in all of them at that instant, with nobody there.

use crate::time::WallTime;

/// What a person says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// What.
    pub kind: OverrideKind,
    /// The first instant at which it is over.
    pub until: WallTime,
}

/// What an override does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverrideKind {
    /// Stable serves everybody: no limit, no shedding, no canary, no breaker.
    Bypass,
    /// Limits, shedding and breakers decide and count, and refuse nothing.
    Observe,
    /// It is a peak hour, unless it is one or a festival already.
    Peak,
    /// It is a normal hour.
    Normal,
}

impl OverrideKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Bypass, Self::Observe, Self::Peak, Self::Normal];

    /// `bypass`, `observe`, `peak` or `normal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Observe => "observe",
            Self::Peak => "peak",
            Self::Normal => "normal",
        }
    }

    /// What it does, in words.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Bypass => "lets everything through to stable",
            Self::Observe => "lets limits, shedding and breakers observe only",
            Self::Peak => "makes it a peak hour",
            Self::Normal => "makes it a normal hour",
        }
    }
}

impl Override {
    /// Whether it acts at an instant.
    pub fn acts(&self, wall: WallTime) -> bool {
        wall < self.until
    }
}
