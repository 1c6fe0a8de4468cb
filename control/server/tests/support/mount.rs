//! A small file system of its own, in a mount namespace of its own: nothing of
//! it is left when the test is over.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)] // shared by several test programs

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A mounted file system. A process that sleeps keeps its namespace.
pub struct Mount {
    holder: Child,
    dir: PathBuf,
    is_root: bool,
    /// The block device, for what is on one.
    pub device: Option<String>,
}

impl Mount {
    /// `mib` MiB of memory at `dir`.
    ///
    /// # Errors
    /// What this machine does not allow.
    pub fn tmpfs(dir: &Path, mib: u32) -> Result<Self, String> {
        let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\"");
        Self::new(dir, &mount)
    }

    /// An ext4 file system of `mib` MiB at `dir`, on a block device of its own
    /// whose blocks are in `image`. Takes root.
    ///
    /// # Errors
    /// What this machine does not allow.
    pub fn ext4(dir: &Path, image: &Path, mib: u32) -> Result<Self, String> {
        let file = std::fs::File::create(image).unwrap();
        file.set_len(u64::from(mib) << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(image).output();
        match made {
            Ok(made) if made.status.success() => {}
            other => return Err(format!("mkfs.ext4: {other:?}")),
        }
        let mount = format!(
            "mount -o loop '{}' \"$0\" && findmnt -n -o SOURCE \"$0\"",
            image.display()
        );
        Self::new(dir, &mount)
    }

    /// What is at `from`, read-only at `dir`.
    ///
    /// # Errors
    /// What this machine does not allow.
    pub fn read_only(dir: &Path, from: &Path) -> Result<Self, String> {
        let mount = format!(
            "mount --bind '{}' \"$0\" && mount -o remount,ro,bind \"$0\"",
            from.display()
        );
        Self::new(dir, &mount)
    }

    fn new(dir: &Path, mount: &str) -> Result<Self, String> {
        std::fs::create_dir_all(dir).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        let script = format!("{{ {mount}; }} 2>&1 && echo ready && exec sleep 3600");
        let mut holder = Command::new("unshare")
            .arg(if is_root { "-m" } else { "-rm" })
            .args(["sh", "-c", &script])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut said = String::new();
        let mut device = None;
        for line in BufReader::new(holder.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "ready" {
                return Ok(Self {
                    holder,
                    dir: dir.to_owned(),
                    is_root,
                    device,
                });
            }
            device = line.strip_prefix("/dev/").map(str::to_owned);
            said.push_str(&line);
        }
        let _ = holder.wait();
        Err(format!("no mount in a namespace of our own: {said}"))
    }

    /// Where it is, in its namespace.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its files, as this process finds them.
    pub fn seen(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.dir.strip_prefix("/").unwrap())
    }

    /// Runs `script` where it is mounted, its place as `$0`. Gives what it said.
    ///
    /// # Panics
    /// When it fails.
    pub fn shell(&self, script: &str) -> String {
        let words = self.enter();
        let done = Command::new(&words[0])
            .args(&words[1..])
            .args(["sh", "-c", script])
            .arg(&self.dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{script}: {said}{errors}");
        said
    }

    /// Put before a command that is to find them at their place.
    pub fn enter(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        let words: &[&str] = if self.is_root {
            &["nsenter", "-t", &pid, "-m"]
        } else {
            &["nsenter", "-t", &pid, "-U", "-m", "--preserve-credentials"]
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
