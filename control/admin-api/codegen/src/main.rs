//! Makes `src/grpc/generated.rs` and `src/grpc/descriptor.bin` from `proto/`.
//!
//! Run by hand, from this folder, when the proto has changed: `cargo run`. No `protoc` is
//! needed. The first line of what is generated names the SHA-256 of the proto; a test of
//! the crate compares it.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::path::Path;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

const PROTO: &str = "pinion/admin/v1/admin.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (protos, grpc) = (room.join("proto"), room.join("src/grpc"));
    let descriptors = protox::compile([PROTO], [&protos])?;
    fs::create_dir_all(&grpc)?;
    fs::write(grpc.join("descriptor.bin"), descriptors.encode_to_vec())?;

    let folder = std::env::temp_dir().join(format!("pinion-codegen-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(&folder)
        .compile_fds(descriptors)?;
    let code = fs::read_to_string(folder.join("pinion.admin.v1.rs"))?;
    fs::remove_dir_all(&folder)?;

    let digest = Sha256::digest(fs::read(protos.join(PROTO))?);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(
        grpc.join("generated.rs"),
        format!("// {PROTO} {digest}\n{code}"),
    )?;
    Ok(())
}
