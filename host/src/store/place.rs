//! Which file a store is, however it is spelled: lock, mark and socket stand beside that one.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::StoreError;

/// Links that are followed to a file that is not there yet, as many as the operating system follows.
const LINKS_MAX: usize = 40;

/// Returns the one path of a store that is there or may come: absolute, without links, whatever the name begins with.
pub fn locate(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => {
                let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
                return match fs::canonicalize(folder) {
                    Ok(folder) => Ok(folder.join(name)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(&path),
                    Err(error) => Err(error),
                };
            }
        }
    }
    Err(io::ErrorKind::InvalidFilename.into())
}

/// Makes the folder of a store, for its owner alone.
pub fn make_folder(store: &Path) -> io::Result<()> {
    let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), |folder| fs::DirBuilder::new().recursive(true).mode(0o700).create(folder))
}

/// Checks that a file is reached by one name only. What belongs to it stands beside it: beside another name of the same
/// file it would not be found.
///
/// # Errors
/// `OtherName`.
pub fn check_name(file: &Path, name: &str) -> Result<(), StoreError> {
    let other = |why: String| Err(StoreError::OtherName { path: name.to_owned(), why });
    match fs::metadata(file) {
        Ok(found) if found.is_file() && found.nlink() > 1 => {
            other(format!("it has {} names (hard links): keep one, or copy it", found.nlink()))
        }
        Ok(found) if found.is_file() && is_mounted(file) => {
            other("it is mounted as a single file: mount its folder".to_owned())
        }
        _ => Ok(()),
    }
}

/// Returns whether something is mounted at a path.
fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    path.to_str().is_some_and(|path| points.into_iter().any(|point| unescape(point) == path))
}

/// Blanks and a few others stand in that list as three octal digits after a backslash.
fn unescape(point: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.into_iter().fold(point.to_owned(), |point, (code, character)| point.replace(code, character))
}
