//! What every target checks: rubbish is a typed error, and what is taken names no path but
//! those of a data directory, and is what was announced.

#![allow(dead_code)] // Each target uses its part.

use std::collections::BTreeSet;
use std::io;

use pinion_backup::{Archive, FileEntry, Manifest, Place, Sink, read};

/// What a manifest promises whoever takes it.
fn keeps_to_it(manifest: &Manifest) {
    assert!(manifest.store().is_some() && manifest.cluster().is_some());
    let mut paths = BTreeSet::new();
    for file in &manifest.files {
        assert!(Place::of(&file.path).is_some(), "{:?}", file.path);
        assert!(!file.path.starts_with('/') && !file.path.contains(".."));
        assert!(paths.insert(&file.path), "{:?} twice", file.path);
    }
    // Its length is a number, however much it announces.
    let archive = Archive::new(manifest.clone());
    assert!(archive.bytes() > manifest.bytes());
}

pub fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::decode(data) else {
        return;
    };
    keeps_to_it(&manifest);
    let again = Manifest::decode(&manifest.encode());
    assert_eq!(again.ok().as_ref(), Some(&manifest), "what is written is read");
}

/// Takes files and counts what it is given.
#[derive(Default)]
struct Counted {
    announced: Vec<FileEntry>,
    got: Vec<u64>,
    ended: usize,
}

impl Sink for Counted {
    fn begin(&mut self, manifest: &Manifest) -> io::Result<()> {
        keeps_to_it(manifest);
        self.announced.clone_from(&manifest.files);
        Ok(())
    }
    fn file(&mut self, file: &FileEntry) -> io::Result<()> {
        assert_eq!(self.ended, self.got.len(), "one after the other");
        assert_eq!(*file, self.announced[self.got.len()]);
        self.got.push(0);
        Ok(())
    }
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let got = self.got.last_mut().expect("a file began");
        *got += bytes.len() as u64;
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        assert_eq!(self.got[self.ended], self.announced[self.ended].bytes);
        self.ended += 1;
        Ok(())
    }
}

pub fn archive(data: &[u8]) {
    let mut counted = Counted::default();
    let Ok(manifest) = read(data, &mut counted) else {
        return;
    };
    assert_eq!(counted.ended, manifest.files.len(), "all of it was handed on");
    assert_eq!(counted.got.iter().sum::<u64>(), manifest.bytes());
}
