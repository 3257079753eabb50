//! The power is cut: what the kernel had in memory is gone.

use charm_conformance::{Random, seed, times};
use charm_host::{Archive, FolderStore};

use super::{
    disk::PowerDisk,
    place::{self, Place},
    skipped,
    syncs::Shim,
    victim::{Moments, Victim},
};

/// Cuts of the short form.
const CUTS: u64 = 100;
/// Cuts on one file system, and those after which the whole log is replayed.
const CUTS_PER_DISK: u64 = 25;
const CUTS_PER_CHECK: u64 = 5;
/// Cuts in which a host that does not sync must lose something.
const CONTROL_CUTS: u64 = 20;
/// Size of a disk.
const MIB: u32 = 512;

/// Cuts the power under a host and turns it on again. Returns what the host had said before the cut: it is held
/// still then, so that its last word is followed by no further write that would cover it up.
fn cut(disk: &mut PowerDisk, victim: Victim) -> String {
    victim.freeze();
    let said = victim.said();
    disk.cut().unwrap();
    victim.kill();
    disk.remount();
    said
}

/// The store is on a file system that loses its power at random moments: while the host makes its store, recovers,
/// works and shuts down. What was not acknowledged is sent again. (S2, S3, S6, S9, T5, T8, I3)
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_acknowledged_and_doubles_nothing() {
    let (cuts, mut events, mut acknowledged) = (times(CUTS), 0, 0);
    let mut moments = Moments::new(seed());
    for first in (0..cuts).step_by(CUTS_PER_DISK as usize) {
        let mut disk = match PowerDisk::new(MIB) {
            Ok(disk) => disk,
            Err(why) => return skipped(&format!("power cuts need root, loop devices, ext4 and perl: {why}")),
        };
        let mut place = Place::new(&disk.path());
        for round in first..cuts.min(first + CUTS_PER_DISK) {
            let mut victim = Victim::start(&place);
            moments.pass(&mut victim);
            let said = cut(&mut disk, victim);
            moments.note(&said);
            place.crashed(&said);
            if round % CUTS_PER_CHECK == 0 {
                place.check();
            }
        }
        events += place.finish().await;
        acknowledged += place.acknowledged.len();
    }
    eprintln!("{}", moments.report("power cuts", cuts));
    eprintln!("{events} events, {acknowledged} acknowledged before a cut, 0 lost, 0 doubled");
}

/// The control of the test above: the same host on the same disk, with syncs that say yes and do nothing. If
/// nothing were lost now, nothing could be seen there. (T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_syncs_do_nothing_loses_what_it_acknowledged_in_a_power_cut() {
    let mut disk = match PowerDisk::new(MIB) {
        Ok(disk) => disk,
        Err(why) => return skipped(&format!("power cuts need root, loop devices, ext4 and perl: {why}")),
    };
    let shim = match Shim::build() {
        Ok(shim) => shim,
        Err(why) => return skipped(&why),
    };
    let mut random = Random::new(seed());
    let mut place = Place::new(&disk.path());
    // The store is well made, and all of it is on the disk.
    let said = Victim::spawn(&place, "work", &[0, 20], &[]).ended();
    assert_eq!(place.crashed(&said), 20);
    disk.sync();
    let (mut cuts, mut lost) = (0, 0);
    while lost == 0 && cuts < CONTROL_CUTS {
        cuts += 1;
        let mut victim = Victim::spawn(&place, "work", &[place.first()], &shim.says_yes());
        victim.wait_for("ack");
        std::thread::sleep(std::time::Duration::from_micros(random.below(150_000)));
        let acks = place::acks(&cut(&mut disk, victim));
        let store = FolderStore::open_read_only(place.store()).and_then(Archive::open);
        lost = acks.values().filter(|id| store.as_ref().map_or(true, |store| !place::is_kept(store, id))).count();
        place.acknowledged.extend(acks);
    }
    eprintln!("without syncs {lost} acknowledged events are lost in cut {cuts}");
    assert!(lost > 0, "no loss in {cuts} cuts: this disk does not forget, so the test of power cuts proves nothing");
}
