//! What a disk may hold when power fails.
//!
//! The model gives no more than POSIX and SQLite's own assumptions about disks do:
//!
//! - A file's bytes and length are certain once a sync of that file returned, and only as far as
//!   they were written before that sync was asked for. Data-only syncs count too: `fdatasync` may
//!   leave out times, not lengths.
//! - A name is certain once its *directory* was synced. A file synced under a name that is not may
//!   be gone. A deleted name whose directory was not synced may be back, with the bytes its file
//!   had for certain.
//! - What is not certain may be there or not, in units of [`SECTOR`] bytes, in any order. A file
//!   may have grown before the bytes it grew by arrived: they are zeros, or left from something
//!   else. Bytes beside a write are never touched.
//! - A sync that failed makes nothing certain, and neither does a later one for the same writes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::dice::Dice;
use crate::log::{Entry, FileId, Log, LogPosition};

/// Bytes that reach a disk together or not at all.
pub const SECTOR: usize = 512;

/// What the disk holds of that which is not certain. A number is a seed: with another one, other
/// things are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Policy {
    /// Nothing.
    DropAll,
    /// Everything.
    KeepAll,
    /// Of each file its first so many writes, the next one torn; of the names the first so many
    /// changes. Each file's number is its own.
    KeepPrefix(u64),
    /// Each sector of each write, each truncation and each name for itself.
    Subset(u64),
}

impl Policy {
    /// Every policy, those with a seed once for each of `seeds`.
    pub fn all(seeds: Range<u64>) -> Vec<Policy> {
        let seeded = seeds.flat_map(|seed| [Policy::KeepPrefix(seed), Policy::Subset(seed)]);
        [Policy::DropAll, Policy::KeepAll].into_iter().chain(seeded).collect()
    }
}

/// The files of a directory as a disk may hold them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    files: BTreeMap<Arc<Path>, Vec<u8>>,
}

impl Image {
    /// The names and bytes of the files.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|(name, bytes)| (&**name, bytes.as_slice()))
    }

    /// Writes the files into `dir`, which is created if it is missing. Files that are there already
    /// are an error, not replaced: give it an empty directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn materialise(&self, dir: impl AsRef<Path>) -> io::Result<()> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir)?;
        for (name, bytes) in &self.files {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            File::create_new(path)?.write_all(bytes)?;
        }
        Ok(())
    }
}

/// A disk on its way through a log: what is certain, and what has been asked of it since.
pub(crate) struct Disk<'log> {
    log: &'log Log,
    at: usize,
    files: BTreeMap<FileId, Contents>,
    names: BTreeMap<Arc<Path>, FileId>,
    name_changes: Vec<NameChange>,
    settlements: u64,
}

#[derive(Default)]
struct Contents {
    certain: Vec<u8>,
    /// What came after `certain`, in order. Begins with something that is not certain.
    later: Vec<Change>,
}

