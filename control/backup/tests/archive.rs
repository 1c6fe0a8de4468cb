//! What is written is read again, and whatever is done to an archive is noticed.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::io;

use pinion_backup::{
    Archive, ArchiveError, Discard, FileEntry, Manifest, Sink, WriteError, read, write,
};

/// A file of so many bytes, another for each path.
fn content(path: &str, bytes: u64) -> Vec<u8> {
    let seed = path.len() as u64;
    (0..bytes).map(|at| (at * 31 + seed * 7) as u8).collect()
}

fn archive() -> (Archive, Vec<u8>) {
    let mut manifest = Manifest::example();
    manifest.files[3].bytes = 700;
    let archive = Archive::new(manifest);
    let mut bytes = Vec::new();
    let sizes: BTreeMap<String, u64> = archive
        .manifest()
        .files
        .iter()
        .map(|file| (file.path.clone(), file.bytes))
        .collect();
    // A file may have grown behind what belongs to the backup.
    let open = |path: &str| Ok(io::Cursor::new(content(path, sizes[path] + 100)));
    write(&archive, &mut bytes, open).unwrap();
    (archive, bytes)
}

#[derive(Default)]
struct Kept {
    files: Vec<(String, Vec<u8>)>,
    ended: usize,
    begun: bool,
}

impl Sink for Kept {
    fn begin(&mut self, _: &Manifest) -> io::Result<()> {
        self.begun = true;
        Ok(())
    }
    fn file(&mut self, file: &FileEntry) -> io::Result<()> {
        self.files.push((file.path.clone(), Vec::new()));
        Ok(())
    }
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.files.last_mut().unwrap().1.extend_from_slice(bytes);
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        self.ended += 1;
        Ok(())
    }
}

#[test]
fn what_is_written_is_read_and_its_length_is_known_before() {
    let (archive, bytes) = archive();
    assert_eq!(bytes.len() as u64, archive.bytes());
    let mut kept = Kept::default();
    let manifest = read(&bytes[..], &mut kept).unwrap();
    assert_eq!(&manifest, archive.manifest());
    assert_eq!(kept.ended, 4);
    for (file, (path, is)) in manifest.files.iter().zip(&kept.files) {
        assert_eq!((&file.path, is), (path, &content(path, file.bytes)));
    }
}

#[test]
fn an_archive_that_ends_anywhere_before_its_end_is_refused() {
    let (archive, bytes) = archive();
    // What follows the checksums is zeros that say nothing.
    let said = archive.bytes() as usize - 1024 - 512;
    for len in (0..said).step_by(61) {
        let error = read(&bytes[..len], &mut Discard).unwrap_err();
        let cut = matches!(error, ArchiveError::Truncated { .. });
        assert!(cut, "{len} of {}: {error:?}", bytes.len());
    }
}

#[test]
fn every_flipped_byte_of_what_an_archive_says_is_noticed() {
    let (_, bytes) = archive();
    let mut unnoticed = Vec::new();
    for at in (0..bytes.len()).step_by(3) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        if read(&bad[..], &mut Discard).is_ok() {
            unnoticed.push(at);
        }
    }
    // Padding behind what entries say, and behind the last one, says nothing; and the
    // leading digit of a header's checksum may be a space.
    let harmless = |at: usize| bytes[at] == 0 || at % 512 == 148;
    let harm = unnoticed.iter().find(|at| !harmless(**at));
    assert_eq!(harm, None);
    assert!(unnoticed.len() < 1_400, "{}", unnoticed.len());
}

#[test]
fn other_files_are_told_from_a_backup() {
    for foreign in [&b"#!/bin/sh\n"[..], &[0xff; 2048], &[b'x'; 511]] {
        let error = read(foreign, &mut Discard).unwrap_err();
        let told = matches!(
            error,
            ArchiveError::Foreign { .. } | ArchiveError::Truncated { .. }
        );
        assert!(told, "{error:?}");
    }
    assert!(matches!(
        read(&[0; 4096][..], &mut Discard),
        Err(ArchiveError::Truncated { .. })
    ));
    let error = read(&tar_of(&[("notes.txt", b"hello")])[..], &mut Discard).unwrap_err();
    assert!(error.to_string().contains("no backup of Pinion"), "{error}");
}

