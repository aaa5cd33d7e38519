//! Dying on purpose, for tests.
//!
//! `PLIMSOLL_TEST_CRASH_AT=<point>:<before|after>` aborts the process at that point. A point is a
//! phase (`renamed`: before or after it is written), an action (`stop-old`: before or after its
//! effect; its intent is written by then), or a step of a removal (`jobs::removal`). Without the
//! variable nothing happens.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The environment variable.
pub const CRASH_AT: &str = "PLIMSOLL_TEST_CRASH_AT";

/// On which side of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The process, without unwinding or destructors: as if the machine had lost power.
    Abort,
    /// The job only: its task panics, and its lease runs out.
    Panic,
}

/// One place to die at, once.
#[derive(Clone, Debug)]
pub struct CrashPoint {
    point: String,
    side: Side,
    manner: Manner,
    spent: Arc<AtomicBool>,
}

impl CrashPoint {
    pub fn new(point: &str, side: Side, manner: Manner) -> Self {
        Self {
            point: point.to_owned(),
            side,
            manner,
            spent: Arc::default(),
        }
    }

    /// From the environment; `None` unless a test set it.
    pub fn from_env() -> Option<Self> {
        std::env::var(CRASH_AT).ok()?.parse().ok()
    }

    /// Whether somebody has died here.
    pub fn is_spent(&self) -> bool {
        self.spent.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, point: &str, side: Side) {
        if self.point != point || self.side != side || self.spent.swap(true, Ordering::SeqCst) {
            return;
        }
        match self.manner {
            Manner::Abort => std::process::abort(),
            Manner::Panic => panic!("the test asked for a crash {side:?} {point}"),
        }
    }
}

impl FromStr for CrashPoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (point, side) = text.rsplit_once(':').ok_or(())?;
        let side = match side {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return Err(()),
        };
        Ok(Self::new(point, side, Manner::Abort))
    }
}