/// A write or truncation: the log's entry with this number.
struct Change {
    entry: usize,
    state: ChangeState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChangeState {
    /// The next sync of the file makes it certain.
    Unsynced,
    /// A sync of it failed.
    Doubtful,
    /// It is certain, and waits behind something doubtful.
    Synced,
}

struct NameChange {
    entry: usize,
    name: Arc<Path>,
    file: Option<FileId>,
}

/// One choice of what an image holds. Two plans that are equal, made when equally much was certain,
/// give equal images.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    settlements: u64,
    names: BTreeMap<Arc<Path>, FileId>,
    /// By the number of the entry; those that are not here leave nothing.
    fates: BTreeMap<usize, Fate>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Fate {
    Kept,
    Torn(Vec<SectorFate>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum SectorFate {
    Kept,
    Lost,
    /// Lost, but the file has grown, by zeros.
    Zeros,
    /// Lost, but the file has grown, by whatever lay there.
    Stale,
}

impl<'log> Disk<'log> {
    pub(crate) fn new(log: &'log Log) -> Disk<'log> {
        let mut disk = Disk {
            log,
            at: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            name_changes: Vec::new(),
            settlements: 0,
        };
        for known in &*log.baseline {
            disk.names.insert(Arc::clone(&known.name), known.file);
            let contents = Contents { certain: known.bytes.to_vec(), later: Vec::new() };
            disk.files.insert(known.file, contents);
        }
        disk
    }

    /// Lets happen what the log holds up to `position`. Never goes back.
    pub(crate) fn advance_to(&mut self, position: LogPosition) {
        let log = self.log;
        let to = position.entries().min(log.entries.len());
        for entry in self.at..to {
            self.happen(entry, &log.entries[entry]);
        }
        self.at = self.at.max(to);
    }

    fn happen(&mut self, number: usize, entry: &Entry) {
        match entry {
            Entry::Created { file, name } => {
                self.files.insert(*file, Contents::default());
                let name = Arc::clone(name);
                self.name_changes.push(NameChange { entry: number, name, file: Some(*file) });
            }
            Entry::Deleted { name } => {
                let name = Arc::clone(name);
                self.name_changes.push(NameChange { entry: number, name, file: None });
            }
            Entry::Write { file, .. } | Entry::Truncate { file, .. } => {
                let change = Change { entry: number, state: ChangeState::Unsynced };
                self.files.entry(*file).or_default().later.push(change);
            }
            Entry::Sync { file, covers, .. } => {
                let contents = self.files.entry(*file).or_default();
                if contents.settle(*covers, ChangeState::Synced) {
                    contents.fold(&self.log.entries);
                    self.settlements += 1;
                }
            }
            Entry::SyncFailed { file, covers } => {
                self.files.entry(*file).or_default().settle(*covers, ChangeState::Doubtful);
            }
            Entry::DirectorySync { directory, covers } => self.settle_names(directory, *covers),
            Entry::Mark { .. } => {}
        }
    }

    fn settle_names(&mut self, directory: &Path, covers: LogPosition) {
        let covered = |change: &mut NameChange| {
            change.entry < covers.entries() && change.name.parent() == Some(directory)
        };
        for change in self.name_changes.extract_if(.., covered) {
            apply_name(&mut self.names, &change);
            self.settlements += 1;
        }
    }

    /// What the disk holds if power fails now.
    pub(crate) fn image(&self, policy: Policy) -> Image {
        self.build(&self.plan(policy))
    }

    /// The choice `policy` makes now.
    pub(crate) fn plan(&self, policy: Policy) -> Plan {
        let names = self.plan_names(policy);
        let mut fates = BTreeMap::new();
        for file in names.values() {
            if let Some(contents) = self.files.get(file) {
                self.plan_changes(*file, contents, policy, &mut fates);
            }
        }
        Plan { settlements: self.settlements, names, fates }
    }

    /// Each position has dice of its own, so that a seed does not lose the same sector all along.
    fn dice(&self, seed: u64) -> Dice {
        Dice::new(seed).about(self.at as u64)
    }

    fn plan_names(&self, policy: Policy) -> BTreeMap<Arc<Path>, FileId> {
        let mut names = self.names.clone();
        let changes = &self.name_changes;
        match policy {
            Policy::DropAll => {}
            Policy::KeepAll => changes.iter().for_each(|change| apply_name(&mut names, change)),
            Policy::KeepPrefix(seed) => {
                let kept = self.dice(seed).about(NAMES).below(changes.len() as u64 + 1) as usize;
                changes.iter().take(kept).for_each(|change| apply_name(&mut names, change));
            }
            Policy::Subset(seed) => {
                // Changes of one name cannot overtake each other, those of two names can.
                let mut by_name: BTreeMap<&Path, Vec<&NameChange>> = BTreeMap::new();
                for change in changes {
                    by_name.entry(&change.name).or_default().push(change);
                }
                for (about, changes) in (0..).zip(by_name.values()) {
                    let dice = self.dice(seed).about(NAMES).about(about);
                    let kept = dice.below(changes.len() as u64 + 1) as usize;
                    changes.iter().take(kept).for_each(|change| apply_name(&mut names, change));
                }
            }
        }
        names
    }

    fn plan_changes(
        &self,
        file: FileId,
        contents: &Contents,
        policy: Policy,
        fates: &mut BTreeMap<usize, Fate>,
    ) {
        let uncertain: Vec<usize> = contents.uncertain().collect();
        match policy {
            Policy::DropAll => {}
            Policy::KeepAll => fates.extend(uncertain.iter().map(|&entry| (entry, Fate::Kept))),
            Policy::KeepPrefix(seed) => {
                let dice = self.dice(seed).about(u64::from(file.0));
                let kept = dice.below(uncertain.len() as u64 + 1) as usize;
                fates.extend(uncertain.iter().take(kept).map(|&entry| (entry, Fate::Kept)));
                if let Some(&next) = uncertain.get(kept) {
                    let count = self.sectors_of(next);
                    let arrived = dice.about(next as u64).below(count as u64) as usize;
                    let fate = |sector| if sector < arrived { SectorFate::Kept } else { SectorFate::Lost };
                    fates.extend(torn((0..count).map(fate).collect()).map(|fate| (next, fate)));
                }
            }
            Policy::Subset(seed) => {
                // An image that lost half of everything says little about one that lost a little.
                let sixteenths_kept = [2, 8, 14][self.dice(seed).below(3) as usize];
                let fate = |dice: Dice| match dice.below(16) {
                    kept if kept < sixteenths_kept => SectorFate::Kept,
                    _ => match dice.about(1).below(4) {
                        0 => SectorFate::Zeros,
                        1 => SectorFate::Stale,
                        _ => SectorFate::Lost,
                    },
                };
                for entry in uncertain {
                    let dice = self.dice(seed).about(entry as u64);
                    let sectors = (0..self.sectors_of(entry)).map(|sector| fate(dice.about(sector as u64)));
                    fates.extend(torn(sectors.collect()).map(|fate| (entry, fate)));
                }
            }
        }
    }

    /// How many parts of a change can get lost on their own.
    fn sectors_of(&self, entry: usize) -> usize {
        match &self.log.entries[entry] {
            Entry::Write { offset, bytes, .. } => sectors(*offset, bytes.len()).count(),
            _ => 1,
        }
    }

    pub(crate) fn build(&self, plan: &Plan) -> Image {
        let bytes_of = |file: &FileId| {
            let Some(contents) = self.files.get(file) else { return Vec::new() };
            let mut bytes = contents.certain.clone();
            for change in &contents.later {
                let entry = &self.log.entries[change.entry];
                match (change.state, plan.fates.get(&change.entry)) {
                    (ChangeState::Synced, _) | (_, Some(Fate::Kept)) => apply(&mut bytes, entry),
                    (_, Some(Fate::Torn(sectors))) => {
                        apply_torn(&mut bytes, entry, sectors, Dice::new(change.entry as u64));
                    }
                    (_, None) => {}
                }
            }
            bytes
        };
        let files = plan.names.iter().map(|(name, file)| (Arc::clone(name), bytes_of(file))).collect();
        Image { files }
    }
}

/// Tells questions about names from those about files, which are asked by the file's number.
const NAMES: u64 = u64::MAX;

impl Contents {
    /// Changes the state of what no sync covered and was asked for before `covers`; whether there
    /// was such a thing.
    fn settle(&mut self, covers: LogPosition, state: ChangeState) -> bool {
        let mut any = false;
        for change in &mut self.later {
            if change.state == ChangeState::Unsynced && change.entry < covers.entries() {
                change.state = state;
                any = true;
            }
        }
        any
    }

    /// Moves into `certain` what is certain and waits behind nothing.
    fn fold(&mut self, entries: &[Entry]) {
        let first_uncertain = self.later.iter().position(|change| change.state != ChangeState::Synced);
        for change in self.later.drain(..first_uncertain.unwrap_or(self.later.len())) {
            apply(&mut self.certain, &entries[change.entry]);
        }
    }

    fn uncertain(&self) -> impl Iterator<Item = usize> {
        self.later.iter().filter(|change| change.state != ChangeState::Synced).map(|change| change.entry)
    }
}

fn apply_name(names: &mut BTreeMap<Arc<Path>, FileId>, change: &NameChange) {
    match change.file {
        Some(file) => names.insert(Arc::clone(&change.name), file),
        None => names.remove(&change.name),
    };
}

/// The fate of a change whose parts had these; none if nothing came of it.
fn torn(sectors: Vec<SectorFate>) -> Option<Fate> {
    if sectors.iter().all(|fate| *fate == SectorFate::Kept) {
        Some(Fate::Kept)
    } else if sectors.iter().all(|fate| *fate == SectorFate::Lost) {
        None
    } else {
        Some(Fate::Torn(sectors))
    }
}

fn apply(contents: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Write { offset, bytes, .. } => put(contents, index(*offset), bytes),
        Entry::Truncate { size, .. } => contents.resize(index(*size), 0),
        _ => {}
    }
}

fn apply_torn(contents: &mut Vec<u8>, entry: &Entry, fates: &[SectorFate], dice: Dice) {
    let Entry::Write { offset, bytes, .. } = entry else { return };
    for (number, (range, fate)) in (0..).zip(sectors(*offset, bytes.len()).zip(fates)) {
        let start = index(*offset) + range.start;
        let grown_from = contents.len().max(start);
        match fate {
            SectorFate::Kept => put(contents, start, &bytes[range]),
            SectorFate::Lost => {}
            SectorFate::Zeros | SectorFate::Stale => {
                let end = start + range.len();
                contents.resize(contents.len().max(end), 0);
                if *fate == SectorFate::Stale && grown_from < end {
                    dice.about(number).fill(&mut contents[grown_from..end]);
                }
            }
        }
    }
}

fn put(contents: &mut Vec<u8>, start: usize, bytes: &[u8]) {
    let end = start + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[start..end].copy_from_slice(bytes);
}

/// The parts of a write that lie in different sectors, as ranges of its bytes.
fn sectors(offset: u64, len: usize) -> impl Iterator<Item = Range<usize>> {
    let into_first = (offset % SECTOR as u64) as usize;
    let mut start = 0;
    std::iter::from_fn(move || {
        let end = ((start + into_first) / SECTOR * SECTOR + SECTOR - into_first).min(len);
        let range = start..end;
        start = end;
        (!range.is_empty()).then_some(range)
    })
}

/// A place in a file as one in memory: all files of a log are held in memory whole.
fn index(offset: u64) -> usize {
    offset as usize
}

#[cfg(test)]
mod tests;
