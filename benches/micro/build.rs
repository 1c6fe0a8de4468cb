//! Tells the instruction counter which compiler built it: a count is compared
//! only with one that the same compiler made.

#![forbid(unsafe_code)]

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").expect("cargo says which compiler it uses");
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("cargo's compiler can be started");
    let version = String::from_utf8_lossy(&output.stdout);
    println!("cargo:rustc-env=MICRO_RUSTC={}", version.trim());
}