/// A tar of anything, with right checksums of its headers.
fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Not by its own function, which refuses what is wanted here.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_tar_that_says_other_than_its_manifest_reaches_no_path() {
    let manifest = Manifest::example();
    let encoded = manifest.encode();
    let right = content(&manifest.files[0].path, manifest.files[0].bytes);
    for path in [
        "../../etc/cron.d/x",
        "/etc/passwd",
        "log-0000/../x",
        "log-0000/00000000000000000002.segment",
        "./log-0000/00000000000000000001.segment",
    ] {
        let tar = tar_of(&[("pinion-backup.json", &encoded), (path, &right)]);
        let mut kept = Kept::default();
        let error = read(&tar[..], &mut kept).unwrap_err();
        assert!(matches!(error, ArchiveError::Entry { .. }), "{error:?}");
        assert!(kept.begun && kept.files.is_empty(), "nothing was handed on");
    }
    // The same path, and another length, type, or entry that changes the next one's name.
    let path = manifest.files[0].path.as_str();
    let tar = tar_of(&[("pinion-backup.json", &encoded), (path, b"short")]);
    assert!(matches!(
        read(&tar[..], &mut Discard),
        Err(ArchiveError::Entry { .. })
    ));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_path("pinion-backup.json").unwrap();
    header.set_size(encoded.len() as u64);
    header.set_cksum();
    builder.append(&header, &encoded[..]).unwrap();
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::GNULongName,
        tar::EntryType::XHeader,
    ] {
        let mut bytes = builder.get_ref().clone();
        let mut header = tar::Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_size(right.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&right);
        let error = read(&bytes[..], &mut Discard).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Entry { .. }),
            "{kind:?}: {error:?}"
        );
    }
}

#[test]
fn lengths_that_nobody_has_are_refused_before_anything_is_allocated() {
    let header = |name: &str, size: &[u8; 12]| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.as_gnu_mut().unwrap().size = *size;
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    // The largest that octal digits say, and the largest that the binary form does.
    let binary = *b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff";
    for size in [
        b"77777777777\0",
        &binary,
        b"-1234567890\0",
        b"zzzzzzzzzzz\0",
    ] {
        let mut bytes = header("pinion-backup.json", size);
        bytes.extend_from_slice(&[b'x'; 4_096]);
        let mut kept = Kept::default();
        let error = read(&bytes[..], &mut kept).unwrap_err();
        assert!(
            matches!(
                error,
                ArchiveError::Foreign { .. } | ArchiveError::Entry { .. }
            ),
            "{size:?}: {error:?}"
        );
        assert!(!kept.begun, "{size:?}");
        // Behind a manifest, in place of a file that it names.
        let encoded = Manifest::example().encode();
        let mut bytes = tar_of(&[("pinion-backup.json", &encoded)]);
        bytes.truncate(bytes.len() - 1_024);
        bytes.extend(header(&Manifest::example().files[0].path, size));
        bytes.extend_from_slice(&[b'x'; 4_096]);
        let mut kept = Kept::default();
        let error = read(&bytes[..], &mut kept).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Entry { .. }),
            "{size:?}: {error:?}"
        );
        assert!(kept.files.is_empty(), "{size:?}");
    }
}

#[test]
fn a_file_that_is_gone_or_shorter_ends_the_backup_with_its_name() {
    let (archive, _) = archive();
    let second = archive.manifest().files[1].path.clone();
    let gone = |path: &str| {
        if path == second {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(io::Cursor::new(content(path, 9_000)))
    };
    let error = write(&archive, &mut Vec::new(), gone).unwrap_err();
    assert!(
        matches!(&error, WriteError::File { path, .. } if *path == second),
        "{error:?}"
    );
    let short = |path: &str| Ok(io::Cursor::new(content(path, 5_000)));
    let error = write(&archive, &mut Vec::new(), short).unwrap_err();
    assert!(matches!(error, WriteError::Short { .. }), "{error:?}");
    let full = write(&archive, &mut [0; 2_000][..], |path: &str| {
        Ok(io::Cursor::new(content(path, 9_000)))
    });
    assert!(matches!(full, Err(WriteError::Out(_))), "{full:?}");
}

#[test]
fn a_sink_that_fails_ends_the_reading() {
    struct Full;
    impl Sink for Full {
        fn begin(&mut self, _: &Manifest) -> io::Result<()> {
            Ok(())
        }
        fn file(&mut self, _: &FileEntry) -> io::Result<()> {
            Ok(())
        }
        fn bytes(&mut self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn end(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (_, bytes) = archive();
    let error = read(&bytes[..], &mut Full).unwrap_err();
    assert!(matches!(error, ArchiveError::Sink(_)), "{error:?}");
}
