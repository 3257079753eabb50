//! File systems of a test's own, gone with the value: one that is small, and one whose power can be cut.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// Runs a program; the error is what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{name}: {said}")) }
}

/// Takes a file system away, also while something still uses it. Its loop device goes with it.
fn unmount(folder: &Path) {
    let _ = run(Command::new("umount").arg("--lazy").arg(folder));
}

/// A file system in memory.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Fails where mounting is not permitted.
    pub fn mount(options: &str) -> Result<SmallDisk, String> {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()))?;
        Ok(SmallDisk(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.path());
    }
}

/// An ext4 file system in a file. Cutting its power means: from that moment on nothing more reaches the file,
/// neither data nor journal, and what only the kernel's memory had is gone. What was written and not synced may
/// have reached the file or not, as on a real disk; but the file itself forgets nothing and keeps its order, so a
/// missing flush of the drive's own cache is not seen.
pub struct PowerDisk {
    folder: TempDir,
    mounted: bool,
}

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, on the file system of the given folder.
const CUT: &str = r#"open(my $f, "<", $ARGV[0]) or die "$!\n"; my $how = pack("L", 2);
    ioctl($f, 0x8004587D, $how) or die "$!\n";"#;

impl PowerDisk {
    /// Makes a disk and cuts it once. Fails where something for it is missing: root, loop devices, ext4 or perl.
    pub fn new(mib: u32) -> Result<PowerDisk, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = PowerDisk { folder, mounted: false };
        let image = std::fs::File::create(disk.image()).unwrap();
        image.set_len(u64::from(mib) << 20).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()))?;
        disk.mount()?;
        disk.cut()?;
        disk.remount();
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn mount(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(self.image()).arg(self.path()))?;
        self.mounted = true;
        Ok(())
    }

    /// Cuts the power.
    pub fn cut(&self) -> Result<(), String> {
        run(Command::new("perl").args(["-e", CUT]).arg(self.path()))
    }

    /// Makes everything durable that was written so far.
    pub fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(self.path())).unwrap();
    }

    /// Turns the power on again: the file system recovers from its journal. No process may use it.
    pub fn remount(&mut self) {
        let mut left = 500;
        while let Err(why) = run(Command::new("umount").arg(self.path())) {
            assert!(left > 0, "{why}");
            left -= 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        self.mounted = false;
        self.mount().unwrap();
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        if self.mounted {
            unmount(&self.path());
        }
    }
}
