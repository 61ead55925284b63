//! The pools and what was made of them, for the task that writes and for all that read.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use availability::{Timestamp, Wanted};
use hardware_api::Availability;
use tokio::time::Instant;

use super::{Directory, Pools, RowMatches, View};
use crate::store::{HardwareRow, QualityRow};

/// Numbers of units for which a view is kept, besides 1.
const KEPT_VIEWS: usize = 8;

/// For how long a view is kept after it was last asked for.
const KEPT_FOR: Duration = Duration::from_mins(1);

/// One that was asked for within this time is not given up for another number.
const IN_USE_FOR: Duration = Duration::from_secs(10);

/// Views of other numbers than 1 that are younger are not made anew.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// Held by whoever writes or reads.
#[derive(Clone, Default)]
pub struct SharedPools(pub(super) Arc<Shared>);

#[derive(Default)]
pub(super) struct Shared {
    pools: RwLock<Pools>,
    pub(super) matches: Mutex<RowMatches>,
    /// Of the latest tick; none before the first.
    views: ArcSwapOption<Views>,
    /// Which numbers were asked for, and when last.
    asked: Mutex<Vec<(Wanted, Instant)>>,
    quality: ArcSwap<Vec<QualityRow>>,
}

/// The views of one tick.
#[derive(Clone)]
struct Views {
    as_of: Timestamp,
    directory: Arc<Directory>,
    /// The first one is for one unit.
    all: Vec<Arc<View>>,
}

impl Views {
    fn find(&self, wanted: Wanted) -> Option<Arc<View>> {
        self.all.iter().find(|view| view.wanted == wanted).cloned()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedPools {
    /// The pools, for reading while the guard is held, which is never across an `await`.
    pub fn read(&self) -> RwLockReadGuard<'_, Pools> {
        self.0.pools.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pools, for writing while the guard is held.
    pub fn write(&self) -> RwLockWriteGuard<'_, Pools> {
        self.0.pools.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the views of `now` anew, and returns the levels of the rows of the list. Takes a tenth of a
    /// second for 300 000 pools and one number of units. Only the task that writes calls it: a reading guard
    /// is held while the directory is sorted, and a writer that queued behind it would hold up all readers.
    #[must_use]
    pub fn tick(&self, rows: &[HardwareRow], now: Timestamp) -> Vec<Availability> {
        let arranged = {
            let pools = self.read();
            pools.is_outdated.then(|| Arc::new(Directory::new(&pools)))
        };
        if let Some(directory) = arranged {
            let mut pools = self.write();
            (pools.directory, pools.is_outdated) = (directory, false);
        }
        let directory = Arc::clone(&self.read().directory);
        let before = self.0.views.load_full();
        // Ticks may follow each other in a tenth of a second, when sources report.
        let still_good = |wanted| {
            let view = before.as_ref()?.find(wanted)?;
            (now.since(view.as_of) < LEAST_AGE).then_some(view)
        };
        let make =
            |wanted| Arc::new(View::new(|| self.read(), Arc::clone(&directory), wanted, now));
        let mut all = vec![make(Wanted::ONE)];
        let asked = self.asked_for().into_iter();
        all.extend(asked.map(|wanted| still_good(wanted).unwrap_or_else(|| make(wanted))));
        let mut matches = lock(&self.0.matches);
        if !matches.is_of(&directory, rows) {
            *matches = RowMatches::new(&self.read(), &directory, rows);
        }
        let levels = matches.levels(&all[0]);
        self.0.views.store(Some(Arc::new(Views { as_of: now, directory, all })));
        levels
    }

    /// The numbers besides 1 for which views are kept.
    fn asked_for(&self) -> Vec<Wanted> {
        let mut asked = lock(&self.0.asked);
        asked.retain(|(_, at)| at.elapsed() < KEPT_FOR);
        asked.iter().map(|(wanted, _)| *wanted).collect()
    }

    fn note_asked(&self, wanted: Wanted) {
        if wanted == Wanted::ONE {
            return;
        }
        let mut asked = lock(&self.0.asked);
        if let Some((_, at)) = asked.iter_mut().find(|(known, _)| *known == wanted) {
            *at = Instant::now();
            return;
        }
        if asked.len() == KEPT_VIEWS {
            let oldest = asked.iter().enumerate().min_by_key(|(_, (_, at))| *at);
            match oldest {
                Some((oldest, (_, at))) if at.elapsed() > IN_USE_FOR => {
                    asked.swap_remove(oldest);
                }
                _ => return,
            }
        }
        asked.push((wanted, Instant::now()));
    }

    /// The time that answers are of: that of the latest tick; none before the first.
    #[must_use]
    pub fn as_of(&self) -> Option<Timestamp> {
        self.0.views.load().as_ref().map(|views| views.as_of)
    }

    /// The view of the latest tick for a number of units, if it was made.
    #[must_use]
    pub fn view(&self, wanted: Wanted) -> Option<Arc<View>> {
        let view = self.0.views.load().as_ref()?.find(wanted)?;
        self.note_asked(wanted);
        Some(view)
    }

    /// The same, and makes it if need be, which takes as long as a tick; none before the first tick.
    #[must_use]
    pub fn make_view(&self, wanted: Wanted) -> Option<Arc<View>> {
        let views = self.0.views.load_full()?;
        if let Some(view) = views.find(wanted) {
            return Some(view);
        }
        let directory = Arc::clone(&views.directory);
        let view = Arc::new(View::new(|| self.read(), directory, wanted, views.as_of));
        self.note_asked(wanted);
        let mut with_it = Views::clone(&views);
        if with_it.all.len() > KEPT_VIEWS {
            with_it.all.remove(1);
        }
        with_it.all.push(Arc::clone(&view));
        // Another tick has made its own meanwhile, or makes it at its next.
        self.0.views.compare_and_swap(&Some(views), Some(Arc::new(with_it)));
        Some(view)
    }

    /// Takes in what labels were worth.
    pub fn set_quality(&self, days: Vec<QualityRow>) {
        self.0.quality.store(Arc::new(days));
    }

    /// What labels were worth, by day.
    #[must_use]
    pub fn quality(&self) -> Arc<Vec<QualityRow>> {
        self.0.quality.load_full()
    }
}
